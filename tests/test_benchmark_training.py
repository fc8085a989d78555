"""The training benchmark's quick version: all contenders do the same work; nothing is said of clocks."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.benchmarks.training.contenders import START, Contender
from tests.platform import PROJECT


@pytest.mark.processes
@pytest.mark.timeout(600)
def test_all_contenders_end_with_the_same_loss(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "tests.benchmarks.training", "--quick", "--output", str(tmp_path)]
    done = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr  # it fails where losses part
    found = json.loads((tmp_path / "training.json").read_text())
    losses = found["losses"]
    assert losses[Contender.PRELUDE] < 0.5 * losses[START]
    if found["dtype"] == "float32":
        # The same batches in the same order: what is left is rounding.
        assert losses[Contender.LOOP] == pytest.approx(losses[Contender.PRELUDE], rel=1e-3)
    assert all(len(turns) == 1 for turns in found["turns"].values())
    assert all(turn["peak_bytes"] > 0 for [turn] in found["turns"].values())
