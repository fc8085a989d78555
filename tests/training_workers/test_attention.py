"""Attention in float32 within a bfloat16 model: the same attention, for any number of heads, masked or not."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

from tests.training_workers.conftest import CPU_BFLOAT16, CPU_FLOAT32
from training_workers.attention import NAME
from training_workers.loading import load_base_model


class _Layer(nn.Module):
    """What a layer tells the attention function about itself."""

    is_causal = True

    def __init__(self, n_groups: int) -> None:
        super().__init__()
        self.num_key_value_groups = n_groups


@pytest.mark.parametrize("n_kv_heads", [1, 2, 4])
@pytest.mark.parametrize("is_masked", [True, False])
def test_it_is_torchs_attention_in_float32(n_kv_heads: int, is_masked: bool) -> None:
    torch.manual_seed(0)
    n_before = 3 if is_masked else 0
    query = torch.randn(2, 4, 7, 8, dtype=torch.bfloat16, requires_grad=True)
    key, value = (
        torch.randn(2, n_kv_heads, n_before + 7, 8, dtype=torch.bfloat16, requires_grad=True)
        for _ in range(2)
    )
    mask = torch.ones(2, 1, 7, n_before + 7, dtype=torch.bool).tril(n_before) if is_masked else None
    layer, attention = _Layer(4 // n_kv_heads), AttentionInterface()[NAME]  # type: ignore[no-untyped-call]
    expected, _ = sdpa_attention_forward(layer, query.float(), key.float(), value.float(), mask, scaling=0.3)
    found, weights = attention(layer, query, key, value, mask, scaling=0.3)
    assert (found.dtype, weights) == (torch.bfloat16, None)
    torch.testing.assert_close(found, expected.bfloat16())
    leaves = (query, key, value)
    gradients = torch.autograd.grad(found.float().square().sum(), leaves)
    expected_gradients = torch.autograd.grad(expected.square().sum(), leaves)
    torch.testing.assert_close(gradients, expected_gradients, rtol=0.02, atol=0.02)


def test_its_mask_is_ready_to_be_added_in_every_layer() -> None:
    kept = torch.tensor([[1, 1, 1, 1, 1, 1], [1, 1, 1, 1, 0, 0]], dtype=torch.bool)
    sizes: dict[str, Any] = {
        "batch_size": 2,
        "q_length": 4,
        "kv_length": 6,
        "q_offset": 2,
        "attention_mask": kept,
    }
    visible = sdpa_mask(**sizes)
    assert visible is not None
    added = AttentionMaskInterface()[NAME](**sizes)  # type: ignore[no-untyped-call]
    assert added.dtype == torch.float32
    assert torch.equal(added == 0, visible)
    assert torch.equal(added == float("-inf"), ~visible)


def test_a_bfloat16_model_on_a_processor_attends_in_float32(tiny_directory: Path) -> None:
    in_bfloat16 = load_base_model(tiny_directory, CPU_BFLOAT16)
    assert in_bfloat16.model.config._attn_implementation == NAME
    assert load_base_model(tiny_directory, CPU_FLOAT32).model.config._attn_implementation == "sdpa"
