"""Fail points: off by default, deadly once where they are armed."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tenants import failpoints
from tenants.failpoints import REACHED, SCATTER, VARIABLE, FailPoint

REACHING = "from tenants.failpoints import FailPoint, reach; reach(FailPoint.SENT, 'one'); print('alive')"


def reach_in_another_process(directory: Path | None) -> "subprocess.CompletedProcess[str]":
    """A process that comes by the point `sent` with the detail `one`."""
    on = {} if directory is None else {VARIABLE: str(directory)}
    environment = {**os.environ, **on}
    return subprocess.run(
        [sys.executable, "-c", REACHING], env=environment, capture_output=True, text=True, check=False
    )


def test_without_the_variable_nothing_is_armed_and_nothing_is_scattered() -> None:
    assert VARIABLE not in os.environ
    assert failpoints._DIRECTORY is None
    assert failpoints.delays(None) == [None]
    assert reach_in_another_process(None).stderr == ""


@pytest.mark.parametrize("detail", ["", "one"])
def test_an_armed_point_kills_the_first_process_and_no_other(tmp_path: Path, detail: str) -> None:
    (tmp_path / FailPoint.SENT).write_text(detail)
    assert reach_in_another_process(tmp_path).returncode == -signal.SIGKILL
    assert (tmp_path / f"{FailPoint.SENT}{REACHED}").exists()
    assert reach_in_another_process(tmp_path).stdout == "alive\n"


@pytest.mark.parametrize(("point", "detail"), [(FailPoint.SENT, "another"), (FailPoint.COMMITTED, "")])
def test_another_detail_and_another_point_are_passed(tmp_path: Path, point: FailPoint, detail: str) -> None:
    (tmp_path / point).write_text(detail)
    assert reach_in_another_process(tmp_path).stdout == "alive\n"
    assert (tmp_path / point).exists()


def test_a_process_with_fail_points_says_so_when_it_starts(tmp_path: Path) -> None:
    assert f"Fail points are on: {VARIABLE}={tmp_path}" in reach_in_another_process(tmp_path).stderr


def test_messages_are_scattered_while_the_file_is_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(failpoints, "_DIRECTORY", tmp_path)
    assert failpoints.delays(1.5) == [1.5]
    (tmp_path / SCATTER).touch()
    scattered = failpoints.delays(None)
    assert len(set(scattered)) == failpoints.N_SCATTERED
    assert None not in scattered
