"""The script that each client runs: it returns what it was sent, and noise."""

import random

import nvflare.client as flare

from tests.benchmarks.rounds import marks
from tests.benchmarks.rounds.payload import noise

KEY = "numpy_key"


def main() -> None:
    """Answer until there are no more rounds."""
    flare.init()
    while flare.is_running():
        model = flare.receive()
        if model is None:
            break
        marks.hold_if_asked()
        values = model.params[KEY] + noise(random.getrandbits(32))
        flare.send(flare.FLModel(params={KEY: values}, metrics={"accuracy": 0.5}))


if __name__ == "__main__":
    main()
