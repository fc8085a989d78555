"""Examples as tokens, and tokens as batches."""

import random
import traceback
from collections import Counter
from collections.abc import Iterator
from itertools import chain

import pytest
import torch
from transformers import PreTrainedTokenizerBase

from federation.specification import CompletionTask, LabelTask
from training_workers import errors
from training_workers.data import (
    Batch,
    TokenExample,
    encode,
    evaluation_batches,
    label_word_tokens,
    make_batch,
    training_batches,
)
from training_workers.examples import ChatExample, CompletionExample, Example, LabelExample, Message
from training_workers.loading import BaseModel

CPU = torch.device("cpu")
TASK = LabelTask(
    kind="label",
    template="{text}\nSentiment:",
    label_words={"positive": " positive", "negative": " negative"},
    max_text_characters=4,
)
COMPLETIONS = CompletionTask(kind="completion", max_tokens=8)


@pytest.fixture
def tokenizer(tiny_base: BaseModel) -> PreTrainedTokenizerBase:
    """The tiny model's tokenizer."""
    return tiny_base.tokenizer


def test_a_label_example_is_its_prompt_and_its_word(tokenizer: PreTrainedTokenizerBase) -> None:
    words = label_word_tokens(tokenizer, TASK, n_compared=1)
    example = LabelExample("good food", "negative")
    (encoded,) = encode([example], tokenizer=tokenizer, task=TASK, label_answers=words, max_inputs=99)
    assert tokenizer.decode(list(encoded.prompt)) == "good\nSentiment:"
    assert tokenizer.decode(list(encoded.answer)) == " negative"
    assert encoded.label == 1


def test_a_completion_ends_with_the_token_that_ends_a_text(tokenizer: PreTrainedTokenizerBase) -> None:
    examples: list[Example] = [
        CompletionExample("Question: ", "yes"),
        ChatExample((Message("user", "good?"), Message("assistant", "yes"))),
    ]
    roomy = COMPLETIONS.model_copy(update={"max_tokens": 64})
    pair, chat = encode(examples, tokenizer=tokenizer, task=roomy, label_answers=(), max_inputs=99)
    assert tokenizer.decode(list(pair.prompt)) == "Question: "
    assert tokenizer.decode(list(pair.answer)) == "yes<eos>"
    assert tokenizer.decode(list(chat.prompt)) == "<user>good?\n<assistant>"
    assert tokenizer.decode(list(chat.answer)) == "yes<eos>"


def test_what_is_too_long_keeps_the_answers_beginning_and_the_prompts_end(
    tokenizer: PreTrainedTokenizerBase,
) -> None:
    examples = [CompletionExample("abcdefgh", "xy"), CompletionExample("abcdefgh", "stuvwxyz")]
    first, second = encode(examples, tokenizer=tokenizer, task=COMPLETIONS, label_answers=(), max_inputs=99)
    assert (tokenizer.decode(list(first.prompt)), tokenizer.decode(list(first.answer))) == (
        "defgh",
        "xy<eos>",
    )
    assert (tokenizer.decode(list(second.prompt)), tokenizer.decode(list(second.answer))) == ("h", "stuvwxy")


def test_refuses_what_does_not_fit(tokenizer: PreTrainedTokenizerBase) -> None:
    good = LabelExample("a", "positive")
    with pytest.raises(errors.NoExamples):
        encode([], tokenizer=tokenizer, task=TASK, label_answers=[(7,), (8,)], max_inputs=99)
    with pytest.raises(errors.LabelWithoutWord, match="Example 2"):
        encode(
            [good, LabelExample("a", "mixed")],
            tokenizer=tokenizer,
            task=TASK,
            label_answers=[(7,), (8,)],
            max_inputs=99,
        )
    with pytest.raises(errors.ExamplesOfWrongKind):
        encode([good], tokenizer=tokenizer, task=COMPLETIONS, label_answers=(), max_inputs=99)
    with pytest.raises(errors.ContextExceeded, match="Example 1"):
        encode([good], tokenizer=tokenizer, task=TASK, label_answers=[(7,), (8,)], max_inputs=2)


def test_refuses_messages_without_a_chat_template(
    tokenizer: PreTrainedTokenizerBase, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tokenizer, "chat_template", None)
    chat = ChatExample((Message("user", "good?"), Message("assistant", "yes")))
    with pytest.raises(errors.ChatTemplateMissing):
        encode([chat], tokenizer=tokenizer, task=COMPLETIONS, label_answers=(), max_inputs=99)


def test_refuses_a_conversation_that_the_template_refuses_without_its_text(
    tokenizer: PreTrainedTokenizerBase, monkeypatch: pytest.MonkeyPatch
) -> None:
    strict = "{% if messages[0].role == 'system' %}{{ raise_exception(messages[0].content) }}{% endif %}"
    monkeypatch.setattr(tokenizer, "chat_template", strict + "{{ messages[0].content }}")
    turns = (Message("user", "good?"), Message("assistant", "yes"))
    examples = [ChatExample(turns), ChatExample((Message("system", "a marked text"), *turns))]
    with pytest.raises(errors.ConversationRefused, match="Example 2 ") as caught:
        encode(examples, tokenizer=tokenizer, task=COMPLETIONS, label_answers=(), max_inputs=99)
    assert "marked" not in "".join(traceback.format_exception(caught.value))


def test_refuses_label_words_that_begin_alike(tokenizer: PreTrainedTokenizerBase) -> None:
    clashing = LabelTask(
        kind="label", template="{text}", label_words={"a": " good", "b": " good!"}, max_text_characters=9
    )
    with pytest.raises(errors.LabelWordsClash, match="a, b have the same first token"):
        label_word_tokens(tokenizer, clashing, n_compared=1)
    assert len(label_word_tokens(tokenizer, clashing, n_compared=None)) == 2


def test_a_batch_knows_where_each_answers_tokens_are_predicted() -> None:
    batch = make_batch([TokenExample((1, 2, 3), (4, 5)), TokenExample((6,), (7,), label=1)], device=CPU)
    assert batch.input_ids.tolist() == [[1, 2, 3, 4], [6, 0, 0, 0]]
    assert batch.attention_mask.tolist() == [[1, 1, 1, 1], [1, 0, 0, 0]]
    assert list(zip(batch.target_rows.tolist(), batch.target_columns.tolist(), strict=True)) == [
        *((0, 2), (0, 3)),
        (1, 0),
    ]
    assert batch.targets.tolist() == [4, 5, 7]
    assert batch.first_targets.tolist() == [0, 2]
    assert batch.labels.tolist() == [-1, 1]
    assert batch.n_tokens == 5


def _examples(n: int) -> list[TokenExample]:
    generator = random.Random(0)
    return [TokenExample((number,) * generator.randint(1, 60), (1,)) for number in range(10, 10 + n)]


def _starts(batches: Iterator[Batch]) -> list[list[int]]:
    return [batch.input_ids[:, 0].tolist() for batch in batches]


def test_training_batches_follow_the_seed_use_every_row_and_waste_little() -> None:
    examples = _examples(96)

    def batches(seed: int) -> Iterator[Batch]:
        return training_batches(examples, batch_size=8, n_steps=12, seed=seed, device=CPU)

    assert _starts(batches(1)) == _starts(batches(1))
    assert _starts(batches(1)) != _starts(batches(2))
    assert sorted(chain.from_iterable(_starts(batches(1)))) == list(range(10, 106))
    made = list(training_batches(examples, batch_size=8, n_steps=12, seed=1, device=CPU))
    assert sum(batch.n_tokens for batch in made) > 0.8 * sum(batch.input_ids.numel() for batch in made)


def test_too_few_examples_begin_again() -> None:
    starts = _starts(training_batches(_examples(5), batch_size=4, n_steps=3, seed=0, device=CPU))
    assert [len(row) for row in starts] == [4, 4, 4]
    assert Counter(chain.from_iterable(starts)) == {
        10: 3,
        11: 3,
        12: 2,
        13: 2,
        14: 2,
    }


def test_evaluation_batches_hold_every_row_once_within_the_budget() -> None:
    examples = [*_examples(50), TokenExample((9,) * 200, (1,))]
    made = list(evaluation_batches(examples, max_tokens=100, device=CPU))
    assert sorted(example.prompt for rows, _ in made for example in rows) == sorted(
        example.prompt for example in examples
    )
    assert all(batch.input_ids.numel() <= 100 or len(rows) == 1 for rows, batch in made)
