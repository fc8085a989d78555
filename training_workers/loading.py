"""A base model in memory: frozen weights, tokenizer, and the one forward pass that every method uses.

A base model is bound to a task (`for_task`) before anything is trained or scored with it: only then is it known
what can be answered. That is also the one place where causal models and encoders part.
"""

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
from transformers import AutoModel, AutoModelForCausalLM, AutoTokenizer, PreTrainedTokenizerBase
from transformers.utils import logging as transformers_logging

from federation.specification import CompletionTask, LabelTask, Task
from training_workers.attention import KeysAndValues, attend_here, attending
from training_workers.base_models import BaseModelFacts, inspect_directory
from training_workers.data import Batch, TokenExample, encode, label_word_tokens, make_batch
from training_workers.errors import BaseModelBroken, ContextExceeded, SpecificationInvalid, TaskUnsupported
from training_workers.examples.rows import Example, LabelExample
from training_workers.layout import Layout
from training_workers.readouts import LabelReadout, Readout, TokenReadout, text_embeddings
from training_workers.runtime import Runtime

transformers_logging.disable_progress_bar()  # type: ignore[no-untyped-call]

LOADING_OPTIONS: dict[str, Any] = {"local_files_only": True, "trust_remote_code": False}
# A second copy of 6 GB in float32 is the most that is spent on close calls.
MAX_EXACT_PARAMETERS = 1_500_000_000


@dataclass(frozen=True, kw_only=True)
class BaseModel:
    """A frozen language model on a device.

    `output_weight` is a causal model's output layer's weight in float32, [vocabulary, hidden]; None: an encoder.
    `exact` is the same model in float32, for the close calls of an evaluation; None where this one is in float32
    itself, or is too large to be held twice.
    """

    facts: BaseModelFacts
    runtime: Runtime
    model: Any
    tokenizer: PreTrainedTokenizerBase
    output_weight: Tensor | None
    exact: "BaseModel | None" = None

    def for_task(self, task: Task) -> "TaskModel":
        """This model with all that the task's answers take, worked out once and in float32 where possible.

        Raises:
            TaskUnsupported: an encoder completes nothing.
            LabelWordsClash, SpecificationInvalid: the words cannot tell the labels apart.
        """
        exact = self.exact.for_task(task) if self.exact is not None else None
        return TaskModel(
            facts=self.facts,
            runtime=self.runtime,
            model=self.model,
            tokenizer=self.tokenizer,
            output_weight=self.output_weight,
            exact=exact,
            task=task,
            readout=exact.readout if exact is not None else self._readout(task),
        )

    def hidden_states(
        self, batch: Batch, *, prefix: Sequence[KeysAndValues] = (), prompt: Tensor | None = None
    ) -> Tensor:
        """Last hidden states of the batch's own columns, [n_rows, n_columns, hidden], in the model's dtype.

        A prefix's positions come before the batch's, which go on after them. So do a prompt's, embeddings [n_prompt,
        embedding_size], which go through the model with every row. What the states of padding are says nothing.
        """
        n_rows = len(batch.input_ids)
        n_before = prefix[0][0].shape[1] if prefix else 0
        n_prompt = len(prompt) if prompt is not None else 0
        layout = Layout.of(functional.pad(batch.attention_mask, (n_prompt, 0), value=1))
        columns = torch.arange(layout.mask.shape[1], device=layout.mask.device)
        positions = layout.pack((n_before + columns).expand(n_rows, -1))
        with attending(layout, prefix):
            output = self.model.base_model(
                **self._inputs(batch, layout, prompt),
                # Attention makes its own of the layout; without one transformers would look for rows' beginnings.
                attention_mask=torch.ones_like(positions)[None],
                position_ids=positions[None],
                use_cache=False,
            )
        hidden: Tensor = layout.spread(output.last_hidden_state[0])
        return hidden[:, n_prompt:]

    def _inputs(self, batch: Batch, layout: Layout, prompt: Tensor | None) -> dict[str, Tensor]:
        if prompt is None:
            return {"input_ids": layout.pack(batch.input_ids)[None]}
        own = self.model.get_input_embeddings()(batch.input_ids)
        rows = torch.cat([prompt.to(own.dtype).expand(len(own), -1, -1), own], dim=1)
        return {"inputs_embeds": layout.pack(rows)[None]}

    def _readout(self, task: Task) -> Readout:
        if self.output_weight is not None:
            words = (
                label_word_tokens(self.tokenizer, task, n_compared=1) if isinstance(task, LabelTask) else []
            )
            cap = getattr(self.model.config, "final_logit_softcapping", None)
            return TokenReadout(
                output_weight=self.output_weight,
                output_name=self._output_name(),
                logit_cap=cap,
                label_answers=words,
            )
        if isinstance(task, LabelTask):
            return LabelReadout(label_embeddings=self._label_embeddings(task))
        raise TaskUnsupported(task=task.kind, kind=self.facts.kind, supported=["label"])

    def _output_name(self) -> str:
        """The name of the output layer's weight, which many models share with the embeddings."""
        output = self.model.get_output_embeddings().weight
        names: list[str] = [name for name, weight in self.model.named_parameters() if weight is output]
        return names[0]

    @torch.no_grad()
    def _label_embeddings(self, task: LabelTask) -> Tensor:
        """The labels' words as the bare model embeds them, each as a text of its own, at unit length."""
        label_word_tokens(self.tokenizer, task, n_compared=None)
        words = [tuple(self.tokenizer(word)["input_ids"]) for word in task.label_words.values()]
        if max(map(len, words)) > self.facts.context_length:
            reason = f"a word is longer than the base model's context, {self.facts.context_length} tokens"
            raise SpecificationInvalid(field="label_words", reason=reason)
        batch = make_batch([TokenExample(word, (0,)) for word in words], device=self.runtime.device)
        embeddings = text_embeddings(self.hidden_states(batch), batch.attention_mask)
        return functional.normalize(embeddings, dim=-1)


@dataclass(frozen=True, kw_only=True)
class TaskModel(BaseModel):
    """A base model bound to a task: it makes tokens of examples and logits of states."""

    task: Task
    readout: Readout
    exact: "TaskModel | None" = None

    @property
    def label_tokens(self) -> Tensor | None:
        """Each label's first token in the readout's vocabulary, [n_labels]; None for completions."""
        if not isinstance(self.task, LabelTask):
            return None
        tokens = [answer[0] for answer in self.readout.label_answers]
        return torch.tensor(tokens, device=self.runtime.device)

    def encode(self, examples: Sequence[Example], *, n_positions: int) -> list[TokenExample]:
        """The examples as this model's tokens; `n_positions` of the context are taken by the method.

        Raises:
            NoExamples, ContextExceeded and what else `data.encode` refuses.
        """
        return encode(
            examples,
            tokenizer=self.tokenizer,
            task=self.task,
            label_answers=self.readout.label_answers,
            max_inputs=self.facts.context_length - n_positions,
        )

    def check_context(self, *, n_positions: int) -> None:
        """Refuses a task whose examples cannot fit the context of which the method takes `n_positions`.

        Rows of a label task may still be too long: here it is a text of one character that must fit.

        Raises:
            SpecificationInvalid: `max_tokens` promises more than is left, or the template takes all of it.
        """
        if isinstance(self.task, CompletionTask):
            most = self.facts.context_length - n_positions + 1  # the last token is only predicted
            if self.task.max_tokens > most:
                reason = f"it is {self.task.max_tokens}; the base model's context leaves {most} tokens"
                raise SpecificationInvalid(field="task.max_tokens", reason=reason)
            return
        try:
            shortest: list[Example] = [LabelExample("a", label) for label in self.task.label_words]
            self.encode(shortest, n_positions=n_positions)
        except ContextExceeded as error:
            reason = f"with a text of one character and a label's word it has {error.n_tokens} tokens; "
            raise SpecificationInvalid(
                field="task.template", reason=f"{reason}the base model's context leaves {error.limit}"
            ) from None

    def target_states(
        self, batch: Batch, *, prefix: Sequence[KeysAndValues] = (), prompt: Tensor | None = None
    ) -> Tensor:
        """What the answers are read from, [n_targets, hidden], behind a prefix or a prompt."""
        return self.readout.target_states(self.hidden_states(batch, prefix=prefix, prompt=prompt), batch)

    def logits(self, states: Tensor) -> Tensor:
        """Logits in float32, [n_targets, vocabulary of the readout]."""
        return self.readout.logits(states)


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
    is_encoder = facts.kind == "encoder"
    loader: Any = AutoModel if is_encoder else AutoModelForCausalLM
    # No embedding goes through BERT's pooler: training all weights would send it unchanged.
    options = {**LOADING_OPTIONS, **({"add_pooling_layer": False} if is_encoder else {})}
    model = loader.from_pretrained(directory, dtype=runtime.dtype, use_safetensors=True, **options)
    model.requires_grad_(False).eval().to(runtime.device)
    attend_here(model)
    output: nn.Linear | None = None if is_encoder else model.get_output_embeddings()
    weight = (
        exact.output_weight
        if exact is not None
        else (None if output is None else output.weight.detach().float())
    )
    return BaseModel(
        facts=facts, runtime=runtime, model=model, tokenizer=tokenizer, output_weight=weight, exact=exact
    )
