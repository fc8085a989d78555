"""Judges all prefixes in float32 on the held-out rows: `python -m tests.benchmarks.training.judge PLACE`."""

import json
import sys
from pathlib import Path

from tests.benchmarks.training.contenders import LOSSES_FILE, START, Contender
from tests.benchmarks.training.prelude import named_base
from tests.benchmarks.training.turns import Task
from training_workers.resident import ResidentTrainer


def main() -> None:
    """Writes the loss of the start prefix and of each contender's, in nats a token."""
    place = Path(sys.argv[1])
    task, trainer = Task.read(place), ResidentTrainer()
    job = {
        "kind": "evaluate",
        "base": named_base(trainer, task.base_directory),
        "specification": task.specification,
        "held_out": task.held_out,
    }
    losses = {
        name: trainer.run(job, {"state": (place / f"{name}.safetensors").read_bytes()}).result["loss"]
        for name in (START, *Contender)
    }
    trainer.close()
    (place / LOSSES_FILE).write_text(json.dumps(losses))


if __name__ == "__main__":
    main()
