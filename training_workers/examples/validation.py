"""Validating a dataset in one pass: it is refused at the first row that cannot be used, or has facts."""

import array
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, BinaryIO

from federation.specification import RowKind
from training_workers.errors import (
    DatasetWithoutRows,
    LabelSingle,
    LabelsTooMany,
    NothingHeldOut,
    NothingToTrainOn,
    RowsTooFew,
    RowsTooMany,
)
from training_workers.examples.reading import open_table
from training_workers.examples.rows import COLUMNS_BY_KIND, Example, LabelExample, example_from_row, kind_of
from training_workers.examples.split import input_hash, is_held_out


@dataclass(frozen=True)
class DatasetLimits:
    """What one dataset may hold."""

    min_rows: int = 10
    max_rows: int = 2_000_000
    max_labels: int = 100


@dataclass(frozen=True)
class DatasetFacts:
    """What is known of a valid dataset; it holds no text of a row but the labels.

    A duplicate is a row whose input occurred before. `duplicates_are_exact` is false where the file has more
    different inputs than are remembered: then `n_duplicates` is a lower bound.
    """

    kind: RowKind
    columns: tuple[str, ...]
    n_ignored_columns: int
    n_rows: int
    n_train: int
    n_held_out: int
    n_duplicates: int
    duplicates_are_exact: bool
    labels: Mapping[str, int]
    input_characters: Mapping[str, int]

    def to_dict(self) -> dict[str, Any]:
        """The facts as JSON values."""
        return {**asdict(self), "columns": list(self.columns), "labels": dict(self.labels)}


def validate(file: BinaryIO, file_format: str, *, limits: DatasetLimits) -> DatasetFacts:
    """Reads the whole file once, in memory that does not grow with it.

    Raises:
        DatasetRefusal: the first thing that is wrong, with its row where one is to blame.
    """
    table = open_table(file, file_format)
    if table.columns is None:
        raise DatasetWithoutRows
    kind = kind_of(table.columns)
    census = _Census(limits=limits)
    for number, row in enumerate(table.rows, start=1):
        census.add(example_from_row(row, kind=kind, number=number), number)
    census.refuse_if_unusable()
    return census.facts(kind=kind, columns=table.columns)


@dataclass
class _Census:
    """Counts over the rows so far."""

    limits: DatasetLimits
    n_rows: int = 0
    n_held_out: int = 0
    n_duplicates: int = 0
    labels: dict[str, int] = field(default_factory=dict)
    lengths: "LengthHistogram" = field(default_factory=lambda: LengthHistogram())
    seen: "SeenInputs" = field(default_factory=lambda: SeenInputs())

    def add(self, example: Example, number: int) -> None:
        """Counts one row."""
        if number > self.limits.max_rows:
            raise RowsTooMany(limit=self.limits.max_rows)
        hashed = input_hash(example)
        self.n_rows = number
        self.n_held_out += is_held_out(hashed)
        self.n_duplicates += self.seen.add(hashed)
        self.lengths.add(len(example.input_text))
        if isinstance(example, LabelExample):
            self.labels[example.label] = self.labels.get(example.label, 0) + 1
            if len(self.labels) > self.limits.max_labels:
                raise LabelsTooMany(limit=self.limits.max_labels, row=number)

    def refuse_if_unusable(self) -> None:
        """Refuses what shows only at the end."""
        if self.n_rows == 0:
            raise DatasetWithoutRows
        if self.n_rows < self.limits.min_rows:
            raise RowsTooFew(n_rows=self.n_rows, minimum=self.limits.min_rows)
        if len(self.labels) == 1:
            raise LabelSingle(n_rows=self.n_rows)
        if self.n_held_out == 0:
            raise NothingHeldOut(n_rows=self.n_rows)
        if self.n_held_out == self.n_rows:
            raise NothingToTrainOn(n_rows=self.n_rows)

    def facts(self, *, kind: RowKind, columns: tuple[str, ...]) -> DatasetFacts:
        """The counts as facts."""
        used = COLUMNS_BY_KIND[kind]
        return DatasetFacts(
            kind=kind,
            columns=used,
            n_ignored_columns=len(columns) - len(used),
            n_rows=self.n_rows,
            n_train=self.n_rows - self.n_held_out,
            n_held_out=self.n_held_out,
            n_duplicates=self.n_duplicates,
            duplicates_are_exact=not self.seen.is_full,
            labels=dict(sorted(self.labels.items())),
            input_characters=self.lengths.summary(),
        )


class LengthHistogram:
    """Lengths in buckets: exact below 1,024, then 512 a doubling, so the median is right within 0.2 %."""

    def __init__(self) -> None:
        self._counts: dict[int, int] = {}
        self._minimum = 0
        self._maximum = 0

    def add(self, length: int) -> None:
        """Counts one length."""
        shift = max(0, length.bit_length() - 10)
        bucket = (length >> shift) << shift
        self._minimum = min(self._minimum, length) if self._counts else length
        self._maximum = max(self._maximum, length)
        self._counts[bucket] = self._counts.get(bucket, 0) + 1

    def summary(self) -> dict[str, int]:
        """Minimum, (lower) median and maximum."""
        n_left = (sum(self._counts.values()) + 1) // 2
        median = 0
        for bucket in sorted(self._counts):
            n_left -= self._counts[bucket]
            if n_left <= 0:
                median = bucket
                break
        return {"min": self._minimum, "median": median, "max": self._maximum}


class SeenInputs:
    """A set of 64-bit hashes in a fixed 16 MB, by open addressing: none is forgotten or mistaken.

    Above `capacity` different inputs nothing new is remembered: later rows are then compared with the first
    ones only.
    """

    def __init__(self, n_slots: int = 1 << 21) -> None:
        self._slots = array.array("Q", bytes(8 * n_slots))
        self._n_slots = n_slots
        self._n_stored = 0
        self.capacity = n_slots * 3 // 4
        self.is_full = False

    def add(self, hashed: int) -> bool:
        """Remembers the hash; returns whether it was there before."""
        wanted = hashed or 1  # 0 marks a free slot
        slot = wanted % self._n_slots
        while self._slots[slot]:
            if self._slots[slot] == wanted:
                return True
            slot = (slot + 1) % self._n_slots
        if self._n_stored == self.capacity:
            self.is_full = True
        else:
            self._slots[slot] = wanted
            self._n_stored += 1
        return False
