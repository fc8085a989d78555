"""One session: a system is started, holds a few rounds of one case, and is stopped; its marks tell how it went."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import psutil

from deploy.embedded.processes import tail
from tests.benchmarks.rounds import marks
from tests.benchmarks.rounds.cases import CLIENTS, COORDINATOR, SERVERS, Case, System
from tests.platform import PROJECT

MODULES: Final[Mapping[System, str]] = {
    System.PRELUDE: "tests.benchmarks.rounds.prelude",
    System.FLOWER_SIMULATION: "tests.benchmarks.rounds.peers.flower.simulation",
    System.FLOWER_DEPLOYED: "tests.benchmarks.rounds.peers.flower.deployment",
    System.NVFLARE: "tests.benchmarks.rounds.peers.nvflare.simulation",
}
QUIET: Final = {"FLWR_TELEMETRY_ENABLED": "0", "RAY_USAGE_STATS_ENABLED": "0", "HF_HUB_OFFLINE": "1"}
LOOK_EVERY_SECONDS: Final = 0.05
# Who goes down with a client that is killed: in Flower's deployment its SuperNode, as if its machine had lost power.
HOUSEHOLD: Final = ("supernode",)


@dataclass
class Session:
    """What came of it; seconds are those of the rounds after the first."""

    system: System
    case: Case
    seconds: list[float] = field(default_factory=list)
    training_seconds: list[float] = field(default_factory=list)
    per_round: dict[str, float] = field(default_factory=dict)
    server_bytes: int = 0
    total_bytes: int = 0
    coordinator_bytes: int = 0
    coordinator_between_bytes: int = 0  # between the first round, which warms up, and the second
    n_clients: int | None = None
    problem: str = ""


def hold(system: System, case: Case, *, python: Path, directory: Path, n_rounds: int) -> Session:
    """Run the session. Whatever goes wrong is in `problem`, with the end of its log."""
    place = directory / f"{system}-{case.n_tenants}-{case.payload_bytes}"
    if system is not System.PRELUDE:  # which keeps its tenants from one session to the next
        shutil.rmtree(place, ignore_errors=True)
    place.mkdir(parents=True, exist_ok=True)
    written, log = place / "marks.jsonl", place / "session.log"
    written.unlink(missing_ok=True)
    environment = _environment(case, written, n_rounds)
    if case.is_killing:
        environment[marks.HOLD] = str(place)
        for left in place.glob(f"{marks.HELD}*"):
            left.unlink()
    root = [sys.executable, str(Path(marks.__file__).with_name("root.py"))]
    command = [*root, str(python), "-m", MODULES[system], str(place)]
    with log.open("w") as output:
        process = subprocess.Popen(command, stdout=output, stderr=output, cwd=PROJECT, env=environment)
        problem = _follow(process, place, case.limit_seconds(system))
    session = _judge(system, case, _read(written))
    if problem or not session.seconds:
        session.problem = f"{problem or 'it held no round'}: {tail(log, n_bytes=1_200)}"
    return session


def _environment(case: Case, written: Path, n_rounds: int) -> dict[str, str]:
    return {
        **os.environ,
        **QUIET,
        "PYTHONPATH": str(PROJECT),
        marks.FILE: str(written),
        marks.N_TENANTS: str(case.n_tenants),
        marks.PAYLOAD_BYTES: str(case.payload_bytes),
        marks.N_ROUNDS: str(n_rounds + 1),
    }


def _follow(process: "subprocess.Popen[bytes]", place: Path, limit_seconds: float) -> str:
    """Wait for the session's end; kill the client that holds still; at the limit end it all."""
    give_up_at = time.monotonic() + limit_seconds
    while process.poll() is None:
        for held in place.glob(f"{marks.HELD}.*"):
            held.unlink()
            _kill_client(int(held.suffix[1:]))
        if time.monotonic() > give_up_at:
            _end(process)
            return f"not over after {limit_seconds:.0f} s"
        time.sleep(LOOK_EVERY_SECONDS)
    return "" if process.returncode == 0 else f"ended with status {process.returncode}"


def _kill_client(pid: int) -> None:
    with suppress(psutil.NoSuchProcess):
        client = psutil.Process(pid)
        lost = [client, *(one for one in client.parents() if _is_one_of(" ".join(one.cmdline()), HOUSEHOLD))]
        for one in lost:
            one.send_signal(signal.SIGKILL)


def _end(process: "subprocess.Popen[bytes]") -> None:
    with suppress(psutil.NoSuchProcess):
        for one in [*psutil.Process(process.pid).children(recursive=True)[::-1], psutil.Process(process.pid)]:
            with suppress(psutil.NoSuchProcess):
                one.kill()
    process.wait()


def _read(written: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in written.read_text().splitlines()] if written.exists() else []


def _judge(system: System, case: Case, found: list[dict[str, Any]]) -> Session:
    session = Session(system, case)
    for one in found:
        if one["event"] == "round" and one["number"] > 1:
            session.seconds.append(one["ended_at"] - one["began_at"])
            session.n_clients = one.get("n_clients")
            if one["trained_at"]:
                session.training_seconds.append(one["trained_at"] - one["began_at"])
    usages = [one for one in found if one["event"] == "usage"]
    if len(usages) == 2:
        before, after = usages
        n_rounds = after["number"] - before["number"]
        names = ("cpu_seconds", "file_bytes", "loopback_bytes")
        session.per_round = {name: (after[name] - before[name]) / n_rounds for name in names}
        session.total_bytes = sum(one["pss_bytes"] for one in after["processes"])
        session.server_bytes = sum(
            one["pss_bytes"] for one in after["processes"] if _is_server(system, one["command"])
        )
        session.coordinator_bytes = _coordinator_bytes(system, after)
        session.coordinator_between_bytes = _coordinator_bytes(system, before, "resident_bytes")
    return session


def _coordinator_bytes(system: System, mark: Mapping[str, Any], name: str = "peak_bytes") -> int:
    """The most that the process that sums had resident, or what it has."""
    peaks = [
        one[name]
        for one in mark["processes"]
        if COORDINATOR[system] in one["command"] and _is_server(system, one["command"])
    ]
    return max(peaks, default=0)


def _is_server(system: System, command: str) -> bool:
    return _is_one_of(command, SERVERS[system]) and not _is_one_of(command, CLIENTS)


def _is_one_of(command: str, names: tuple[str, ...]) -> bool:
    return any(name in command for name in names)
