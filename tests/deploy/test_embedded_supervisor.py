"""The supervisor over small processes that only sleep, or die."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from deploy.embedded.errors import UnknownProcess
from deploy.embedded.processes import MARKER, ProcessSpecification, is_alive, kill_marked, wait_until_gone
from deploy.embedded.supervisor import FIRST_DELAY_SECONDS, LONGEST_DELAY_SECONDS, Child, Supervisor
from tests.deploy.waiting import eventually

SLEEP = "import time; time.sleep(600)"
STUBBORN = f"import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('deaf', flush=True); {SLEEP}"
WITH_CHILD = "import subprocess, sys; subprocess.run([sys.executable, '-c', 'import time; time.sleep(600)'])"


def sleeper(
    name: str, *, role: str = "sleeper", code: str = SLEEP, **options: object
) -> ProcessSpecification:
    """A process that does nothing until it is ended."""
    return ProcessSpecification(
        name=name,
        role=role,
        command=(sys.executable, "-c", code),
        working_directory=Path("/"),
        **options,  # type: ignore[arg-type]
    )


def test_a_killed_process_is_started_again(supervisor: Supervisor) -> None:
    supervisor.start(sleeper("one"))
    [first] = supervisor.pids("one")
    os.kill(first, signal.SIGKILL)
    eventually(lambda: supervisor.pids("one") not in ([], [first]))
    assert supervisor.report()["one"]["n_restarts"] == 1


def test_a_process_that_keeps_dying_is_started_ever_more_seldom() -> None:
    child = Child(sleeper("one"), started_at=time.monotonic())
    delays = [child.postpone() for _ in range(10)]
    assert delays[:3] == [FIRST_DELAY_SECONDS, 2 * FIRST_DELAY_SECONDS, 4 * FIRST_DELAY_SECONDS]
    assert delays[-1] == LONGEST_DELAY_SECONDS


def test_a_death_after_a_steady_run_is_answered_at_once() -> None:
    child = Child(sleeper("one"), started_at=time.monotonic())
    child.postpone()
    child.postpone()
    child.started_at = time.monotonic() - 3_600
    assert child.postpone() == FIRST_DELAY_SECONDS


def test_roles_and_names_both_select(supervisor: Supervisor) -> None:
    for name in ("gpu1", "gpu2"):
        supervisor.start(sleeper(name, role="gpu"))
    assert supervisor.pids("gpu") == supervisor.pids("gpu1") + supervisor.pids("gpu2")
    with pytest.raises(UnknownProcess, match="'gpu3'; there are: gpu, gpu1, gpu2"):
        supervisor.pids("gpu3")


def test_what_was_stopped_stays_stopped_until_it_is_resumed(supervisor: Supervisor) -> None:
    supervisor.start(sleeper("one"))
    [first] = supervisor.pids("one")
    supervisor.stop("one")
    time.sleep(3 * FIRST_DELAY_SECONDS)
    assert supervisor.pids("one") == []
    assert not is_alive(first)
    supervisor.resume("one")
    assert len(supervisor.pids("one")) == 1


def test_restart_gives_a_new_process(supervisor: Supervisor) -> None:
    supervisor.start(sleeper("one"))
    before = supervisor.pids("one")
    supervisor.restart("one")
    assert supervisor.pids("one") != before


def test_close_ends_everything_deaf_ones_and_grandchildren_too(tmp_path: Path) -> None:
    with Supervisor(logs=tmp_path) as supervisor:
        supervisor.start(sleeper("deaf", code=STUBBORN, stop_seconds=0.3))
        supervisor.start(sleeper("parent", code=WITH_CHILD))
        eventually(lambda: "deaf" in supervisor.log("deaf").read_text())
        [parent] = supervisor.pids("parent")
        eventually(lambda: children_of(parent) != [])
        everybody = supervisor.pids() + children_of(parent)
    assert len(everybody) == 3
    assert wait_until_gone(everybody, seconds=5.0) == []


def test_the_end_of_a_supervisor_by_kill_9_ends_its_children(tmp_path: Path) -> None:
    program = f"""
import sys, time
from pathlib import Path
from deploy.embedded.processes import ProcessSpecification
from deploy.embedded.supervisor import Supervisor

supervisor = Supervisor(logs=Path({str(tmp_path)!r}))
command = (sys.executable, "-c", {SLEEP!r})
supervisor.start(ProcessSpecification(name="one", role="one", command=command, working_directory=Path("/")))
print(supervisor.pids("one")[0], flush=True)
time.sleep(600)
"""
    root = Path(__file__).resolve().parents[2]
    with subprocess.Popen(
        [sys.executable, "-c", program], stdout=subprocess.PIPE, text=True, cwd=root
    ) as parent:
        assert parent.stdout is not None
        child = int(parent.stdout.readline())
        assert is_alive(child)
        parent.kill()
    assert wait_until_gone([child], seconds=5.0) == []


def test_leftovers_are_found_by_their_mark_and_nobody_else_is_harmed(
    supervisor: Supervisor, tmp_path: Path
) -> None:
    supervisor.start(sleeper("marked", environment={MARKER: str(tmp_path / "mine")}))
    supervisor.start(sleeper("stranger", environment={MARKER: str(tmp_path / "mine-too")}))
    marked, stranger = supervisor.pids()
    eventually(lambda: kill_marked(tmp_path / "mine") == [marked])
    assert supervisor.pids("stranger") == [stranger]


def test_a_process_that_cannot_be_prepared_is_tried_again(supervisor: Supervisor, tmp_path: Path) -> None:
    missing = tmp_path / "made-later" / "file"
    supervisor.start(sleeper("one", prepare=missing.touch))
    assert supervisor.pids("one") == []
    missing.parent.mkdir()
    eventually(lambda: supervisor.pids("one") != [])


def test_standard_input_reaches_the_process(supervisor: Supervisor) -> None:
    code = f"import sys; print(sys.stdin.read()[::-1], flush=True); {SLEEP}"
    supervisor.start(sleeper("reader", code=code, standard_input=b"olleh"))
    eventually(lambda: "hello" in supervisor.log("reader").read_text())


def children_of(pid: int) -> list[int]:
    """Process ids of a process's children."""
    text = Path(f"/proc/{pid}/task/{pid}/children").read_text()
    return [int(word) for word in text.split()]
