"""A training worker that stands still for longer than its lease, as a real process, and comes back."""

import os
import signal
import time
from typing import Any

import pytest

from tests.platform import RunningPlatform, get, wait_for

pytestmark = pytest.mark.processes


def runs_of(platform: RunningPlatform, started: dict[str, Any]) -> list[dict[str, Any]]:
    return list(get(platform.operator, f"local-runs?round={started['id']}")["results"])


def test_a_worker_that_comes_back_late_finds_its_run_done_by_another(platform: RunningPlatform) -> None:
    started = platform.start_round(platform.make_federation("stopped", n_steps=1_000))

    def both_train(found: dict[str, Any]) -> bool:
        training = [run for run in found["results"] if run["state"] == "running"]
        return sum("step" in run["progress"] for run in training) == 2

    wait_for(platform.operator, f"local-runs?round={started['id']}", both_train)
    stopped = platform.platform.pids("gpu")[0]
    log = platform.platform.directory / "logs" / "gpu1.log"
    n_logged = len(log.read_bytes())
    os.kill(stopped, signal.SIGSTOP)
    try:
        ended = platform.finish_round(started, seconds=180)
    finally:
        os.kill(stopped, signal.SIGCONT)
    assert ended["state"] == "published"
    done = runs_of(platform, started)
    assert [run["state"] for run in done] == ["accepted"] * 3
    [taken] = [run for run in done if run["attempt"] == 2]

    give_up_at = time.monotonic() + 30
    while not (told := _stops(log.read_bytes()[n_logged:].decode())) and time.monotonic() < give_up_at:
        time.sleep(0.1)
    assert taken["id"] in told, "its late write was refused"
    assert runs_of(platform, started) == done
    events = get(platform.operator, f"rounds/{started['id']}/events?page_size=100")["results"]
    accepted = [event["tenant"] for event in events if event["kind"] == "local_run.accepted"]
    assert len(accepted) == len(set(accepted)) == 3
    assert platform.platform.pids("gpu")[0] == stopped, "it goes on working"


def _stops(log: str) -> str:
    return "\n".join(line for line in log.splitlines() if "attempt_stopped" in line)
