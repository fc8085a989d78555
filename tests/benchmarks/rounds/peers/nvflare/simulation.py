"""A session in NVIDIA FLARE's simulator: `python -m … DIRECTORY`. Rounds are timed by the server's own log."""

import re
import sys
import threading
import time
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

import numpy as np
from nvflare.app_common.np.recipes.fedavg import NumpyFedAvgRecipe
from nvflare.recipe.sim_env import SimEnv

from tests.benchmarks.rounds import marks
from tests.benchmarks.rounds.payload import payload

LOOK_EVERY_SECONDS = 0.02
TIME = re.compile(r"^\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d{3}")
BEGINNING = re.compile(r"^\s*(Round \d+ started|Finished FedAvg)\.\s*$")  # in a box, below its time


def beginnings(log: Path) -> Iterator[float]:
    """When each round began, and at last when all were over, as the server writes it."""
    while not log.exists():
        time.sleep(LOOK_EVERY_SECONDS)
    with log.open() as file:
        rest, written_at = "", ""
        while True:
            rest += file.read()
            *lines, rest = rest.split("\n")
            for line in lines:
                if found := TIME.match(line):
                    written_at = found[0]
                if BEGINNING.match(line):
                    yield datetime.fromisoformat(written_at).timestamp()
            time.sleep(LOOK_EVERY_SECONDS)


def watch(log: Path) -> None:
    """Mark each round when the next begins."""
    began_at = 0.0
    for number, now in enumerate(beginnings(log)):
        if number:
            marks.mark_round(number, began_at=began_at)
        began_at = now


def main() -> None:
    """All rounds."""
    directory = Path(sys.argv[1]).resolve()
    start = directory / "start.npy"
    np.save(start, payload())
    n_tenants = marks.number(marks.N_TENANTS)
    recipe = NumpyFedAvgRecipe(
        name="noop",
        initial_ckpt=str(start),
        min_clients=n_tenants,
        num_rounds=marks.number(marks.N_ROUNDS),
        train_script=str(Path(__file__).with_name("client.py")),
    )
    log = directory / "noop" / "server" / "log.txt"
    threading.Thread(target=watch, args=(log,), daemon=True).start()
    recipe.execute(SimEnv(num_clients=n_tenants, workspace_root=str(directory)))
    time.sleep(1)  # the last mark


if __name__ == "__main__":
    main()
