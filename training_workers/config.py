"""What a federation's specification means to the learning code: frozen dataclasses, read from its JSON.

The federation has checked the whole specification when it was made; what is checked here is what the learning
code would otherwise stumble over in the middle of a run. Fields for other rooms (aggregation, round, gate)
are ignored.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from training_workers.errors import SpecificationInvalid

TEXT_FIELD = "{text}"


@dataclass(frozen=True)
class LabelTask:
    """Tell labels apart: the answer to the prompt is the label's word."""

    template: str
    label_words: Mapping[str, str]
    max_text_characters: int

    kind = "label"

    def prompt(self, text: str) -> str:
        """The template with the text's first characters in it."""
        return self.template.replace(TEXT_FIELD, text[: self.max_text_characters])


@dataclass(frozen=True)
class CompletionTask:
    """Complete a prompt, or give the last answer of a conversation."""

    max_tokens: int

    kind = "completion"


Task = LabelTask | CompletionTask


@dataclass(frozen=True)
class TrainingSettings:
    """One local run's training: AdamW without weight decay, a fresh optimizer, a clipped gradient."""

    learning_rate: float
    n_steps: int
    batch_size: int
    gradient_clip: float
    seed: int

    @property
    def n_examples(self) -> int:
        """Examples that one local run consumes."""
        return self.n_steps * self.batch_size


@dataclass(frozen=True)
class TrainingSpecification:
    """The part of a federation's specification that training and evaluation need."""

    method: str
    method_settings: Mapping[str, Any]
    task: Task
    training: TrainingSettings
    n_held_out_rows: int

    @classmethod
    def from_dict(cls, specification: Mapping[str, Any]) -> "TrainingSpecification":
        """Reads the specification's JSON.

        Raises:
            SpecificationInvalid: a field is missing, of another type, or out of its range.
        """
        evaluation = _mapping(specification, "evaluation")
        return cls(
            method=_text(specification, "method"),
            method_settings=dict(_mapping(specification, "method_settings")),
            task=_task(_mapping(specification, "task")),
            training=_training(_mapping(specification, "training")),
            n_held_out_rows=_integer(evaluation, "n_held_out_rows", minimum=1),
        )


def _task(raw: Mapping[str, Any]) -> Task:
    kind = _text(raw, "kind")
    if kind == "completion":
        return CompletionTask(max_tokens=_integer(raw, "max_tokens", minimum=2))
    if kind != "label":
        raise SpecificationInvalid(field="kind", reason=f"{kind!r} is neither label nor completion")
    template = _text(raw, "template")
    if template.count(TEXT_FIELD) != 1:
        raise SpecificationInvalid(field="template", reason=f"it must hold {TEXT_FIELD} exactly once")
    words = _mapping(raw, "label_words")
    if len(words) < 2 or not all(isinstance(word, str) and word for word in words.values()):
        raise SpecificationInvalid(
            field="label_words", reason="at least two labels with a word each are needed"
        )
    return LabelTask(
        template=template,
        label_words=dict(words),
        max_text_characters=_integer(raw, "max_text_characters", minimum=1),
    )


def _training(raw: Mapping[str, Any]) -> TrainingSettings:
    return TrainingSettings(
        learning_rate=_positive(raw, "learning_rate"),
        n_steps=_integer(raw, "n_steps", minimum=1),
        batch_size=_integer(raw, "batch_size", minimum=1),
        gradient_clip=_positive(raw, "gradient_clip"),
        seed=_integer(raw, "seed", minimum=0),
    )


def _mapping(raw: Mapping[str, Any], field: str) -> Mapping[str, Any]:
    value = raw.get(field)
    if not isinstance(value, Mapping):
        raise SpecificationInvalid(field=field, reason="it must be an object")
    return value


def _text(raw: Mapping[str, Any], field: str) -> str:
    value = raw.get(field)
    if not isinstance(value, str) or not value:
        raise SpecificationInvalid(field=field, reason="it must be a text that is not empty")
    return value


def _integer(raw: Mapping[str, Any], field: str, *, minimum: int) -> int:
    value = raw.get(field)
    if not isinstance(value, int) or isinstance(value, bool) or value < minimum:
        raise SpecificationInvalid(field=field, reason=f"it must be a whole number of at least {minimum}")
    return value


def _positive(raw: Mapping[str, Any], field: str) -> float:
    value = raw.get(field)
    if not isinstance(value, int | float) or isinstance(value, bool) or not 0 < value < float("inf"):
        raise SpecificationInvalid(field=field, reason="it must be a number above zero")
    return float(value)
