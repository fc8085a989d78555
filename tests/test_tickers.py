"""Two tickers as real processes, one of them killed again and again: each due time opens one round."""

import os
import signal
import subprocess
import sys

import psycopg
import pytest

from tests.platform import PROJECT, RunningPlatform, get, wait_for

pytestmark = pytest.mark.processes
DUE_NOW = "UPDATE federation_schedule SET next_due_at = now() RETURNING id"


def test_each_due_time_opens_one_round_whichever_ticker_dies(platform: RunningPlatform) -> None:
    federations = [platform.make_federation(f"ticking {number}", n_steps=2) for number in range(3)]
    for federation in federations:
        answer = platform.operator.put(f"federations/{federation['id']}/schedule", json={"every_minutes": 60})
        assert answer.status_code == 200
    second = subprocess.Popen(
        [sys.executable, "manage.py", "ticker"], cwd=PROJECT, env=platform.platform.environment
    )
    try:
        with psycopg.connect(platform.platform.owner_environment["OWNER_DATABASE_URL"]) as connection:
            assert len(connection.execute(DUE_NOW).fetchall()) == len(federations)
        for federation in federations:
            for pid in platform.platform.pids("ticker"):
                os.kill(pid, signal.SIGKILL)
            path = f"federations/{federation['id']}/rounds"
            wait_for(platform.operator, path, lambda found: bool(found["results"]))
        assert second.poll() is None
    finally:
        second.terminate()
        second.wait(30)
    for federation in federations:
        [opened] = get(platform.operator, f"federations/{federation['id']}/rounds")["results"]
        assert opened["due_at"] is not None
        platform.finish_round(opened)
        schedule = get(platform.operator, f"federations/{federation['id']}/schedule")
        assert schedule["last_outcome"].endswith(f"opened {opened['id']}")
