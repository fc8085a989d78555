"""Directories for files that pass through: what a killed process leaves is swept, what a live one uses is not."""

import os
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tenants import staging

STAGING = """
from tenants import staging
with staging.directory() as directory:
    (directory / "update").write_bytes(b"x")
    print(directory, flush=True)
    input()
"""


@pytest.fixture(autouse=True)
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return tmp_path


@contextmanager
def at_work(temporary: Path) -> Iterator[tuple["subprocess.Popen[str]", Path]]:
    """Another process that has staged a file, and its directory."""
    environment = {**os.environ, "TMPDIR": str(temporary)}
    command = [sys.executable, "-c", STAGING]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, env=environment, stdin=pipe, stdout=pipe, text=True) as process:
        assert process.stdout is not None
        yield process, Path(process.stdout.readline().strip())
        process.kill()


def test_what_a_killed_process_left_is_removed_and_what_a_live_one_uses_is_not(temporary: Path) -> None:
    with at_work(temporary) as (process, theirs), staging.directory() as own:
        staging.sweep()
        assert (theirs / "update").exists()
        assert own.exists()
        process.send_signal(signal.SIGKILL)
        process.wait()
        assert (theirs / "update").exists()
        staging.sweep()
        assert list(temporary.iterdir()) == [own]


def test_nothing_is_removed_that_only_has_such_a_name(
    temporary: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    precious = tmp_path_factory.mktemp("precious") / "data"
    precious.touch()
    (temporary / f"{staging.PREFIX}link").symlink_to(precious.parent)
    (temporary / f"{staging.PREFIX}file").touch()
    staging.sweep()
    assert precious.exists()
    assert len(list(temporary.iterdir())) == 2


def test_nobody_loses_a_directory_however_many_sweep(temporary: Path) -> None:
    over = threading.Event()

    def sweep_on() -> None:
        while not over.is_set():
            staging.sweep()

    sweeping = [threading.Thread(target=sweep_on) for _ in range(3)]
    for thread in sweeping:
        thread.start()
    try:
        for _ in range(300):
            with staging.directory() as directory:
                (directory / "update").write_bytes(b"x")
                assert (directory / "update").exists()
    finally:
        over.set()
        for thread in sweeping:
            thread.join()
    assert list(temporary.iterdir()) == []
