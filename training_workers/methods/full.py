"""Full fine-tuning: all of the base model's weights.

The state is the base's weights in float32 under their names in transformers' file, a weight that two layers share only
once. Training changes the state; each forward pass runs the frozen base with a copy in the base's own format.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from torch import Tensor, nn
from torch.func import functional_call

from federation.methods import FullSettings
from training_workers.data import Batch
from training_workers.errors import BaseModelTooLarge
from training_workers.loading import BaseModel, TaskModel
from training_workers.states import check_like

# Five float32 copies (parent, trained, gradient, two of AdamW) beside the base: 6 GB for the largest.
MAX_PARAMETERS = 300_000_000


@dataclass(frozen=True)
class FullMethod:
    """The base model's weights, which start as they are."""

    settings: FullSettings

    @property
    def n_positions(self) -> int:
        """It takes nothing of the context."""
        return 0

    def start(self, base: BaseModel, *, seed: int) -> dict[str, Tensor]:  # noqa: ARG002 (others draw)
        """The base's weights, as exact as they are held.

        Raises:
            BaseModelTooLarge: it has more than MAX_PARAMETERS.
        """
        if base.facts.n_parameters > MAX_PARAMETERS:
            raise BaseModelTooLarge(
                method=self.settings.kind, n_parameters=base.facts.n_parameters, limit=MAX_PARAMETERS
            )
        weights = (base.exact or base).model.named_parameters()
        return {name: weight.detach().float().cpu().clone() for name, weight in weights}

    def check(self, base: BaseModel, state: Mapping[str, Tensor]) -> None:
        """Refuses a state that has not each of the base's weights."""
        weights = base.model.named_parameters()
        check_like({name: tuple(weight.shape) for name, weight in weights}, state)

    def trained(self, name: str) -> bool:
        """Every weight is."""
        return self.settings.sends(name)

    def logits(self, base: TaskModel, state: Mapping[str, Tensor], batch: Batch) -> Tensor:
        """The trained model's logits, [n_targets, vocabulary]; a causal model's output layer is the state's too."""
        weights = {f"model.{name}": tensor.to(base.model.dtype) for name, tensor in state.items()}
        trained = replace(base, readout=base.readout.with_weights(state))
        logits: Tensor = functional_call(_Forward(trained), weights, (batch,))
        return logits

    def configuration(self, base: BaseModel) -> dict[str, Any]:
        """The `config.json` of the base's architecture, with the state's format; it names no path."""
        written: dict[str, Any] = base.model.config.to_diff_dict()
        return {name: value for name, value in written.items() if name != "_name_or_path"} | {
            "dtype": "float32"
        }


class _Forward(nn.Module):
    """The base model's forward pass as a module whose weights `functional_call` can lend others."""

    def __init__(self, base: TaskModel) -> None:
        super().__init__()
        self.model = base.model
        self._base = base

    def forward(self, batch: Batch) -> Tensor:
        return self._base.logits(self._base.target_states(batch))
