"""Directories that a benchmark or a fault loop empties when it begins: none but what an earlier run has made."""

import shutil
from pathlib import Path
from typing import Final

MARK: Final = ".made-by-a-run"


def emptied(place: Path) -> Path:
    """The directory, with nothing but its mark in it. Raises SystemExit where it holds what no earlier run has made."""
    if place.exists() and any(place.iterdir()) and not (place / MARK).exists():
        raise SystemExit(
            f"{place} was made by no earlier run and is left as it is: move it, or name another."
        )
    shutil.rmtree(place, ignore_errors=True)
    place.mkdir(parents=True)
    (place / MARK).touch()
    return place
