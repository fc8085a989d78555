"""One row of a dataset, checked: the three kinds of examples and how they are read from plain values."""

from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from federation.specification import RowKind
from training_workers.errors import (
    ColumnMissing,
    ColumnsAmbiguous,
    ColumnsUnknown,
    LabelHoldsNul,
    LabelTooLong,
    RowTooLong,
    TextNotUtf8,
    ValueEmpty,
    ValueOfWrongType,
)

ROLES = ("system", "user", "assistant")
CONVERSATION = (
    "a list of objects with role (system, user or assistant) and content, ended by an assistant's message"
)
MAX_ROW_BYTES = 262_144
MAX_LABEL_CHARACTERS = 200  # the labels of a dataset are kept with its facts


@dataclass(frozen=True)
class LabelExample:
    """A text and its label."""

    text: str
    label: str

    kind = RowKind.LABEL

    @property
    def input_text(self) -> str:
        """What the model is given."""
        return self.text


@dataclass(frozen=True)
class CompletionExample:
    """A prompt and what should follow it."""

    prompt: str
    completion: str

    kind = RowKind.COMPLETION

    @property
    def input_text(self) -> str:
        """What the model is given."""
        return self.prompt


@dataclass(frozen=True)
class Message:
    """One turn of a conversation."""

    role: str
    content: str


@dataclass(frozen=True)
class ChatExample:
    """A conversation; its last message, the assistant's, is the answer."""

    messages: tuple[Message, ...]

    kind = RowKind.CHAT

    @property
    def input_text(self) -> str:
        """What the model is given: every turn but the last, with separators that no text holds by chance."""
        return "\x1e".join(f"{message.role}\x1f{message.content}" for message in self.messages[:-1])


Example = LabelExample | CompletionExample | ChatExample

COLUMNS_BY_KIND: dict[RowKind, tuple[str, ...]] = {
    LabelExample.kind: ("text", "label"),
    CompletionExample.kind: ("prompt", "completion"),
    ChatExample.kind: ("messages",),
}


def kind_of(columns: Collection[str]) -> RowKind:
    """The kind of example that these columns make; others are ignored.

    Raises:
        ColumnsUnknown: no column of any kind.
        ColumnMissing: one of a pair is missing.
        ColumnsAmbiguous: the columns of two kinds.
    """
    complete = [kind for kind, wanted in COLUMNS_BY_KIND.items() if set(wanted) <= set(columns)]
    if len(complete) == 1:
        return complete[0]
    if complete:
        raise ColumnsAmbiguous(kinds=complete)
    for wanted in COLUMNS_BY_KIND.values():
        if set(wanted) & set(columns):
            raise ColumnMissing(column=next(column for column in wanted if column not in columns))
    raise ColumnsUnknown(n_columns=len(columns))


def as_row(example: Example) -> dict[str, Any]:
    """The example as plain values, the way it is sent to the trainer."""
    return asdict(example)


def example_from_row(row: Mapping[str, Any], *, kind: RowKind, number: int) -> Example:
    """Checks one row's values and makes an example of them; `number` is the row's, from 1.

    Raises:
        DatasetRefusal: a value is missing, empty, too long, of another type or no UTF-8, or a label holds NUL.
    """
    if kind == RowKind.LABEL:
        return LabelExample(text=_text(row, "text", number), label=_label(row, number))
    if kind == RowKind.COMPLETION:
        return CompletionExample(
            prompt=_text(row, "prompt", number), completion=_text(row, "completion", number)
        )
    return ChatExample(messages=_messages(row, number))


def _value(row: Mapping[str, Any], column: str, number: int) -> Any:
    if column not in row:
        raise ColumnMissing(column=column, row=number)
    value = row[column]
    if value is None or (isinstance(value, str) and not value.strip()):
        raise ValueEmpty(column=column, row=number)
    return value


def _text(row: Mapping[str, Any], column: str, number: int) -> str:
    value = _value(row, column, number)
    if not isinstance(value, str):
        raise ValueOfWrongType(column=column, found=type(value).__name__, allowed="text", row=number)
    try:
        # A JSON escape can make half of a surrogate pair, which no tokenizer and no hash can take.
        n_bytes = len(value.encode("utf-8"))
    except UnicodeEncodeError as error:
        raise TextNotUtf8(row=number) from error
    if n_bytes > MAX_ROW_BYTES:
        raise RowTooLong(limit_bytes=MAX_ROW_BYTES, row=number)
    return value


def _label(row: Mapping[str, Any], number: int) -> str:
    value = _value(row, "label", number)
    if isinstance(value, int) and not isinstance(value, bool):
        label = str(value)
    elif isinstance(value, str):
        label = _text(row, "label", number).strip()
    else:
        raise ValueOfWrongType(
            column="label", found=type(value).__name__, allowed="text or a whole number", row=number
        )
    if len(label) > MAX_LABEL_CHARACTERS:
        raise LabelTooLong(limit=MAX_LABEL_CHARACTERS, row=number)
    if "\x00" in label:
        raise LabelHoldsNul(row=number)
    return label


def _messages(row: Mapping[str, Any], number: int) -> tuple[Message, ...]:
    value = _value(row, "messages", number)
    if not isinstance(value, list) or not all(isinstance(turn, Mapping) for turn in value):
        raise ValueOfWrongType(
            column="messages", found=type(value).__name__, allowed=CONVERSATION, row=number
        )
    turns = tuple(
        Message(role=_text(turn, "role", number), content=_text(turn, "content", number)) for turn in value
    )
    if len(turns) < 2 or turns[-1].role != "assistant" or any(turn.role not in ROLES for turn in turns):
        raise ValueOfWrongType(
            column="messages", found="another conversation", allowed=CONVERSATION, row=number
        )
    return turns
