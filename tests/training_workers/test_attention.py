"""Attention within a bfloat16 model on a processor: torch's own in float32, for any number of heads and rows."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional
from transformers import AttentionMaskInterface
from transformers.masking_utils import sdpa_mask

from tests.training_workers.conftest import CPU_BFLOAT16, CPU_FLOAT32
from training_workers import attention, products, short_attention
from training_workers.attention import NAME
from training_workers.layout import Layout
from training_workers.loading import load_base_model
from training_workers.products import by_onednn, logits_of
from training_workers.short_attention import ShortAttention

N_ROWS, N_HEADS, N_QUERIES, N_KEYS, SIZE = 3, 4, 7, 10, 8
ALL = N_ROWS * N_HEADS * N_QUERIES * N_KEYS


def inputs(
    n_kv_heads: int, *, dtype: torch.dtype = torch.float32
) -> tuple[tuple[Tensor, Tensor, Tensor], Tensor]:
    """Query, key and value, to be differentiated, and a causal mask that is added."""
    torch.manual_seed(0)
    shapes = [(N_HEADS, N_QUERIES), (n_kv_heads, N_KEYS), (n_kv_heads, N_KEYS)]
    query, key, value = (
        # As a model's projections give them: the heads' numbers lie side by side.
        torch.randn(N_ROWS, n, heads, SIZE, dtype=dtype).transpose(1, 2).requires_grad_()
        for heads, n in shapes
    )
    visible = torch.ones(N_ROWS, 1, N_QUERIES, N_KEYS, dtype=torch.bool).tril(N_KEYS - N_QUERIES)
    visible[1, :, :, 5:] = False
    return (query, key, value), torch.zeros(visible.shape).masked_fill_(~visible, float("-inf"))


def with_gradients(output: Tensor, leaves: Sequence[Tensor]) -> tuple[Tensor, ...]:
    """Output, and what its squares' sum says of the leaves."""
    return (output.detach(), *torch.autograd.grad(output.float().square().sum(), leaves))


def short(leaves: tuple[Tensor, Tensor, Tensor], mask: Tensor) -> Tensor:
    """What is tried."""
    output: Tensor = ShortAttention.apply(*leaves, mask, 0.3)  # type: ignore[no-untyped-call]
    return output


def torchs(leaves: tuple[Tensor, Tensor, Tensor], mask: Tensor, **options: Any) -> tuple[Tensor, ...]:
    """The oracle, in float64."""
    query, key, value = leaves
    output = functional.scaled_dot_product_attention(
        query.double(),
        key.double(),
        value.double(),
        attn_mask=mask.double(),
        enable_gqa=key.shape[1] != query.shape[1],
        **options,
    )
    return tuple(tensor.to(query.dtype) for tensor in with_gradients(output, leaves))


@pytest.mark.parametrize("n_kv_heads", [1, 2, 4])
@pytest.mark.parametrize(
    ("max_kept", "max_at_once"), [(ALL, ALL), (ALL - 1, ALL), (ALL, ALL - 1), (0, 1), (0, ALL * 2 // N_ROWS)]
)
def test_short_attention_is_torchs_whatever_is_kept_and_done_at_once(
    n_kv_heads: int, max_kept: int, max_at_once: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(short_attention, "MAX_KEPT", max_kept)
    monkeypatch.setattr(short_attention, "MAX_AT_ONCE", max_at_once)
    leaves, mask = inputs(n_kv_heads)
    found = with_gradients(short(leaves, mask), leaves)
    # Where a processor has fast units for bfloat16 the factors are rounded to it.
    torch.testing.assert_close(found, torchs(leaves, mask, scale=0.3), rtol=0.02, atol=0.02)


@pytest.mark.parametrize("max_kept", [0, ALL])
def test_probabilities_are_kept_only_while_they_are_few(
    max_kept: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(short_attention, "MAX_KEPT", max_kept)
    leaves, mask = inputs(2)
    kept: list[Tensor] = []

    def keep(tensor: Tensor) -> Tensor:
        kept.append(tensor)
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        short(leaves, mask)
    assert any(tensor.numel() == ALL for tensor in kept) is (max_kept == ALL)


@pytest.mark.parametrize("max_of_a_row", [0, ALL])
@pytest.mark.parametrize("n_kv_heads", [1, 4])
def test_a_bfloat16_models_attention_is_torchs_in_float32(
    n_kv_heads: int, max_of_a_row: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(short_attention, "MAX_OF_A_ROW", max_of_a_row)
    leaves, mask = inputs(n_kv_heads, dtype=torch.bfloat16)
    found, weights = attention._attention(None, *leaves, mask, scaling=0.3)
    assert (found.dtype, weights) == (torch.bfloat16, None)
    expected = torchs(leaves, mask, scale=0.3)
    torch.testing.assert_close(with_gradients(found.transpose(1, 2), leaves), expected, rtol=0.03, atol=0.03)


def test_a_float32_models_attention_is_torchs_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(attention, "ShortAttention")
    leaves, mask = inputs(2)
    found, _ = attention._attention(None, *leaves, mask, scaling=0.3)
    query, key, value = leaves
    expected = functional.scaled_dot_product_attention(
        query, key, value, attn_mask=mask, scale=0.3, enable_gqa=True
    )
    assert torch.equal(found.transpose(1, 2), expected)


@pytest.mark.parametrize("n_before", [0, 2])
def test_its_mask_is_ready_to_be_added_in_every_layer(n_before: int) -> None:
    real = torch.tensor([[1, 1, 1, 1], [1, 1, 0, 0]], dtype=torch.bool)
    pair = (torch.zeros(1, n_before, 8), torch.zeros(1, n_before, 8))
    make: Any = AttentionMaskInterface()[NAME]  # type: ignore[no-untyped-call]
    with attention.attending(Layout.of(real), [pair] if n_before else []):
        added = make(batch_size=1, q_length=6, kv_length=6)
    visible = sdpa_mask(
        batch_size=2,
        q_length=4,
        kv_length=4 + n_before,
        q_offset=n_before,
        attention_mask=torch.cat([real.new_ones(2, n_before), real], dim=1),
    )
    assert visible is not None
    assert added.dtype == torch.float32
    assert torch.equal(added[0] == 0, visible[0])
    assert torch.equal(added[1, :, :2] == 0, visible[1, :, :2])
    assert torch.equal(added[1, :, :2] == float("-inf"), ~visible[1, :, :2])
    assert not added[1, :, 2:].any(), "what is padding sees something always"


@pytest.mark.parametrize(("device", "dtype"), [("cpu", torch.float32), ("meta", torch.bfloat16)])
def test_its_mask_has_the_dtype_of_the_scores(device: str, dtype: torch.dtype) -> None:
    make: Any = AttentionMaskInterface()[NAME]  # type: ignore[no-untyped-call]
    mask = make(batch_size=1, q_length=3, kv_length=3, device=device, dtype=torch.bfloat16)
    assert (mask.dtype, mask.device.type) == (dtype, device)


def test_what_a_batch_lies_like_is_forgotten_behind_it() -> None:
    with pytest.raises(RuntimeError, match="within"), attention.attending(Layout.of(torch.ones(1, 2))):
        raise RuntimeError("within")
    assert attention._ROWS.get() is None


@pytest.mark.parametrize("runtime", [CPU_BFLOAT16, CPU_FLOAT32])
def test_every_model_attends_here(runtime: Any, tiny_directory: Path) -> None:
    assert load_base_model(tiny_directory, runtime).model.config._attn_implementation == NAME


@pytest.mark.parametrize("is_trained", [True, False])
def test_logits_of_a_bfloat16_models_states_are_in_float32(is_trained: bool) -> None:
    torch.manual_seed(0)
    states = torch.randn(5, 16).bfloat16().requires_grad_()
    weight = torch.randn(40, 16).bfloat16().float().requires_grad_(is_trained)
    leaves = [states, weight] if is_trained else [states]
    logits = logits_of(states, weight)
    assert logits.dtype == torch.float32
    expected = states.double() @ weight.double().T
    torch.testing.assert_close(logits, expected.float(), rtol=1e-5, atol=1e-5)
    expected_gradients = torch.autograd.grad(expected.square().sum(), leaves)
    found = torch.autograd.grad(logits.square().sum(), leaves)
    torch.testing.assert_close(found, expected_gradients, rtol=0.02, atol=0.02)


def test_a_float32_models_logits_are_torchs_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(products, "_Product")
    states, weight = torch.randn(5, 16), torch.randn(40, 16)
    assert torch.equal(logits_of(states, weight), functional.linear(states, weight))


def test_products_are_torchs_again_behind_an_error() -> None:
    chosen: Any = torch.backends.mkldnn.matmul  # type: ignore[attr-defined]
    before = chosen.fp32_precision
    with pytest.raises(RuntimeError, match="within"), by_onednn():
        assert chosen.fp32_precision == "bf16"
        raise RuntimeError("within")
    assert chosen.fp32_precision == before
