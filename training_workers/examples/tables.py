"""What every file format is read as."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Table:
    """A file's column names (None where it holds nothing), and its rows as a stream that is read once."""

    columns: tuple[str, ...] | None
    rows: Iterator[Mapping[str, Any]]
