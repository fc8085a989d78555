"""Who contends, and one contender's process: it stays, and trains anew each time it is told to."""

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any, Final

from deploy.embedded.processes import tail
from tests.platform import PROJECT


class Contender(StrEnum):
    """What trains; the module that does it, with its options, is in MODULES."""

    PRELUDE = "prelude"
    LOOP = "loop"
    PLAIN_LOOP = "plain-loop"
    TRAINER = "trainer"
    TRAINER_SAME_DTYPE = "trainer-same-dtype"


LOSSES_FILE: Final = "losses.json"
START: Final = "start"
"""The prefix that all begin with, as the judge calls it."""
TITLES: Final[Mapping[Contender, str]] = {
    Contender.PRELUDE: "Prelude's resident trainer",
    Contender.LOOP: "loop by hand, bucketed",
    Contender.PLAIN_LOOP: "loop by hand, plain",
    Contender.TRAINER: "Trainer, PEFT: float32",
    Contender.TRAINER_SAME_DTYPE: "Trainer, PEFT: base as Prelude's",
}
MODULES: Final[Mapping[Contender, tuple[str, ...]]] = {
    Contender.PRELUDE: ("prelude",),
    Contender.LOOP: ("loop", "--buckets"),
    Contender.PLAIN_LOOP: ("loop",),
    Contender.TRAINER: ("hugging_face", "--dtype", "float32"),
    Contender.TRAINER_SAME_DTYPE: ("hugging_face",),
}


@dataclass(frozen=True)
class Turn:
    """One training run, from the rows' texts to the trained prefix; the processor's seconds are all threads'.

    `peak_bytes` is the most memory that the contender has had until then, on the device or else resident; `n_tokens`
    is what it trained on, where it counts them.
    """

    seconds: float
    cpu_seconds: float
    peak_bytes: int
    n_tokens: int | None = None


class ContenderFailed(Exception):
    """A contender's process ended; its log's end says why."""


class Process:
    """A contender in a process of its own. It loads and warms up as it starts; between turns it sleeps."""

    def __init__(self, contender: Contender, place: Path, *, n_threads: int, dtype: str | None) -> None:
        module, *options = MODULES[contender]
        command = [sys.executable, "-m", f"tests.benchmarks.training.{module}", str(place), contender]
        if dtype is not None and "--dtype" not in options:
            options += ["--dtype", dtype]
        self._log = place / f"{contender}.log"
        with self._log.open("w") as log:
            self._process = subprocess.Popen(
                [*command, *options],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                cwd=PROJECT,
                env=environment(n_threads),
            )
        self.facts = self._read()

    def take_turn(self) -> Turn:
        """Train once; then the prefix lies beside the task."""
        return Turn(**self._ask("turn"))

    def kill(self) -> None:
        """End it, whatever it does."""
        self._process.kill()
        self._process.wait()

    def _ask(self, word: str) -> dict[str, Any]:
        assert self._process.stdin is not None
        self._process.stdin.write(f"{word}\n")
        self._process.stdin.flush()
        return self._read()

    def _read(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            self._process.wait()
            raise ContenderFailed(f"ended with status {self._process.returncode}: {tail(self._log)}")
        answer: dict[str, Any] = json.loads(line)
        return answer


def judge(place: Path, *, n_threads: int) -> dict[str, float]:
    """The loss of the start prefix and of each contender's on the held-out rows, in float32."""
    subprocess.run(
        [sys.executable, "-m", "tests.benchmarks.training.judge", str(place)],
        stdout=subprocess.DEVNULL,
        check=True,
        cwd=PROJECT,
        env={**environment(n_threads), "PRELUDE_TRAINING_DTYPE": "float32"},
    )
    losses: dict[str, float] = json.loads((place / LOSSES_FILE).read_text())
    return losses


def environment(n_threads: int) -> dict[str, str]:
    """Of a process that computes."""
    return {
        **os.environ,
        "PYTHONPATH": str(PROJECT),
        "OMP_NUM_THREADS": str(n_threads),
        "MKL_NUM_THREADS": str(n_threads),
        "PRELUDE_TRAINING_THREADS": str(n_threads),
        "TOKENIZERS_PARALLELISM": "false",
        "HF_HUB_OFFLINE": "1",
    }
