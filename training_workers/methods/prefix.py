"""Prefix-tuning: trained keys and values before every layer's own (Li and Liang 2021, arXiv 2101.00190).

The state is one tensor, `prompt_embeddings`, float32, [n_virtual_tokens, 2 * n_layers * n_kv_heads *
head_size], the very layout of PEFT's file: seen as [n_virtual_tokens, n_layers, (key, value), n_kv_heads,
head_size]. There is no reparameterisation network: averaging one is not averaging prefixes.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from transformers.cache_utils import DynamicCache

from federation.methods import PrefixSettings
from training_workers.attention import KeysAndValues
from training_workers.data import Batch
from training_workers.loading import BaseModel, TaskModel
from training_workers.methods.start_text import start_tokens
from training_workers.states import check_like

TENSOR = "prompt_embeddings"


@dataclass(frozen=True)
class PrefixMethod:
    """A prefix, which starts as the keys and values of a public text."""

    settings: PrefixSettings
    # Then its values alone are trained: no gradient reaches the keys.
    freezes_keys: bool = False

    @property
    def n_positions(self) -> int:
        """The prefix stands at the context's first positions."""
        return self.settings.n_virtual_tokens

    def start(self, base: BaseModel, *, seed: int) -> dict[str, Tensor]:  # noqa: ARG002 (others draw)
        """Keys and values of the start text's first tokens, which are repeated where it is short.

        Nothing is random here: a zero start would give every row the same gradients for ever, and a random
        one has the wrong scale. Computed in float32 where possible, so that it does not depend on the
        processor's bfloat16.
        """
        base = base.exact or base
        tokens = start_tokens(base, self.settings.start_text, self.settings.n_virtual_tokens)
        cache = DynamicCache()
        with torch.no_grad():
            base.model.base_model(
                input_ids=torch.tensor([tokens], device=base.runtime.device),
                past_key_values=cache,
                use_cache=True,
            )
        layers: list[Any] = cache.layers
        pairs = torch.stack([torch.stack([layer.keys[0], layer.values[0]]) for layer in layers])
        # [n_layers, 2, n_kv_heads, n_virtual_tokens, head_size] -> the flat layout
        flat = pairs.permute(3, 0, 1, 2, 4).reshape(self.settings.n_virtual_tokens, -1)
        return {TENSOR: flat.float().cpu().contiguous()}

    def check(self, base: BaseModel, state: Mapping[str, Tensor]) -> None:
        """Refuses a state that is not one finite float32 tensor of this prefix's shape."""
        shape = (self.settings.n_virtual_tokens, 2 * base.facts.n_layers * base.facts.token_size)
        check_like({TENSOR: shape}, state)

    def trained(self, name: str) -> bool:
        """The prefix is all there is."""
        return self.settings.sends(name)

    def logits(self, base: TaskModel, state: Mapping[str, Tensor], batch: Batch) -> Tensor:
        """The base model's logits behind the prefix, [n_targets, vocabulary]."""
        return base.logits(base.target_states(batch, prefix=self._layers(base, state[TENSOR])))

    def _layers(self, base: BaseModel, prefix: Tensor) -> list[KeysAndValues]:
        """Each layer's keys and values, in the model's dtype."""
        facts = base.facts
        pairs = prefix.to(base.model.dtype).view(
            self.settings.n_virtual_tokens, facts.n_layers, 2, facts.n_kv_heads, facts.head_size
        )
        # [n_layers, 2, n_kv_heads, n_virtual_tokens, head_size]
        layers = pairs.permute(1, 2, 3, 0, 4)
        return [(keys.detach() if self.freezes_keys else keys, values) for keys, values in layers]

    def configuration(self, base: BaseModel) -> dict[str, Any]:
        """PEFT's PrefixTuningConfig with the sizes written out; it names no path of the machine that made it.

        PEFT itself is not imported here: that takes 3 seconds and 100 MB, and the tests hold this against it.
        """
        return {
            "base_model_name_or_path": None,
            "encoder_hidden_size": base.facts.token_size,
            "inference_mode": True,
            "num_attention_heads": base.facts.n_kv_heads,
            "num_layers": base.facts.n_layers,
            "num_transformer_submodules": 1,
            "num_virtual_tokens": self.settings.n_virtual_tokens,
            "peft_type": "PREFIX_TUNING",
            "prefix_projection": False,
            "revision": None,
            "task_type": base.facts.peft_task,
            "token_dim": base.facts.token_size,
        }
