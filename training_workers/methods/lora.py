"""LoRA: a low-rank change of linear modules (Hu et al. 2021, arXiv 2106.09685).

The state holds for each module, in float32 and under PEFT's names, `lora_A` [rank, n_inputs] and `lora_B` [n_outputs,
rank]; the module's output gains (alpha / rank) B A x. A is drawn, B begins at zero: version 0 is the bare base model.

With `freeze_a` (FFA-LoRA, Sun et al. 2024, arXiv 2403.12313) only B is trained and sent. Without it both factors are
averaged apart, whose product is not the average of the products: the error is the tenants' covariance of B and A.
"""

import math
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers.pytorch_utils import Conv1D

from federation.methods import LoraSettings
from training_workers.base_models import ARCHITECTURES
from training_workers.data import Batch
from training_workers.errors import SpecificationInvalid
from training_workers.loading import BaseModel, TaskModel
from training_workers.states import check_like


@dataclass(frozen=True)
class LoraMethod:
    """Pairs of factors for the base's linear modules of certain names."""

    settings: LoraSettings

    @property
    def n_positions(self) -> int:
        """It takes nothing of the context."""
        return 0

    def start(self, base: BaseModel, *, seed: int) -> dict[str, Tensor]:
        """A uniform on plus or minus 1 / sqrt(n_inputs), as PEFT draws it, from the seed alone; B zero."""
        generator = torch.Generator().manual_seed(seed)
        state = {}
        for name, shape in self._shapes(base).items():
            bound = 1 / math.sqrt(shape[1])
            drawn = name.endswith(".lora_A.weight")
            state[name] = (
                torch.empty(shape).uniform_(-bound, bound, generator=generator)
                if drawn
                else torch.zeros(shape)
            )
        return state

    def check(self, base: BaseModel, state: Mapping[str, Tensor]) -> None:
        """Refuses a state that has not both factors of each module."""
        check_like(self._shapes(base), state)

    def trained(self, name: str) -> bool:
        """B, and A unless it is frozen."""
        return self.settings.sends(name)

    def logits(self, base: TaskModel, state: Mapping[str, Tensor], batch: Batch) -> Tensor:
        """The changed model's logits, [n_targets, vocabulary]."""
        with self._changed(base, state):
            return base.logits(base.target_states(batch))

    @contextmanager
    def _changed(self, base: BaseModel, state: Mapping[str, Tensor]) -> Iterator[None]:
        """The base's modules with their factors' product, which gradients pass; its weights stay as they are."""
        dtype = base.model.dtype
        with ExitStack() as hooks:
            for name, module in self._modules(base).items():
                a, b = (state[tensor].to(dtype) for tensor in _tensor_names(name))
                hooks.enter_context(module.register_forward_hook(_Addition(a, b * self._scale)))
            yield

    @property
    def _scale(self) -> float:
        return self.settings.alpha / self.settings.rank

    def _targets(self, base: BaseModel) -> list[str]:
        return self.settings.target_modules or list(ARCHITECTURES[base.facts.model_type].attention_modules)

    def _modules(self, base: BaseModel) -> dict[str, nn.Module]:
        """The modules to change by their names in the whole model, as PEFT finds them.

        Raises:
            SpecificationInvalid: a name is that of no module, or of one that is not linear or is the output layer.
        """
        found: dict[str, nn.Module] = {}
        named = dict(base.model.named_modules())
        for target in self._targets(base):
            names = [name for name in named if name == target or name.endswith(f".{target}")]
            for name in names:
                if not isinstance(named[name], nn.Linear | Conv1D) or _is_output(base, named[name]):
                    raise _unusable(target, f"{name} is no linear module behind the output layer")
            if not names:
                raise _unusable(target, f"{base.facts.architecture} has no such module")
            found |= {name: named[name] for name in names}
        return {name: found[name] for name in sorted(found)}

    def _shapes(self, base: BaseModel) -> dict[str, tuple[int, ...]]:
        shapes: dict[str, tuple[int, ...]] = {}
        for name, module in self._modules(base).items():
            n_inputs, n_outputs = _sizes(module)
            a, b = _tensor_names(name)
            shapes |= {a: (self.settings.rank, n_inputs), b: (n_outputs, self.settings.rank)}
        return shapes

    def configuration(self, base: BaseModel) -> dict[str, Any]:
        """PEFT's LoraConfig, to be loaded for use; it names no path of the machine that made it."""
        is_transposed = any(isinstance(module, Conv1D) for module in self._modules(base).values())
        return {
            "base_model_name_or_path": None,
            "bias": "none",
            "fan_in_fan_out": is_transposed,
            "inference_mode": True,
            "lora_alpha": self.settings.alpha,
            "lora_dropout": 0.0,
            "peft_type": "LORA",
            "r": self.settings.rank,
            "revision": None,
            "target_modules": sorted(self._targets(base)),
            "task_type": base.facts.peft_task,
        }


@dataclass(frozen=True)
class _Addition:
    """A forward hook that adds `b` `a` x to a module's output; `a` [rank, n_inputs], `b` [n_outputs, rank]."""

    a: Tensor
    b: Tensor

    def __call__(self, _module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
        return output + functional.linear(functional.linear(inputs[0], self.a), self.b)


def _tensor_names(module_name: str) -> tuple[str, str]:
    """PEFT's names of a module's A and B."""
    stem = f"base_model.model.{module_name}"
    return f"{stem}.lora_A.weight", f"{stem}.lora_B.weight"


def _sizes(module: nn.Module) -> tuple[int, int]:
    """Numbers that go in and come out; GPT-2's Conv1D is a linear module whose weight lies transposed."""
    if isinstance(module, Conv1D):
        return module.nx, module.nf
    assert isinstance(module, nn.Linear)
    return module.in_features, module.out_features


def _is_output(base: BaseModel, module: nn.Module) -> bool:
    return module is base.model.get_output_embeddings()


def _unusable(target: str, reason: str) -> SpecificationInvalid:
    return SpecificationInvalid(field="method.target_modules", reason=f"{target!r}: {reason}")
