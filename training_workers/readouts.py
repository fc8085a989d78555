"""How a base model's last hidden states answer a task: where they are read, and the logits of what can be said.

Everything that trains or scores goes through one of the two, and so need not know which kind of base model it
has. Neither holds a number that is trained or shipped.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import torch
from torch import Tensor
from torch.nn import functional

from training_workers.data import Batch
from training_workers.products import logits_of

# A public number, the same for all: 20 is what all-MiniLM-L6-v2 and its kin were trained with. Measured on 300 rows of
# BBC news for validation: 10 leads to the same accuracy and a third more loss, 50 to 2 to 4 points less accuracy.
COSINE_SCALE = 20.0


class Readout(Protocol):
    """What a task can be answered with, the readout's *vocabulary*, and how likely each part of it is."""

    @property
    def label_answers(self) -> Sequence[tuple[int, ...]]:
        """Each label's answer in this vocabulary, the first tokens all different; empty for completions."""

    def target_states(self, hidden: Tensor, batch: Batch) -> Tensor:
        """[n_rows, n_columns, hidden] of the batch's own columns -> [n_targets, hidden]."""

    def logits(self, states: Tensor) -> Tensor:
        """[n_targets, hidden] -> [n_targets, vocabulary] in float32."""

    def with_weights(self, weights: Mapping[str, Tensor]) -> "Readout":
        """The same for a model of these weights, by their names in transformers' file."""


@dataclass(frozen=True)
class TokenReadout:
    """A causal model's: its tokenizer's vocabulary, by the output layer's weight in float32.

    Logits of two label words often lie closer together than bfloat16 can tell.
    """

    output_weight: Tensor
    output_name: str
    logit_cap: float | None
    label_answers: Sequence[tuple[int, ...]]

    def target_states(self, hidden: Tensor, batch: Batch) -> Tensor:
        """The states after which a token is predicted; never over all positions of a batch."""
        return hidden[batch.target_rows, batch.target_columns]

    def logits(self, states: Tensor) -> Tensor:
        """The output layer's, capped where the family caps them."""
        logits = logits_of(states, self.output_weight)
        if self.logit_cap is None:
            return logits
        return torch.tanh(logits / self.logit_cap) * self.logit_cap

    def with_weights(self, weights: Mapping[str, Tensor]) -> "TokenReadout":
        """With the output layer's among them."""
        return replace(self, output_weight=weights[self.output_name])


@dataclass(frozen=True)
class LabelReadout:
    """An encoder's: the labels, by the cosine of a text's embedding to each label's word's, times COSINE_SCALE.

    `label_embeddings`, [n_labels, hidden], are of unit length.
    """

    label_embeddings: Tensor

    @property
    def label_answers(self) -> Sequence[tuple[int, ...]]:
        """A label's place is its answer."""
        return [(label,) for label in range(len(self.label_embeddings))]

    def target_states(self, hidden: Tensor, batch: Batch) -> Tensor:
        """Each text's embedding, in float32."""
        return text_embeddings(hidden, batch.attention_mask)[batch.target_rows]

    def logits(self, states: Tensor) -> Tensor:
        """Scaled cosines."""
        return COSINE_SCALE * functional.linear(functional.normalize(states, dim=-1), self.label_embeddings)

    def with_weights(self, weights: Mapping[str, Tensor]) -> "LabelReadout":  # noqa: ARG002 (the other needs them)
        """As it is: labels stay where the bare base model has them."""
        return self


def text_embeddings(hidden: Tensor, mask: Tensor) -> Tensor:
    """The mean state of each row's real tokens, special ones among them: [n_rows, hidden] in float32."""
    weights = mask.unsqueeze(-1).float()
    return (hidden.float() * weights).sum(dim=1) / weights.sum(dim=1)
