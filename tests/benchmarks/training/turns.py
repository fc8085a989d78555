"""A contender's side of the pipe: load, warm up, say so, then a training run for each `turn` that comes."""

import argparse
import json
import os
import resource
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Protocol, TextIO

from tests.benchmarks.training.contenders import START

TASK_FILE: Final = "task.json"
START_FILE: Final = f"{START}.safetensors"
N_WARM_UP_STEPS: Final = 2


@dataclass(frozen=True)
class Task:
    """What all contenders train: the same rows, each once, from the same start prefix."""

    base_directory: str
    specification: Mapping[str, Any]
    rows: list[dict[str, str]]
    held_out: list[dict[str, str]]

    @classmethod
    def read(cls, place: Path) -> "Task":
        """The task as the benchmark has written it."""
        return cls(**json.loads((place / TASK_FILE).read_text()))

    def texts(self) -> list[tuple[str, str]]:
        """Prompt and answer of each row."""
        task = self.specification["task"]
        return [
            (
                task["template"].replace("{text}", row["text"][: task["max_text_characters"]]),
                task["label_words"][row["label"]],
            )
            for row in self.rows
        ]


class Engine(Protocol):
    """What trains."""

    def facts(self) -> dict[str, Any]:
        """What the benchmark has to know of it once it is warm."""

    def train(self, n_steps: int) -> tuple[float, float]:
        """Trains the start prefix on the first rows; returns seconds and processor seconds."""

    def figures(self) -> dict[str, int]:
        """`peak_bytes`, the most memory that it has had, on the device or else resident; and what else counts."""

    def save(self, path: Path) -> None:
        """Writes the prefix that was trained last, as safetensors."""


def timed(train: Callable[[], None]) -> tuple[float, float]:
    """Seconds and processor seconds of a call in this process."""
    started_at, cpu_started_at = time.perf_counter(), time.process_time()
    train()
    return time.perf_counter() - started_at, time.process_time() - cpu_started_at


def peak_bytes() -> int:
    """The most that torch has had of the GPU, or else the largest resident set of this process."""
    import torch  # not above: Prelude's side of the pipe has none

    if torch.cuda.is_available():
        return int(torch.cuda.max_memory_allocated())
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def parse() -> argparse.Namespace:
    """A contender's command line."""
    parser = argparse.ArgumentParser()
    parser.add_argument("place", type=Path)
    parser.add_argument("contender")
    parser.add_argument("--dtype")
    parser.add_argument("--buckets", action="store_true")
    return parser.parse_args()


def serve(engine_from: Callable[[argparse.Namespace, Task], Engine]) -> None:
    """Does as it is told until the input ends; what libraries print goes to the log."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    arguments = parse()
    task = Task.read(arguments.place)
    engine = engine_from(arguments, task)
    engine.train(N_WARM_UP_STEPS)
    _answer(answers, engine.facts())
    for _turn in sys.stdin:
        seconds, cpu_seconds = engine.train(task.specification["training"]["n_steps"])
        engine.save(arguments.place / f"{arguments.contender}.safetensors")
        _answer(answers, {"seconds": seconds, "cpu_seconds": cpu_seconds, **engine.figures()})


def _answer(answers: TextIO, content: Mapping[str, Any]) -> None:
    answers.write(json.dumps(content) + "\n")
    answers.flush()
