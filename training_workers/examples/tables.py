"""What every file format is read as."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from training_workers.examples.rows import MAX_ROW_BYTES

# One row in its file, which may need quotes and escapes (six bytes for one of two) around the same text.
MAX_RECORD_BYTES = 4 * MAX_ROW_BYTES


@dataclass(frozen=True)
class Table:
    """A file's column names (None where it holds nothing), and its rows as a stream that is read once."""

    columns: tuple[str, ...] | None
    rows: Iterator[Mapping[str, Any]]
