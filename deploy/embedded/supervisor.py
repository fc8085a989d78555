"""Keeps processes running: starts what is wanted, restarts what died, stops what is no longer wanted."""

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from subprocess import Popen, TimeoutExpired
from types import TracebackType
from typing import Final, Self

from deploy.embedded.errors import UnknownProcess
from deploy.embedded.processes import ProcessSpecification, kill_group, spawn, tail
from tenants.errors import PreludeError

LOOK_EVERY_SECONDS: Final = 0.1
FIRST_DELAY_SECONDS: Final = 0.2
LONGEST_DELAY_SECONDS: Final = 10.0
STEADY_AFTER_SECONDS: Final = 30.0

logger = logging.getLogger(__name__)


@dataclass
class Child:
    """A specification and the process that carries it out at present."""

    specification: ProcessSpecification
    is_wanted: bool = True
    process: Popen[bytes] | None = None
    n_starts: int = 0
    started_at: float = 0.0
    due_at: float = 0.0
    delay_seconds: float = FIRST_DELAY_SECONDS

    @property
    def names(self) -> set[str]:
        """What it can be called by."""
        return {self.specification.name, self.specification.role}

    def postpone(self) -> float:
        """Set when the next start is due, later after each quick death; returns the delay in seconds."""
        if time.monotonic() - self.started_at > STEADY_AFTER_SECONDS:
            self.delay_seconds = FIRST_DELAY_SECONDS
        delay = self.delay_seconds
        self.due_at = time.monotonic() + delay
        self.delay_seconds = min(2 * delay, LONGEST_DELAY_SECONDS)
        return delay


class Supervisor:
    """One thread that starts and watches every child.

    All children begin in that one thread because the kernel's parent-death signal follows the thread that
    forked, not the process: a child begun in a short-lived thread would be killed with it.
    """

    def __init__(self, *, logs: Path, on_change: Callable[[], None] = lambda: None) -> None:
        self._logs = logs
        self._on_change = on_change
        self._children: dict[str, Child] = {}
        self._changed = threading.Condition(threading.RLock())
        self._is_closing = False
        self._thread = threading.Thread(target=self._watch, name="supervisor", daemon=True)
        logs.mkdir(parents=True, exist_ok=True)
        self._thread.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def start(self, specification: ProcessSpecification) -> None:
        """Want this process from now on; returns when its first start was tried."""
        with self._changed:
            child = Child(specification)
            self._children[specification.name] = child
            self._await_start(child)

    def stop(self, *names: str) -> None:
        """End processes by name or role, the latest started first, and keep them ended."""
        children = self._select(*names)[::-1]
        with self._changed:
            for child in children:
                child.is_wanted = False
                if child.process is not None and child.process.poll() is None:
                    child.process.send_signal(child.specification.stop_signal)
        asked_at = time.monotonic()
        for child in children:
            self._reap(child, deadline=asked_at + child.specification.stop_seconds)

    def resume(self, *names: str) -> None:
        """Start again what `stop` ended."""
        with self._changed:
            for child in self._select(*names):
                if not child.is_wanted:
                    child.is_wanted, child.due_at = True, 0.0
                    self._await_start(child)

    def restart(self, *names: str) -> None:
        """Stop in good order and start again at once."""
        self.stop(*names)
        self.resume(*names)

    def pids(self, *names: str) -> list[int]:
        """Process ids of what runs now, by name or role, in the order of the starts."""
        with self._changed:
            processes = [child.process for child in self._select(*names)]
            return [process.pid for process in processes if process is not None and process.poll() is None]

    def log(self, name: str) -> Path:
        """Where a process writes."""
        return self._logs / f"{name}.log"

    def report(self) -> dict[str, dict[str, object]]:
        """What `status.json` says about each process."""
        with self._changed:
            return {
                name: {
                    "role": child.specification.role,
                    "pid": child.process.pid if child.process and child.process.poll() is None else None,
                    "n_restarts": max(0, child.n_starts - 1),
                }
                for name, child in self._children.items()
            }

    def close(self) -> None:
        """Stop everything in the reverse order of the starts, one role after the other, then the thread."""
        roles = dict.fromkeys(child.specification.role for child in self._children.values())
        for role in reversed(roles):
            self.stop(role)
        with self._changed:
            self._is_closing = True
            self._changed.notify_all()
        self._thread.join()

    def _select(self, *names: str) -> list[Child]:
        with self._changed:
            children = list(self._children.values())
            known = {name for child in children for name in child.names}
            for name in names:
                if name not in known:
                    raise UnknownProcess(name=name, known=sorted(known))
            return [child for child in children if not names or child.names & set(names)]

    def _await_start(self, child: Child) -> None:
        n_before = child.n_starts
        self._changed.notify_all()
        self._changed.wait_for(lambda: child.n_starts > n_before or self._is_closing)

    def _watch(self) -> None:
        with self._changed:
            while not self._is_closing:
                for child in list(self._children.values()):
                    self._look_after(child)
                self._changed.wait(LOOK_EVERY_SECONDS)

    def _look_after(self, child: Child) -> None:
        name = child.specification.name
        if not child.is_wanted:
            return
        if child.process is None and time.monotonic() >= child.due_at:
            self._begin(child)
        elif child.process is not None and child.process.poll() is not None:
            status = child.process.returncode
            kill_group(child.process)
            child.process = None
            delay = child.postpone()
            logger.warning("%s ended with status %d; restart in %.1f s", name, status, delay)
            self._on_change()

    def _begin(self, child: Child) -> None:
        name = child.specification.name
        child.started_at = time.monotonic()
        try:
            child.process = spawn(child.specification, log=self.log(name))
        except (OSError, PreludeError):
            logger.exception("%s could not be started; next try in %.1f s", name, child.postpone())
        else:
            logger.info("%s started as process %d", name, child.process.pid)
        child.n_starts += 1
        self._changed.notify_all()
        self._on_change()

    def _reap(self, child: Child, *, deadline: float) -> None:
        if child.process is None:
            return
        try:
            child.process.wait(timeout=max(0.0, deadline - time.monotonic()))
        except TimeoutExpired:
            logger.warning(
                "%s did not stop in time and is killed: %s", child.specification.name, self.last_words(child)
            )
        kill_group(child.process)
        child.process.wait()
        child.process = None
        self._on_change()

    def last_words(self, child: Child) -> str:
        """The last line of a child's log."""
        return tail(self.log(child.specification.name)).rpartition("\n")[2]
