"""What a supervised process is, how it is started, and how everything it started is ended."""

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Final

ENTER_SCRIPT: Final = Path(__file__).with_name("enter.py")
MARKER: Final = "PRELUDE_PLATFORM_DIRECTORY"
LOG_LIMIT_BYTES: Final = 10_000_000


class Identity(StrEnum):
    """As whom a process runs."""

    SAME = "same"
    USER_NAMESPACE = "user_namespace"
    NOBODY = "nobody"


def nothing() -> None:
    """The preparation of a process that needs none."""


@dataclass(frozen=True, kw_only=True)
class ProcessSpecification:
    """A process to keep running. Secrets go through `environment` or `standard_input`, never `command`."""

    name: str
    role: str
    command: tuple[str, ...]
    working_directory: Path
    environment: Mapping[str, str] = field(default_factory=dict, repr=False)
    standard_input: bytes = field(default=b"", repr=False)
    prepare: Callable[[], None] = nothing
    stop_signal: signal.Signals = signal.SIGTERM
    stop_seconds: float = 10.0
    death_signal: signal.Signals = signal.SIGKILL
    identity: Identity = Identity.SAME


def entering(*, identity: Identity, death_signal: signal.Signals) -> list[str]:
    """The words before a command that make it a supervised child of this process."""
    script = [sys.executable, "-I", "-S", str(ENTER_SCRIPT)]
    return [*script, str(os.getpid()), str(int(death_signal)), identity.value]


def spawn(specification: ProcessSpecification, *, log: Path) -> subprocess.Popen[bytes]:
    """Start the process in a group of its own, with its output appended to the log."""
    specification.prepare()
    make_room(log)
    entry = entering(identity=specification.identity, death_signal=specification.death_signal)
    with log.open("ab") as output:
        process = subprocess.Popen(  # noqa: S603 - our own words
            [*entry, *specification.command],
            stdin=subprocess.PIPE,
            stdout=output,
            stderr=subprocess.STDOUT,
            cwd=specification.working_directory,
            env=dict(specification.environment),
            start_new_session=True,
        )
    assert process.stdin is not None
    # A process that died at once is the supervisor's business, which sees its exit status.
    with contextlib.suppress(BrokenPipeError), process.stdin as pipe:
        pipe.write(specification.standard_input)
    return process


def make_room(log: Path) -> None:
    """Set an overgrown log aside, keeping one older generation."""
    if log.exists() and log.stat().st_size > LOG_LIMIT_BYTES:
        log.replace(log.with_suffix(".log.1"))


def tail(log: Path, *, n_bytes: int = 2000) -> str:
    """The end of a log, for an error's text."""
    if not log.exists():
        return ""
    with log.open("rb") as file:
        file.seek(max(0, log.stat().st_size - n_bytes))
        return file.read().decode(errors="replace").strip()


def kill_group(process: subprocess.Popen[bytes]) -> None:
    """Kill what is left of the process's group, the process itself included."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)


def kill_marked(directory: Path) -> list[int]:
    """Kill every process whose environment says that it belongs to the platform of this directory.

    Reaches what outlived a supervisor that was killed, whatever its parent is now. Returns the process ids.
    """
    mark = f"{MARKER}={directory}".encode()
    killed = [pid for pid in other_pids() if mark in environment_of(pid)]
    for pid in killed:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    return killed


def other_pids() -> list[int]:
    """Every process of this machine but this one; none where there is no /proc."""
    own = os.getpid()
    return [int(path.name) for path in Path("/proc").glob("[0-9]*") if int(path.name) != own]


def environment_of(pid: int) -> list[bytes]:
    """The environment that a process began with; empty if it is gone or another user's."""
    try:
        return Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
    except OSError:
        return []


def wait_until_gone(pids: list[int], *, seconds: float) -> list[int]:
    """Wait for processes that need not be children of this one; returns those that are still there."""
    deadline = time.monotonic() + seconds
    left = pids
    while left and time.monotonic() < deadline:
        time.sleep(0.02)
        left = [pid for pid in left if is_alive(pid)]
    return left


def is_alive(pid: int) -> bool:
    """Whether a process still runs; a zombie does not."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state != "Z"
