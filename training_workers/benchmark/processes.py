"""The processes that the runs are made in: each has its base model, and does one run at a time."""

import multiprocessing
import os
import signal
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from typing import Any

from tenants.errors import PreludeError
from training_workers.benchmark.arms import Sections
from training_workers.benchmark.plan import Run
from training_workers.benchmark.workplace import Workplace

THREADS_VARIABLE = "PRELUDE_TRAINING_THREADS"


@dataclass(frozen=True)
class Job:
    """A run with its settings."""

    run: Run
    chosen: Sections
    key: str


@dataclass(frozen=True)
class Noted:
    """How far a run is."""

    job: Job
    text: str


@dataclass(frozen=True)
class Finished:
    """A run that came to its end, and what its numbers were computed with."""

    job: Job
    result: dict[str, Any]
    runtime: Mapping[str, str]


@dataclass(frozen=True)
class Broken:
    """A run that did not, and why; a refusal is one that would come again."""

    job: Job
    reason: str
    is_refusal: bool = False


Message = Noted | Finished | Broken


class _Process:
    """One process and the way to it."""

    def __init__(self, workplace: Workplace) -> None:
        context = multiprocessing.get_context("spawn")
        self.connection, far_end = context.Pipe()
        self.job: Job | None = None
        # A daemon ends with this process; one that this process left behind ends at its pipe's end.
        self._process: SpawnProcess = context.Process(target=_serve, args=(far_end, workplace), daemon=True)
        self._process.start()
        far_end.close()

    def give(self, job: Job) -> None:
        self.job = job
        self.connection.send(job)

    def end(self) -> int | None:
        self._process.terminate()
        self._process.join()
        self.connection.close()
        return self._process.exitcode


class Processes:
    """So many processes, used as a context: at its end they are gone."""

    def __init__(self, workplace: Workplace, n: int) -> None:
        self._workplace = workplace
        os.environ.setdefault(THREADS_VARIABLE, str(max(1, (os.cpu_count() or 1) // n)))
        self._processes = [_Process(workplace) for _ in range(n)]

    def __enter__(self) -> "Processes":
        return self

    def __exit__(self, *_: object) -> None:
        for process in self._processes:
            process.end()

    @property
    def is_any_free(self) -> bool:
        """Whether a job can be given."""
        return any(process.job is None for process in self._processes)

    @property
    def jobs(self) -> list[Job]:
        """What is being done."""
        return [process.job for process in self._processes if process.job is not None]

    def give(self, job: Job) -> None:
        """Hand a job to a free process."""
        next(process for process in self._processes if process.job is None).give(job)

    def messages(self) -> Iterator[Message]:
        """What the processes say next; waits until one says something."""
        busy = {process.connection: process for process in self._processes if process.job is not None}
        for connection in wait(list(busy)):
            assert isinstance(connection, Connection)
            yield self._receive(busy[connection])

    def _receive(self, process: _Process) -> Message:
        job = process.job
        assert job is not None
        try:
            message: Message = process.connection.recv()
        except (EOFError, ConnectionResetError):
            exit_code = process.end()
            self._processes[self._processes.index(process)] = _Process(self._workplace)
            return Broken(job, f"its process ended (exit code {exit_code})")
        if not isinstance(message, Noted):
            process.job = None
        return message


def _serve(connection: Connection, workplace: Workplace) -> None:
    """Do one job after the other until the other end is closed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's, which ends this process
    # Through every `with`: a round's temporary directory may hold hundreds of megabytes.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    while True:
        try:
            job: Job = connection.recv()
        except EOFError:
            return
        connection.send(_done(connection, workplace, job))


def _done(connection: Connection, workplace: Workplace, job: Job) -> Message:
    try:
        result = workplace.do(job.run, job.chosen, lambda text: connection.send(Noted(job, text)))
        return Finished(job, result, workplace.runtime(job.run.base))
    except PreludeError as refusal:
        return Broken(job, f"{refusal.code}: {refusal}", is_refusal=True)
