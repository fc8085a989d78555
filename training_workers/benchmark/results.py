"""The results file: one JSON object a line, one line a run that finished or was refused, appended at its end."""

import fcntl
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from training_workers.errors import BenchmarkRunning

Record = Mapping[str, Any]


@contextmanager
def sole_writer(file: Path) -> Iterator[None]:
    """Be the one that writes to a results file; the kernel's lock ends with its holder, kill -9 included.

    Raises BenchmarkRunning where somebody else is.
    """
    file.parent.mkdir(parents=True, exist_ok=True)
    with file.open("ab") as held:
        try:
            fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise BenchmarkRunning(path=str(file)) from None
        yield


class Results:
    """The runs that are over by key. One process writes (`sole_writer`); a line that a crash cut off counts as none."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._records = {record["key"]: record for record in _read(file)}

    def get(self, key: str) -> Record | None:
        """What came of the run of this key, if it is over: it has a `result`, or a reason why it was `refused`."""
        return self._records.get(key)

    def append(self, record: Record) -> None:
        """Add a run that is over: its line is on the disk, whole, when this returns."""
        line = json.dumps(record, sort_keys=True).encode() + b"\n"
        if not _ends_whole(self._file):
            line = b"\n" + line
        with self._file.open("ab") as content:
            content.write(line)
            content.flush()
            os.fsync(content.fileno())
        self._records[record["key"]] = record


def _read(file: Path) -> list[Record]:
    if not file.exists():
        return []
    records = []
    for line in file.read_text(encoding="utf-8").splitlines():
        try:
            records.append(json.loads(line))
        except ValueError:
            continue
    return records


def _ends_whole(file: Path) -> bool:
    if not file.exists() or not file.stat().st_size:
        return True
    with file.open("rb") as content:
        content.seek(-1, os.SEEK_END)
        return content.read() == b"\n"
