"""A base model in memory: frozen weights, tokenizer, and the one forward pass that every method uses."""

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

# Nothing is ever fetched from a model hub; it must be set before transformers is imported.
os.environ["HF_HUB_OFFLINE"] = "1"

import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedTokenizerBase
from transformers.cache_utils import Cache
from transformers.utils import logging as transformers_logging

from federation.specification import Task
from training_workers.base_models import BaseModelFacts, inspect_directory
from training_workers.data import Batch, TokenExample, encode
from training_workers.errors import BaseModelBroken
from training_workers.examples.rows import Example
from training_workers.runtime import Runtime

transformers_logging.disable_progress_bar()  # type: ignore[no-untyped-call]

LOADING_OPTIONS: dict[str, Any] = {"local_files_only": True, "trust_remote_code": False}
# A second copy of 6 GB in float32 is the most that is spent on close calls.
MAX_EXACT_PARAMETERS = 1_500_000_000


@dataclass(frozen=True)
class BaseModel:
    """A frozen causal language model on a device.

    `output_weight` is the output layer's weight in float32, [vocabulary, hidden]: logits of two label words
    often lie closer together than bfloat16 can tell. `exact` is the same model in float32, for the close
    calls of an evaluation; None where this one is in float32 itself, or is too large to be held twice.
    """

    facts: BaseModelFacts
    runtime: Runtime
    model: Any
    tokenizer: PreTrainedTokenizerBase
    output_weight: Tensor
    logit_cap: float | None
    exact: "BaseModel | None" = None

    def encode(self, examples: Sequence[Example], task: Task, *, n_positions: int) -> list[TokenExample]:
        """The examples as this model's tokens; `n_positions` of the context are taken by the method.

        Raises:
            NoExamples, ContextExceeded and what else `data.encode` refuses.
        """
        max_inputs = self.facts.context_length - n_positions
        return encode(examples, tokenizer=self.tokenizer, task=task, max_inputs=max_inputs)

    def target_states(
        self, batch: Batch, *, cache: Cache | None = None, prompt: Tensor | None = None
    ) -> Tensor:
        """Last hidden states where a token is to be predicted, [n_targets, hidden], in the model's dtype.

        The cache's positions come before the batch's: the mask covers them, and the batch's positions go on
        after them. So do a prompt's, embeddings [n_prompt, embedding_size], which go through the model with every row.
        """
        if prompt is not None:
            return self._states_behind(prompt, batch)
        n_before = cache.get_seq_length() if cache is not None else 0
        n_rows, n_columns = batch.input_ids.shape
        mask = torch.cat([batch.attention_mask.new_ones(n_rows, n_before), batch.attention_mask], dim=1)
        positions = torch.arange(n_before, n_before + n_columns, device=mask.device).expand(n_rows, -1)
        output = self.model.base_model(
            input_ids=batch.input_ids,
            attention_mask=mask,
            position_ids=positions,
            past_key_values=cache,
            use_cache=cache is not None,
        )
        states: Tensor = output.last_hidden_state[batch.target_rows, batch.target_columns]
        return states

    def _states_behind(self, prompt: Tensor, batch: Batch) -> Tensor:
        n_rows, n_before = len(batch.input_ids), len(prompt)
        own = self.model.get_input_embeddings()(batch.input_ids)
        embeddings = torch.cat([prompt.to(own.dtype).expand(n_rows, -1, -1), own], dim=1)
        mask = torch.cat([batch.attention_mask.new_ones(n_rows, n_before), batch.attention_mask], dim=1)
        positions = torch.arange(embeddings.shape[1], device=mask.device).expand(n_rows, -1)
        output = self.model.base_model(
            inputs_embeds=embeddings, attention_mask=mask, position_ids=positions, use_cache=False
        )
        states: Tensor = output.last_hidden_state[batch.target_rows, batch.target_columns + n_before]
        return states

    def logits(self, states: Tensor) -> Tensor:
        """Logits in float32, [n_targets, vocabulary]; never over all positions of a batch."""
        logits = functional.linear(states.float(), self.output_weight)
        if self.logit_cap is None:
            return logits
        return torch.tanh(logits / self.logit_cap) * self.logit_cap


def load_base_model(directory: Path, runtime: Runtime) -> BaseModel:
    """Loads the directory's model and tokenizer, and freezes the model.

    Raises:
        BaseModelRefusal: the directory cannot serve, see `inspect_directory`.
    """
    facts = inspect_directory(directory)
    try:
        tokenizer = AutoTokenizer.from_pretrained(directory, **LOADING_OPTIONS)
        if runtime.dtype == torch.float32 or facts.n_parameters > MAX_EXACT_PARAMETERS:
            return _load(directory, facts, runtime, tokenizer, exact=None)
        in_float32 = replace(runtime, dtype=torch.float32)
        exact = _load(directory, facts, in_float32, tokenizer, exact=None)
        return _load(directory, facts, runtime, tokenizer, exact=exact)
    except (OSError, ValueError, RuntimeError, KeyError, TypeError) as error:
        reason = f"transformers cannot load it ({type(error).__name__})"
        raise BaseModelBroken(
            directory=str(directory), file_name="model.safetensors", reason=reason
        ) from error


def _load(
    directory: Path,
    facts: BaseModelFacts,
    runtime: Runtime,
    tokenizer: PreTrainedTokenizerBase,
    *,
    exact: BaseModel | None,
) -> BaseModel:
    model: Any = AutoModelForCausalLM.from_pretrained(
        directory, dtype=runtime.dtype, use_safetensors=True, **LOADING_OPTIONS
    )
    model.requires_grad_(False).eval().to(runtime.device)
    output: nn.Linear = model.get_output_embeddings()
    return BaseModel(
        facts=facts,
        runtime=runtime,
        model=model,
        tokenizer=tokenizer,
        output_weight=output.weight.detach().float() if exact is None else exact.output_weight,
        logit_cap=getattr(model.config, "final_logit_softcapping", None),
        exact=exact,
    )
