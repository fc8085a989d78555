"""Feed-forward layers without padding: the same numbers, and nothing but real positions in them."""

from pathlib import Path

import pytest
import torch
from torch import Tensor

from federation.specification import parse_specification
from tests.training_workers.conftest import CPU_FLOAT32, METHODS, SPECIFICATION
from tests.training_workers.tiny_model import CAUSAL, make_tiny_base
from training_workers import padding
from training_workers.data import Batch, TokenExample, make_batch
from training_workers.loading import TaskModel, load_base_model
from training_workers.methods import get_method

WITHOUT_SUCH_LAYERS = ("opt",)


def batch_of(*lengths: int) -> Batch:
    """Rows of so many inputs."""
    rows = [TokenExample(tuple(range(20, 20 + length)), (7,)) for length in lengths]
    return make_batch(rows, device=torch.device("cpu"))


def outcome(base: TaskModel, method_name: str, batch: Batch) -> tuple[Tensor, list[Tensor]]:
    """Logits at the targets, and the gradients of what is trained."""
    method = get_method(parse_specification({**SPECIFICATION, "method": METHODS[method_name]}).method)
    state = {
        name: tensor.requires_grad_(method.trained(name))
        for name, tensor in method.start(base, seed=0).items()
    }
    logits = method.logits(base, state, batch)
    logits.square().sum().backward()  # type: ignore[no-untyped-call]
    return logits.detach(), [tensor.grad for tensor in state.values() if tensor.grad is not None]


@pytest.mark.parametrize("method_name", METHODS)
@pytest.mark.parametrize("architecture", CAUSAL)
def test_what_is_real_is_as_with_padding_in_every_family(
    architecture: str, method_name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    task = parse_specification(SPECIFICATION).task
    directory = make_tiny_base(tmp_path / "base", architecture=architecture)
    base, batch = load_base_model(directory, CPU_FLOAT32).for_task(task), batch_of(3, 11, 7)
    logits, gradients = outcome(base, method_name, batch)
    assert any(padding._feed_forward_layers(base.model)) is (architecture not in WITHOUT_SUCH_LAYERS)
    monkeypatch.setattr(padding, "_feed_forward_layers", lambda _: iter(()))
    padded_logits, padded_gradients = outcome(base, method_name, batch)
    torch.testing.assert_close(logits, padded_logits, rtol=1e-5, atol=1e-5)
    assert gradients
    torch.testing.assert_close(gradients, padded_gradients, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("lengths", [(3, 11, 7), (5, 5)])
def test_no_padding_goes_through_a_feed_forward_layer(tiny_base: TaskModel, lengths: tuple[int, ...]) -> None:
    seen: list[int] = []
    layers = list(padding._feed_forward_layers(tiny_base.model))
    hooks = [
        layer.register_forward_hook(lambda _, __, output: seen.append(output[..., 0].numel()))
        for layer in layers
    ]
    tiny_base.hidden_states(batch_of(*lengths))
    for hook in hooks:
        hook.remove()
    assert seen == [sum(lengths)] * tiny_base.facts.n_layers
    assert not any(layer._forward_hooks or layer._forward_pre_hooks for layer in layers), "none stays behind"
