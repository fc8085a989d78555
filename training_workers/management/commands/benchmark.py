"""`manage.py benchmark`: how well the platform learns, measured, as a page with tables and plots."""

import os
import signal
import sys
from argparse import ArgumentParser, ArgumentTypeError
from collections.abc import Collection, Mapping
from contextlib import nullcontext
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError
from rich.console import Console

from tenants.errors import PreludeError
from training_workers.benchmark import plots
from training_workers.benchmark.arms import RECIPES
from training_workers.benchmark.partition import SPLITS, splits_of
from training_workers.benchmark.plan import BASES, CHOOSING_SEED, QUICK, Choices, make_plan
from training_workers.benchmark.processes import Processes
from training_workers.benchmark.progress import Teller
from training_workers.benchmark.report import Circumstances, make_page
from training_workers.benchmark.results import Results, sole_writer
from training_workers.benchmark.running import do_plan
from training_workers.benchmark.schedule import Schedule
from training_workers.benchmark.summary import make_lines
from training_workers.benchmark.texts import TASKS, count_alike
from training_workers.benchmark.workplace import SEEDS_APART, Workplace
from training_workers.methods import METHODS

RESULTS_FILE, PAGE_FILE = "learning.jsonl", "learning.md"
PLOTS = {"learning-splits.png": plots.draw_splits, "learning-bytes.png": plots.draw_bytes}
CHOICES: Mapping[str, Collection[str]] = {
    "bases": BASES,
    "tasks": TASKS,
    "methods": METHODS,
    "splits": SPLITS,
    "recipes": RECIPES,
}
QUICK_CHOICES: Mapping[str, Any] = {
    "recipes": ("base", "central", "short", "long", "local"),
    "splits": ("dirichlet-0.1", "identical"),
    "scale": QUICK,
}
LOG_COLUMNS = 200
MAX_SEED = (2**31 - 1) // SEEDS_APART  # a specification takes no greater one
INTERRUPTED = 130


class Command(BaseCommand):
    """Runs what is not finished yet, in the order of what tells most, and writes the page."""

    help = (
        "Measures methods, recipes and splits by the platform's own training and aggregation code; resumes."
    )
    requires_system_checks = []

    def add_arguments(self, parser: ArgumentParser) -> None:
        """What of the benchmark is to be run, and where things lie."""
        for name, known in CHOICES.items():
            parser.add_argument(f"--{name}", nargs="+", choices=list(known))
        parser.add_argument("--seeds", nargs="+", type=_seed, metavar="SEED")
        parser.add_argument("--quick", action="store_true", help="small, in minutes: to see that all works")
        parser.add_argument(
            "--hours", type=_hours, help="begin no comparison that would not be whole by then"
        )
        parser.add_argument("--report-only", action="store_true", help="write the page from what is finished")
        parser.add_argument(
            "--processes", type=_count, default=os.cpu_count(), help="runs at a time, which share the cores"
        )
        parser.add_argument("--texts", type=Path, default=Path("var/benchmark/texts"))
        parser.add_argument("--base-models", type=Path, default=Path("var/platform/base_models"))
        parser.add_argument("--output", type=Path, help="default: docs/benchmark, or var/benchmark/quick")

    def handle(self, **options: Any) -> None:
        """Run, and write; an interrupted benchmark goes on where it was."""
        signal.signal(signal.SIGTERM, signal.default_int_handler)
        try:
            schedule, workplace, output = self._measured(options)
        except PreludeError as refusal:
            raise CommandError(f"{refusal.code}: {refusal}") from None
        except KeyboardInterrupt:
            interrupted = "Interrupted. The same command goes on from here."
            raise CommandError(interrupted, returncode=INTERRUPTED) from None
        self.stdout.write(f"Written: {_write_page(schedule, workplace, output, options)}")
        if schedule.broken_now:
            raise CommandError(f"{len(schedule.broken_now)} runs broke; the page names them.")

    def _measured(self, options: dict[str, Any]) -> tuple[Schedule, Workplace, Path]:
        choices = _choices(options)
        workplace = Workplace(options["texts"], options["base_models"], choices.scale)
        splits = {task: splits_of(workplace.texts(task)) for task in choices.tasks}
        output = options["output"] or Path("var/benchmark/quick" if options["quick"] else "docs/benchmark")
        file = output / RESULTS_FILE
        limit_seconds = 3_600 * options["hours"] if options["hours"] else None
        plan = make_plan(choices, splits)
        with nullcontext() if options["report_only"] else sole_writer(file):
            results = Results(file)
            schedule = Schedule(plan, workplace, results, limit_seconds=limit_seconds)
            if not options["report_only"]:
                _run(schedule, workplace, results, n_processes=options["processes"])
        return schedule, workplace, output


def _seed(text: str) -> int:
    seed = int(text)
    if seed == CHOOSING_SEED or not 0 <= seed <= MAX_SEED:
        raise ArgumentTypeError(
            f"from 0 to {MAX_SEED}, and not {CHOOSING_SEED}, by which settings are chosen; not {text}"
        )
    return seed


def _hours(text: str) -> float:
    if not (hours := float(text)) > 0:
        raise ArgumentTypeError(f"more than none, not {text}")
    return hours


def _count(text: str) -> int:
    if (n := int(text)) < 1:
        raise ArgumentTypeError(f"one at least, not {text}")
    return n


def _run(schedule: Schedule, workplace: Workplace, results: Results, *, n_processes: int) -> None:
    # Without a terminal rich would cut its lines at 80 columns.
    console = Console(width=None if sys.stdout.isatty() else LOG_COLUMNS)
    with Processes(workplace, n_processes) as processes, Teller(console, schedule) as teller:
        do_plan(schedule, processes, results, teller)


def _choices(options: dict[str, Any]) -> Choices:
    asked = {name: tuple(options[name]) for name in (*CHOICES, "seeds") if options[name]}
    return Choices(**{**(QUICK_CHOICES if options["quick"] else {}), **asked})


def _told(options: dict[str, Any]) -> str:
    """The command, without this machine's directories."""
    words = ["manage.py benchmark"]
    for name in (*CHOICES, "seeds"):
        words += [f"--{name}", *map(str, options[name])] if options[name] else []
    words += ["--quick"] if options["quick"] else []
    words += [f"--hours {options['hours']:g}"] if options["hours"] else []
    return " ".join(words)


def _write_page(schedule: Schedule, workplace: Workplace, output: Path, options: dict[str, Any]) -> Path:
    output.mkdir(parents=True, exist_ok=True)
    lines = make_lines(schedule, workplace)
    circumstances = Circumstances(
        command=_told(options),
        scale=workplace.scale,
        is_quick=options["quick"],
        plots=[name for name, draw in PLOTS.items() if draw(lines, output / name)],
        alike={task: count_alike(workplace.texts(task)) for task in _choices(options).tasks},
    )
    page = output / PAGE_FILE
    page.write_text(make_page(schedule, lines, circumstances), encoding="utf-8")
    return page
