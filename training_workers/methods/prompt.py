"""Prompt tuning: trained embeddings before the input's own (Lester et al. 2021, arXiv 2104.08691).

The state is one tensor, `prompt_embeddings`, float32, [n_virtual_tokens, embedding_size], as in PEFT's file.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from federation.methods import PromptSettings
from training_workers.data import Batch
from training_workers.loading import BaseModel, TaskModel
from training_workers.methods.start_text import start_tokens
from training_workers.states import check_like

TENSOR = "prompt_embeddings"


@dataclass(frozen=True)
class PromptMethod:
    """A soft prompt, which starts as the embeddings of a public text."""

    settings: PromptSettings

    @property
    def n_positions(self) -> int:
        """The prompt stands at the context's first positions."""
        return self.settings.n_virtual_tokens

    def start(self, base: BaseModel, *, seed: int) -> dict[str, Tensor]:  # noqa: ARG002 (others draw)
        """Embeddings of the start text's first tokens, which are repeated where it is short.

        Random numbers have the wrong scale here as for prefixes.
        """
        base = base.exact or base
        tokens = start_tokens(base, self.settings.start_text, self.settings.n_virtual_tokens)
        with torch.no_grad():
            embeddings = base.model.get_input_embeddings()(torch.tensor(tokens, device=base.runtime.device))
        return {TENSOR: embeddings.float().cpu().contiguous()}

    def check(self, base: BaseModel, state: Mapping[str, Tensor]) -> None:
        """Refuses a state that is not one finite float32 tensor of this prompt's shape."""
        check_like({TENSOR: (self.settings.n_virtual_tokens, _embedding_size(base))}, state)

    def trained(self, name: str) -> bool:
        """The prompt is all there is."""
        return self.settings.sends(name)

    def logits(self, base: TaskModel, state: Mapping[str, Tensor], batch: Batch) -> Tensor:
        """The base model's logits behind the prompt, [n_targets, vocabulary]."""
        return base.logits(base.target_states(batch, prompt=state[TENSOR]))

    def configuration(self, base: BaseModel) -> dict[str, Any]:
        """PEFT's PromptTuningConfig with the sizes written out; it names no path of the machine that made it."""
        return {
            "base_model_name_or_path": None,
            "inference_mode": True,
            "num_attention_heads": base.facts.n_kv_heads,
            "num_layers": base.facts.n_layers,
            "num_transformer_submodules": 1,
            "num_virtual_tokens": self.settings.n_virtual_tokens,
            "peft_type": "PROMPT_TUNING",
            "prompt_tuning_init": "RANDOM",
            "revision": None,
            "task_type": base.facts.peft_task,
            "token_dim": _embedding_size(base),
        }


def _embedding_size(base: BaseModel) -> int:
    """Numbers of one token's embedding: in some OPT models not the hidden size."""
    return int(base.model.get_input_embeddings().weight.shape[1])
