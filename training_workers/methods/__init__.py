"""Customization methods, one file each: what a tenant trains while the base model stays frozen."""

from collections.abc import Callable, Mapping
from typing import Any, Protocol

from torch import Tensor

from federation.methods import MethodSettings, PrefixSettings
from training_workers.data import Batch
from training_workers.loading import BaseModel, TaskModel
from training_workers.methods.full import FullMethod
from training_workers.methods.lora import LoraMethod
from training_workers.methods.prefix import PrefixMethod
from training_workers.methods.prompt import PromptMethod

State = Mapping[str, Tensor]


class Method(Protocol):
    """What is trained, as named float32 tensors (the *state*), and how it changes the forward pass."""

    @property
    def settings(self) -> MethodSettings:
        """What the federation's specification says of it."""

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

    def trained(self, name: str) -> bool:
        """Whether this tensor of the state is trained, and so travels in an update."""

    def logits(self, base: TaskModel, state: State, batch: Batch) -> Tensor:
        """Logits in float32 at the targets, [n_targets, vocabulary]; gradients reach the state."""

    def configuration(self, base: BaseModel) -> dict[str, Any]:
        """`adapter_config.json` with which plain PEFT loads a state as `adapter_model.safetensors`.

        Of a whole model, the `config.json` with which transformers loads it as `model.safetensors`.
        """


METHODS: Mapping[str, Callable[[Any], Method]] = {
    "full": FullMethod,
    "lora": LoraMethod,
    "prefix": PrefixMethod,
    "prompt": PromptMethod,
}


def get_method(settings: MethodSettings, *, freezes_keys: bool = False) -> Method:
    """The method with these settings; `freezes_keys` is asked of prefixes alone, whose values are then trained."""
    if freezes_keys:
        assert isinstance(settings, PrefixSettings)  # the service refuses it of any other
        return PrefixMethod(settings, freezes_keys=True)
    return METHODS[settings.kind](settings)
