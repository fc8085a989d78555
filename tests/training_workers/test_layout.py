"""A batch as one long row: nothing but real positions in it, and the same numbers in every family and method."""

from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from federation.specification import parse_specification
from tests.training_workers.conftest import CPU_BFLOAT16, CPU_FLOAT32, METHODS, SPECIFICATION
from tests.training_workers.tiny_model import CONFIGURATIONS, ENCODERS, make_tiny_base
from training_workers.data import Batch, TokenExample, make_batch
from training_workers.layout import Layout
from training_workers.loading import TaskModel, load_base_model
from training_workers.methods import get_method
from training_workers.runtime import Runtime


def batch_of(*lengths: int, answer: int = 7) -> Batch:
    """Rows of so many inputs."""
    rows = [TokenExample(tuple(range(20, 20 + length)), (answer,)) for length in lengths]
    return make_batch(rows, device=torch.device("cpu"))


def outcome(base: TaskModel, method_name: str, batches: Sequence[Batch]) -> tuple[Tensor, list[Tensor]]:
    """Logits at the targets of all batches, and the gradients of what is trained."""
    method = get_method(parse_specification({**SPECIFICATION, "method": METHODS[method_name]}).method)
    state = {
        name: tensor.requires_grad_(method.trained(name))
        for name, tensor in method.start(base, seed=0).items()
    }
    logits = torch.cat([method.logits(base, state, batch) for batch in batches])
    logits.square().sum().backward()  # type: ignore[no-untyped-call]
    return logits.detach(), [tensor.grad for tensor in state.values() if tensor.grad is not None]


@pytest.mark.parametrize("mask", [[[1, 1, 1], [1, 0, 0]], [[0, 1, 1], [1, 1, 0]], [[1, 1], [1, 1]]])
def test_what_is_packed_and_spread_stands_where_it_stood(mask: list[list[int]]) -> None:
    layout, real = Layout.of(torch.tensor(mask)), torch.tensor(mask).bool()
    rows = torch.randn(*real.shape, 4)
    packed = layout.pack(rows)
    assert torch.equal(packed, rows[real])
    spread = layout.spread(packed)
    assert torch.equal(spread[real], rows[real])
    assert not spread[~real].any()


@pytest.mark.parametrize("method_name", METHODS)
@pytest.mark.parametrize("architecture", CONFIGURATIONS)
def test_rows_of_unequal_lengths_are_as_each_alone(
    architecture: str, method_name: str, tmp_path: Path
) -> None:
    task, answer = parse_specification(SPECIFICATION).task, 1 if architecture in ENCODERS else 7
    directory, lengths = make_tiny_base(tmp_path / "base", architecture=architecture), (3, 40, 7)
    base = load_base_model(directory, CPU_FLOAT32).for_task(task)
    together = outcome(base, method_name, [batch_of(*lengths, answer=answer)])
    alone = outcome(base, method_name, [batch_of(length, answer=answer) for length in lengths])
    torch.testing.assert_close(together[0], alone[0], rtol=1e-4, atol=1e-4)
    found, expected = (torch.cat([one.flatten() for one in gradients]) for _, gradients in (together, alone))
    assert float((found - expected).norm()) < 1e-5 * float(expected.norm())


@pytest.mark.parametrize("runtime", [CPU_FLOAT32, CPU_BFLOAT16], ids=["float32", "bfloat16"])
def test_nothing_becomes_nan_where_padding_is_out_of_sight_of_all_that_is_real(
    runtime: Runtime, tmp_path: Path
) -> None:
    task = parse_specification(SPECIFICATION).task
    # The windows of its layers are 32 positions long, and the first row ends long before the second does.
    directory = make_tiny_base(tmp_path / "base", architecture="gemma3_text")
    base = load_base_model(directory, runtime).for_task(task)
    logits, gradients = outcome(base, "prefix", [batch_of(3, 90)])
    assert gradients
    assert logits.isfinite().all()
    assert all(gradient.isfinite().all() for gradient in gradients)


@pytest.mark.parametrize("lengths", [(3, 11, 7), (5, 5)])
@pytest.mark.parametrize("method_name", METHODS)
def test_no_padding_goes_through_a_linear_layer(
    tiny_base: TaskModel, method_name: str, lengths: tuple[int, ...]
) -> None:
    seen: set[int] = set()
    linear = [module for module in tiny_base.model.base_model.modules() if isinstance(module, nn.Linear)]
    hooks = [
        layer.register_forward_hook(lambda _, __, output: seen.add(output[..., 0].numel()))
        for layer in linear
    ]
    outcome(tiny_base, method_name, [batch_of(*lengths)])
    for hook in hooks:
        hook.remove()
    method = get_method(parse_specification({**SPECIFICATION, "method": METHODS[method_name]}).method)
    n_prompt = method.n_positions if method_name == "prompt" else 0
    # A prefix starts as what the text's own tokens become, in a pass without a batch.
    start = {method.n_positions} if method_name == "prefix" else set()
    assert seen - start == {sum(lengths) + len(lengths) * n_prompt}
