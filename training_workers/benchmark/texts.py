"""The benchmark's tasks: rows by domain, each on one of three sides that follows from its text alone.

What the platform would hold out is the test side; a fifth of all is for validation, on which every setting and
the best round are chosen; the rest is trained on. The sides are the same for every seed.
"""

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from statistics import fmean
from typing import Any

from training_workers.errors import BenchmarkFilesMissing
from training_workers.examples import Example, LabelExample, input_hash, is_held_out, read_examples
from training_workers.examples.split import HELD_OUT_ONE_IN

Strata = Mapping[str, Sequence[Example]]
"""Rows by stratum: the rows of one domain with one label."""

MAX_TEXT_CHARACTERS = 300
_VALIDATION_REMAINDER = 1  # held-out rows have the remainder 0


@dataclass(frozen=True)
class TaskDefinition:
    """A task as a federation's specification has it, and the public text that its prefixes start from."""

    section: Mapping[str, Any]
    start_text: str


TASKS: Mapping[str, TaskDefinition] = {
    "sentiment": TaskDefinition(
        section={
            "kind": "label",
            "template": "{text}\nSentiment:",
            "label_words": {"positive": " positive", "negative": " negative"},
            "max_text_characters": MAX_TEXT_CHARACTERS,
        },
        start_text="I loved it.\nSentiment: positive\nI hated it.\nSentiment: negative\n",
    ),
    "topics": TaskDefinition(
        section={
            "kind": "label",
            "template": "{text}\nTopic:",
            "label_words": {
                "business": " business",
                "entertainment": " entertainment",
                "politics": " politics",
                "sports": " sports",
                "tech": " technology",
            },
            "max_text_characters": MAX_TEXT_CHARACTERS,
        },
        start_text="The shares fell.\nTopic: business\nThe team won.\nTopic: sports\nA new phone.\nTopic: technology\n",
    ),
}


@dataclass(frozen=True)
class Row:
    """One row and the domain that it is from."""

    domain: str
    example: LabelExample

    @property
    def stratum(self) -> str:
        """Domain and label: what a tenant's rows are a mixture of."""
        return f"{self.domain}/{self.example.label}"


@dataclass(frozen=True)
class Texts:
    """A task's rows by side; `sha256` is over all of them."""

    domains: tuple[str, ...]
    train: tuple[Row, ...]
    validation: Strata
    test: Strata
    sha256: str

    @cached_property
    def mean_characters(self) -> float:
        """Of a row to train on, as far as a prompt holds it."""
        return fmean(min(len(row.example.text), MAX_TEXT_CHARACTERS) for row in self.train)


@dataclass(frozen=True)
class Alike:
    """Of rows for validation and to test on, how many show a model the same as a row to train on."""

    n_validation: int
    n_validation_alike: int
    n_test: int
    n_test_alike: int


def count_alike(texts: Texts) -> Alike:
    """Texts that differ only behind what a prompt holds of them may be on different sides."""
    trained = {_shown(row.example) for row in texts.train}
    n_alike = [
        sum(_shown(example) in trained for examples in side.values() for example in examples)
        for side in (texts.validation, texts.test)
    ]
    return Alike(count(texts.validation), n_alike[0], count(texts.test), n_alike[1])


def _shown(example: Example) -> int:
    return input_hash(example, max_characters=MAX_TEXT_CHARACTERS)


def read_texts(directory: Path, *, n_train: int | None, n_validation: int, n_test: int) -> Texts:
    """Reads a task's directory, one JSON Lines file (`text`, `label`) a domain; takes about as many rows as said.

    Raises:
        BenchmarkFilesMissing: there is no such file.
        DatasetRefusal: a file cannot be read.
    """
    files = sorted(directory.glob("*.jsonl"))
    if not files:
        raise BenchmarkFilesMissing(path=str(directory))
    rows = [row for file in files for row in _domain_rows(file)]
    rows.sort(key=lambda row: input_hash(row.example))
    sides: dict[str, list[Row]] = {"train": [], "validation": [], "test": []}
    for row in rows:
        sides[_side(row)].append(row)
    return Texts(
        domains=tuple(file.stem for file in files),
        train=tuple(sides["train"][:n_train]),
        validation=_by_stratum(sides["validation"], n=n_validation),
        test=_by_stratum(sides["test"], n=n_test),
        sha256=_digest(files),
    )


def count(strata: Strata) -> int:
    """Rows of all strata."""
    return sum(map(len, strata.values()))


def _domain_rows(file: Path) -> list[Row]:
    with file.open("rb") as content:
        examples = list(read_examples(content, "jsonl"))
    return [Row(file.stem, example) for example in examples if isinstance(example, LabelExample)]


def _side(row: Row) -> str:
    hashed = input_hash(row.example)
    if is_held_out(hashed):
        return "test"
    return "validation" if hashed % HELD_OUT_ONE_IN == _VALIDATION_REMAINDER else "train"


def _by_stratum(rows: Iterable[Row], *, n: int) -> dict[str, list[Example]]:
    """Equally many rows of each stratum, the first ones, `n` in all; fewer where there are not as many."""
    strata: dict[str, list[Example]] = {}
    for row in rows:
        strata.setdefault(row.stratum, []).append(row.example)
    return {name: found[: -(-n // len(strata))] for name, found in sorted(strata.items())}


def _digest(files: Iterable[Path]) -> str:
    digests = (hashlib.sha256(file.read_bytes()).hexdigest() for file in files)
    return hashlib.sha256("\n".join(digests).encode()).hexdigest()
