"""What aggregation takes in memory and time, against NumPy on all updates at once: each case in a process of its own.

python -m tests.benchmarks.aggregation [--quick]
"""

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from pydantic import TypeAdapter
from safetensors.numpy import load_file, save_file

from federation.aggregation.combining import Recipe, WeightedUpdate, combine
from federation.aggregation_settings import Rule

MEGABYTE: Final = 1e6
RULES: Final[Sequence[Mapping[str, Any]]] = (
    {"kind": "weighted_mean"},
    {"kind": "median"},
    {"kind": "trimmed_mean", "n_trimmed": 1},
    {"kind": "multi_krum", "n_byzantine": 1, "n_selected": 3},
    {"kind": "norm_clipping", "max_norm": 1.0},
)


@dataclass(frozen=True)
class Case:
    """So many updates of so many float32 values each."""

    n_updates: int
    n_values: int


CASES: Final = (Case(4, 225_000), Case(8, 16_000_000), Case(1_000, 225_000))
QUICK: Final = (Case(4, 225_000), Case(50, 225_000))


def make_files(case: Case, directory: Path) -> None:
    """A parent of zeros and updates drawn at random."""
    generator = np.random.default_rng(0)
    save_file({"x": np.zeros(case.n_values, np.float32)}, directory / "parent")
    for number in range(case.n_updates):
        drawn = generator.standard_normal(case.n_values, dtype=np.float32)
        save_file({"x": drawn}, directory / f"update{number:04}")


def combine_files(settings: Mapping[str, Any], directory: Path, updates: Sequence[Path]) -> None:
    """As the coordinator does it."""
    with tempfile.TemporaryDirectory(dir=directory) as made:
        combine(
            version=directory / "parent",
            server_state=None,
            updates=[WeightedUpdate(path, 1.0) for path in updates],
            recipe=Recipe(rule=TypeAdapter[Rule](Rule).validate_python(settings)),
            directory=Path(made),
        )


def stack_files(settings: Mapping[str, Any], directory: Path, updates: Sequence[Path]) -> None:
    """The same by the shortest NumPy there is: all updates in one array."""
    rows = np.stack([load_file(path)["x"] for path in updates]).astype(np.float64)
    change = np.median(rows, axis=0) if settings["kind"] == "median" else rows.mean(axis=0)
    save_file({"x": change.astype(np.float32)}, directory / "stacked")


def measure(what: str, settings: Mapping[str, Any], directory: Path) -> None:
    """In a process of its own: prints the seconds and by how many bytes the resident set grew at most."""
    work = {"here": combine_files, "numpy": stack_files}[what]
    updates = sorted(directory.glob("update*"))
    before = peak_bytes()
    started_at = time.perf_counter()
    work(settings, directory, updates)
    seconds = time.perf_counter() - started_at
    print(json.dumps({"seconds": seconds, "bytes": peak_bytes() - before}))


def peak_bytes() -> int:
    """The process's largest resident set. Linux's own figure: getrusage hands a parent's down to its children."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM"))


def measured(what: str, settings: Mapping[str, Any], directory: Path) -> dict[str, float]:
    """The same from outside."""
    command = [sys.executable, "-m", __spec__.name, what, json.dumps(settings), str(directory)]
    told = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    found: dict[str, float] = json.loads(told)
    return found


def report(case: Case) -> None:
    """One line a rule; NumPy beside those that it has a word for."""
    print(f"{case.n_updates} updates of {4 * case.n_values / MEGABYTE:.1f} MB")
    with tempfile.TemporaryDirectory(prefix="prl") as directory:
        make_files(case, Path(directory))
        for settings in RULES:
            if TypeAdapter[Rule](Rule).validate_python(settings).n_needed > case.n_updates:
                continue
            line = f"  {settings['kind']:<14}"
            peers = ("here", "numpy") if settings["kind"] in ("weighted_mean", "median") else ("here",)
            for what in peers:
                found = measured(what, settings, Path(directory))
                line += f" {what}: {found['seconds']:8.3f} s, {found['bytes'] / MEGABYTE:8.1f} MB"
            print(line, flush=True)


def main() -> None:
    """All cases one after the other, or one measurement for a parent process."""
    if len(sys.argv) == 4:
        measure(sys.argv[1], json.loads(sys.argv[2]), Path(sys.argv[3]))
        return
    for case in QUICK if "--quick" in sys.argv else CASES:
        report(case)


if __name__ == "__main__":
    main()
