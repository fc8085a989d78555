"""Customization methods, one file each: what a tenant trains while the base model stays frozen."""

from collections.abc import Mapping
from typing import Any, Protocol

from torch import Tensor

from training_workers.data import Batch
from training_workers.errors import MethodUnknown
from training_workers.loading import BaseModel
from training_workers.methods.prefix import PrefixMethod

State = Mapping[str, Tensor]


class Method(Protocol):
    """What is trained, as named float32 tensors (the *state*), and how it changes the forward pass."""

    @property
    def n_positions(self) -> int:
        """Positions of the base model's context that the method takes for itself."""

    def start(self, base: BaseModel, *, seed: int) -> dict[str, Tensor]:
        """The state that a federation starts from; the same for the same arguments."""

    def check(self, base: BaseModel, state: State) -> None:
        """Refuses a state that does not fit.

        Raises:
            StateIncompatible: a tensor's name, shape, dtype or a number in it is wrong.
        """

    def target_states(self, base: BaseModel, state: State, batch: Batch) -> Tensor:
        """Last hidden states at the targets, [n_targets, hidden]; gradients reach the state."""

    def adapter_config(self, base: BaseModel) -> dict[str, Any]:
        """`adapter_config.json` with which plain PEFT loads a state as `adapter_model.safetensors`."""


METHODS = {"prefix": PrefixMethod.from_settings}


def get_method(name: str, settings: Mapping[str, Any]) -> Method:
    """The method of this name with these settings.

    Raises:
        MethodUnknown: no such method.
        SpecificationInvalid: a setting that the method cannot use.
    """
    if name not in METHODS:
        raise MethodUnknown(method=name, known=list(METHODS))
    return METHODS[name](settings)
