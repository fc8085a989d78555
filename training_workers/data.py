"""From a tenant's examples to batches of tokens, padded on the right.

An answer's tokens are predicted, the prompt's are not. A batch knows where: `target_rows` and
`target_columns` say at which positions a token is to be predicted, `targets` which one it is. What the tokens
of an answer are is the readout's to say: a causal model's are its vocabulary's, an encoder's are the labels.
"""

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import jinja2
import torch
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from federation.specification import CompletionTask, LabelTask, Task
from training_workers.errors import (
    ChatTemplateMissing,
    ContextExceeded,
    ConversationRefused,
    ExamplesOfWrongKind,
    LabelWithoutWord,
    LabelWordsClash,
    NoExamples,
    SpecificationInvalid,
)
from training_workers.examples.rows import ChatExample, CompletionExample, Example, LabelExample

# Batches that are sorted by length together: enough for little padding, few enough to leave the order random.
BATCHES_PER_WINDOW = 8


@dataclass(frozen=True)
class TokenExample:
    """A prompt's and its answer's tokens; `label` is the label's place among the task's labels, or -1."""

    prompt: tuple[int, ...]
    answer: tuple[int, ...]
    label: int = -1

    @property
    def n_inputs(self) -> int:
        """Tokens that go through the model: the last one is only predicted."""
        return len(self.prompt) + len(self.answer) - 1


@dataclass(frozen=True)
class Batch:
    """Tokens on a device, all int64: [n_rows, n_columns] twice, [n_targets] thrice, [n_rows] twice."""

    input_ids: Tensor
    attention_mask: Tensor
    target_rows: Tensor
    target_columns: Tensor
    targets: Tensor
    # Per row: the place of its first target among the targets, and its label.
    first_targets: Tensor
    labels: Tensor
    n_tokens: int


def label_word_tokens(
    tokenizer: PreTrainedTokenizerBase, task: LabelTask, *, n_compared: int | None
) -> list[tuple[int, ...]]:
    """Each label's word as tokens, in the order of the labels; `n_compared` of them tell labels apart, None: all.

    Raises:
        LabelWordsClash: two words are the same in what is compared.
        SpecificationInvalid: the tokenizer makes nothing of a word.
    """
    words: list[tuple[int, ...]] = []
    owners: dict[tuple[int, ...], str] = {}
    for label, word in task.label_words.items():
        tokens = _plain_tokens(tokenizer, word)
        if not tokens:
            raise SpecificationInvalid(field="label_words", reason=f"the word of {label!r} has no token")
        compared = tokens[:n_compared]
        if compared in owners:
            part = "tokens" if n_compared is None else "first token"
            raise LabelWordsClash(labels=[owners[compared], label], part=part)
        owners[compared] = label
        words.append(tokens)
    return words


def encode(
    examples: Sequence[Example],
    *,
    tokenizer: PreTrainedTokenizerBase,
    task: Task,
    label_answers: Sequence[tuple[int, ...]],
    max_inputs: int,
) -> list[TokenExample]:
    """The examples as tokens; `label_answers` are what stands for each label of a label task.

    Raises:
        NoExamples: there are none.
        ExamplesOfWrongKind, LabelWithoutWord: they do not fit the task.
        ChatTemplateMissing, ConversationRefused: they do not fit the tokenizer.
        ContextExceeded: a prompt with its answer is longer than `max_inputs`, what the context leaves.
    """
    if not examples:
        raise NoExamples
    encoded = []
    for position, example in enumerate(examples, start=1):
        tokens = _encode_one(example, position, tokenizer, task, label_answers)
        if tokens.n_inputs > max_inputs:
            raise ContextExceeded(position=position, n_tokens=tokens.n_inputs, limit=max_inputs)
        encoded.append(tokens)
    return encoded


def _encode_one(
    example: Example,
    position: int,
    tokenizer: PreTrainedTokenizerBase,
    task: Task,
    label_answers: Sequence[tuple[int, ...]],
) -> TokenExample:
    if isinstance(task, LabelTask) and isinstance(example, LabelExample):
        return _encode_label(example, position, tokenizer, task, label_answers)
    if isinstance(task, CompletionTask) and isinstance(example, CompletionExample):
        prompt = tuple(tokenizer(example.prompt)["input_ids"])
        return _cut(prompt, _ended(tokenizer, example.completion), task.max_tokens)
    if isinstance(task, CompletionTask) and isinstance(example, ChatExample):
        answer = _ended(tokenizer, example.messages[-1].content)
        return _cut(_conversation(example, position, tokenizer), answer, task.max_tokens)
    raise ExamplesOfWrongKind(task=task.kind, found=example.kind)


def _encode_label(
    example: LabelExample,
    position: int,
    tokenizer: PreTrainedTokenizerBase,
    task: LabelTask,
    label_answers: Sequence[tuple[int, ...]],
) -> TokenExample:
    if example.label not in task.label_words:
        raise LabelWithoutWord(position=position, known=list(task.label_words))
    label = list(task.label_words).index(example.label)
    prompt = tuple(tokenizer(task.prompt(example.text))["input_ids"])
    return TokenExample(prompt=prompt, answer=label_answers[label], label=label)


def _conversation(example: ChatExample, position: int, tokenizer: PreTrainedTokenizerBase) -> tuple[int, ...]:
    if not tokenizer.chat_template:
        raise ChatTemplateMissing
    turns = [{"role": message.role, "content": message.content} for message in example.messages[:-1]]
    try:
        text = tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=True)
    except jinja2.TemplateError:
        raise ConversationRefused(position=position) from None
    return _plain_tokens(tokenizer, str(text))


def _plain_tokens(tokenizer: PreTrainedTokenizerBase, text: str) -> tuple[int, ...]:
    return tuple(tokenizer(text, add_special_tokens=False)["input_ids"])


def _ended(tokenizer: PreTrainedTokenizerBase, text: str) -> tuple[int, ...]:
    """The text's tokens and the one that ends a text, so that a model learns to stop."""
    end = () if tokenizer.eos_token_id is None else (tokenizer.eos_token_id,)
    return (*_plain_tokens(tokenizer, text), *end)


def _cut(prompt: tuple[int, ...], answer: tuple[int, ...], max_tokens: int) -> TokenExample:
    """At most `max_tokens`: the answer keeps its beginning, the prompt its end, one token at least."""
    answer = answer[: max_tokens - 1]
    return TokenExample(prompt=prompt[-(max_tokens - len(answer)) :], answer=answer)


def training_batches(
    examples: Sequence[TokenExample], *, batch_size: int, n_steps: int, seed: int, device: torch.device
) -> Iterator[Batch]:
    """`n_steps` batches in an order that the seed decides, rows of similar length together.

    Where there are fewer examples than `n_steps * batch_size`, they begin again.
    """
    n_wanted = n_steps * batch_size
    order = [index % len(examples) for index in range(n_wanted)]
    groups: list[list[int]] = []
    window = BATCHES_PER_WINDOW * batch_size
    for start in range(0, n_wanted, window):
        by_length = sorted(order[start : start + window], key=lambda index: examples[index].n_inputs)
        groups += [by_length[first : first + batch_size] for first in range(0, len(by_length), batch_size)]
    random.Random(seed).shuffle(groups)  # noqa: S311 (a reproducible order, no secret)
    for group in groups:
        yield make_batch([examples[index] for index in group], device=device)


def evaluation_batches(
    examples: Sequence[TokenExample], *, max_tokens: int, device: torch.device
) -> Iterator[tuple[list[TokenExample], Batch]]:
    """Every example once with its batch, the shortest first; `max_tokens` counts the padding."""
    group: list[TokenExample] = []
    for example in sorted(examples, key=lambda one: one.n_inputs):
        if group and (len(group) + 1) * example.n_inputs > max_tokens:
            yield group, make_batch(group, device=device)
            group = []
        group.append(example)
    if group:
        yield group, make_batch(group, device=device)


def make_batch(examples: Sequence[TokenExample], *, device: torch.device) -> Batch:
    """One batch; shorter rows are padded on the right, behind the mask."""
    n_columns = max(example.n_inputs for example in examples)
    input_ids = torch.zeros(len(examples), n_columns, dtype=torch.int64)
    attention_mask = torch.zeros_like(input_ids)
    rows: list[int] = []
    columns: list[int] = []
    targets: list[int] = []
    first_targets: list[int] = []
    for row, example in enumerate(examples):
        tokens = example.prompt + example.answer
        input_ids[row, : example.n_inputs] = torch.tensor(tokens[:-1])
        attention_mask[row, : example.n_inputs] = 1
        first_targets.append(len(targets))
        rows += [row] * len(example.answer)
        columns += range(len(example.prompt) - 1, example.n_inputs)
        targets += example.answer
    return Batch(
        input_ids=input_ids.to(device),
        attention_mask=attention_mask.to(device),
        target_rows=torch.tensor(rows, device=device),
        target_columns=torch.tensor(columns, device=device),
        targets=torch.tensor(targets, device=device),
        first_targets=torch.tensor(first_targets, device=device),
        labels=torch.tensor([example.label for example in examples], device=device),
        n_tokens=sum(example.n_inputs for example in examples),
    )
