"""Doing the plan: jobs to processes, finished runs to the results file, and a word on how far it is."""

import os
import platform
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any, Protocol

from training_workers.benchmark.processes import Broken, Finished, Job, Message, Processes
from training_workers.benchmark.results import Record, Results
from training_workers.benchmark.schedule import Schedule

LIBRARIES = ("torch", "transformers", "safetensors", "numpy")


class Watcher(Protocol):
    """Somebody who is told how it goes."""

    def note(self, message: Message, schedule: Schedule) -> None:
        """Take what a process said; the schedule knows of it already."""


def do_plan(schedule: Schedule, processes: Processes, results: Results, watcher: Watcher) -> None:
    """Every run that is not finished yet and fits into the time; of broken ones only refusals are written."""
    while True:
        while processes.is_any_free and (job := schedule.next_job()) is not None:
            processes.give(job)
        if not processes.jobs:
            return
        for message in processes.messages():
            if isinstance(message, Finished):
                made_with = {**machine(), **message.runtime}
                results.append({**_record(message.job), "machine": made_with, "result": message.result})
                schedule.end(message.job.run)
            elif isinstance(message, Broken):
                if message.is_refusal:
                    results.append({**_record(message.job), "refused": message.reason})
                schedule.end(message.job.run, reason=message.reason)
            watcher.note(message, schedule)


def machine() -> dict[str, Any]:
    """What the results were made on and with; no name and no path of it."""
    return {
        "processor": _processor(),
        "n_cores": os.cpu_count() or 1,
        "python": platform.python_version(),
        **{library: version(library) for library in LIBRARIES},
    }


def _record(job: Job) -> Record:
    run = job.run
    return {
        "key": job.key,
        "base": run.base,
        "task": run.task,
        "method": run.arm.method,
        "recipe": run.arm.recipe_name,
        "split": run.split,
        "seed": run.seed,
        "candidate": run.candidate,
        "settings": job.chosen,
        "machine": machine(),
        "finished_at": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def _processor(facts: Path = Path("/proc/cpuinfo")) -> str:
    lines = facts.read_text(encoding="utf-8").splitlines() if facts.exists() else []
    models = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return models[0] if models else platform.machine()
