"""The short version of `make faults`: of each loop a few faults, one for every kind of process and server."""

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tenants.failpoints import FailPoint
from tests.faults.arena import Arena, arena
from tests.faults.faults import (
    AT_FAIL_POINTS,
    KILLS,
    OUTAGES,
    AtFailPoint,
    AtSomeTime,
    Fault,
    Scattered,
)
from tests.faults.judging import endure
from tests.platform import PROJECT

pytestmark = pytest.mark.processes

CHOSEN = (
    "web: request_committed POST",
    "ticker: round_opened",
    "worker: update_submitted",
    "trainer: step_taken 10",
    "coordinator: candidate_adopted",
)
FAULTS: tuple[Fault, ...] = (
    *(fault for fault in AT_FAIL_POINTS if fault.name in CHOSEN),
    AtSomeTime("kill -9 coordinator", KILLS["kill -9 coordinator"], after_share=0.3),
    AtSomeTime("Valkey FLUSHALL", OUTAGES["Valkey FLUSHALL"], after_share=0.1),
    AtSomeTime("PostgreSQL immediate shutdown", OUTAGES["PostgreSQL immediate shutdown"], after_share=0.3),
    Scattered(),
)


@pytest.fixture(scope="module")
def hurt() -> Iterator[Arena]:
    """A platform of this module's own, since its processes are killed."""
    with (
        tempfile.TemporaryDirectory(prefix="prl") as directory,
        arena(Path(directory), n_undisturbed=3) as ready,
    ):
        yield ready


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name)
def test_a_round_publishes_the_undisturbed_version_once_whatever_hits_it(hurt: Arena, fault: Fault) -> None:
    outcome = endure(hurt, fault, hurt.next_place())
    assert outcome.problems == []
    assert outcome.is_published


def test_a_fault_that_did_not_happen_is_no_success(hurt: Arena) -> None:
    unreachable = AtFailPoint("coordinator", ((FailPoint.ROUND_CONCLUDED, "no such state"),))
    outcome = endure(hurt, unreachable, hurt.next_place())
    assert ["nothing reached" in problem for problem in outcome.problems] == [True]


def test_the_loops_begin_without_the_settings_of_a_platform() -> None:
    without = {name: value for name, value in os.environ.items() if name != "DJANGO_SETTINGS_MODULE"}
    command = [sys.executable, "-m", "tests.faults", "--help"]
    told = subprocess.run(command, env=without, cwd=PROJECT, capture_output=True, text=True, check=False)
    assert told.stdout.startswith("usage: "), told.stderr


def test_every_fail_point_is_armed_by_a_fault() -> None:
    armed = {point for fault in AT_FAIL_POINTS for point, _ in fault.points}
    assert armed == set(FailPoint)
