"""What long runs remove when they begin."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.places import emptied
from tests.platform import PROJECT


@pytest.mark.parametrize(
    ("module", "option", "name"),
    [("tests.faults", "--directory", "run"), ("tests.benchmarks.training", "--output", "training")],
)
def test_a_directory_that_no_run_has_made_is_left_as_it_is(
    tmp_path: Path, module: str, option: str, name: str
) -> None:
    thesis = tmp_path / name / "thesis.tex"
    thesis.parent.mkdir()
    thesis.touch()
    command = [sys.executable, "-m", module, option, str(tmp_path)]
    done = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 1
    assert f"{thesis.parent} was made by no earlier run" in done.stderr
    assert thesis.exists()


def test_the_next_run_removes_what_the_last_one_made(tmp_path: Path) -> None:
    (emptied(tmp_path / "run") / "rows").touch()
    assert [path.name for path in emptied(tmp_path / "run").iterdir()] == [".made-by-a-run"]
