"""What a session tells the benchmark: marks in time, and what all of its processes have used until then.

The peers import this in environments of their own: it needs the standard library alone.
"""

import contextlib
import json
import os
import time
from collections.abc import Iterator
from pathlib import Path

FILE = "BENCH_MARKS"
ROOT = "BENCH_ROOT"  # the process from which all of the session's processes descend
N_TENANTS = "BENCH_TENANTS"
PAYLOAD_BYTES = "BENCH_PAYLOAD_BYTES"
N_ROUNDS = "BENCH_ROUNDS"  # the first one, which warms everything up, included
HOLD = "BENCH_HOLD"  # a directory; set where a client is to be killed in mid-round
HOLD_SECONDS = 900.0
HELD = "held"

_TICKS = os.sysconf("SC_CLK_TCK")
_PROC = Path("/proc")


def number(name: str) -> int:
    """One of the session's figures."""
    return int(os.environ[name])


def mark(event: str, **facts: object) -> None:
    """Append one line to the session's marks."""
    line = json.dumps({"event": event, "at": time.time(), **facts})
    with Path(os.environ[FILE]).open("a") as file:
        file.write(line + "\n")


def n_needed() -> int:
    """Of how many clients a peer needs answers: all, but where one is killed."""
    return 2 if HOLD in os.environ else number(N_TENANTS)


def mark_round(number_: int, *, began_at: float, trained_at: float | None = None, **facts: object) -> None:
    """A round has just ended. After the first and the last one, note what the processes have used."""
    ended_at = time.time()
    mark("round", number=number_, began_at=began_at, trained_at=trained_at, ended_at=ended_at, **facts)
    if number_ in (1, number(N_ROUNDS)):
        mark("usage", number=number_, **usage(), processes=list(processes()))
    if number_ == 1 and HOLD in os.environ:
        Path(os.environ[HOLD], HELD).touch()


def hold_if_asked() -> None:
    """The first client to take the token in a round that is to be disturbed stops here and waits to be killed."""
    if HOLD not in os.environ:
        return
    token = Path(os.environ[HOLD], HELD)
    try:
        token.rename(token.with_suffix(f".{os.getpid()}"))
    except FileNotFoundError:
        return
    time.sleep(HOLD_SECONDS)


def usage() -> dict[str, object]:
    """CPU seconds of all processes of the session, dead ones included; bytes they read and wrote; bytes on loopback.

    A process that has ended counts with the one that waited for it. Bytes are those of read and write calls (files and
    pipes); sockets are counted on the loopback device, whoever of this machine uses it.
    """
    cpu_seconds, n_bytes = 0.0, 0
    for pid in session_pids():
        with contextlib.suppress(OSError):
            cpu_seconds += _cpu_seconds(pid)
            lines = (_PROC / str(pid) / "io").read_text().splitlines()
            n_bytes += sum(int(line.split()[1]) for line in lines[:2])
    return {"cpu_seconds": cpu_seconds, "file_bytes": n_bytes, "loopback_bytes": loopback_bytes()}


def loopback_bytes() -> int:
    """Bytes that this machine's loopback device has received."""
    for line in (_PROC / "net" / "dev").read_text().splitlines():
        name, _, counters = line.partition(":")
        if name.strip() == "lo":
            return int(counters.split()[0])
    return 0


def processes() -> Iterator[dict[str, object]]:
    """The session's processes: what they are, CPU seconds, proportional set size, what they have and had resident."""
    for pid in session_pids():
        place = _PROC / str(pid)
        with contextlib.suppress(OSError):
            command = (place / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
            pss_bytes = _kilobytes(place / "smaps_rollup", "Pss:")
            peak_bytes = _kilobytes(place / "status", "VmHWM:")
            resident_bytes = _kilobytes(place / "status", "VmRSS:")
            yield {
                "pid": pid,
                "command": command[:300],
                "cpu_seconds": _cpu_seconds(pid),
                "pss_bytes": pss_bytes,
                "peak_bytes": peak_bytes,
                "resident_bytes": resident_bytes,
            }


def session_pids() -> list[int]:
    """The root of the session and all that descends from it."""
    parents = {}
    for path in _PROC.glob("[0-9]*"):
        with contextlib.suppress(OSError):
            parents[int(path.name)] = int((path / "stat").read_text().rpartition(")")[2].split()[1])
    found = {int(os.environ[ROOT])}
    while grown := {pid for pid, parent in parents.items() if parent in found and pid not in found}:
        found |= grown
    return sorted(found)


def _cpu_seconds(pid: int) -> float:
    times = (_PROC / str(pid) / "stat").read_text().rpartition(")")[2].split()[11:15]
    return sum(map(int, times)) / _TICKS


def _kilobytes(path: Path, name: str) -> int:
    """A field of one of the kernel's tables, in bytes; 0 for a process that has ended."""
    for line in path.read_text().splitlines():
        if line.startswith(name):
            return int(line.split()[1]) * 1024
    return 0
