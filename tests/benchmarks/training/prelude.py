"""Prelude as a contender: jobs to its resident trainer, as a training worker sends them."""

import argparse
import hashlib
import time
from pathlib import Path
from typing import Any

import psutil
from safetensors.numpy import load, save_file

from tests.benchmarks.training.turns import START_FILE, Task, serve
from training_workers.resident import ResidentTrainer


class PreludeEngine:
    """A worker's handle with the base model in its trainer; the start prefix is made by it."""

    def __init__(self, arguments: argparse.Namespace, task: Task) -> None:
        self._task = task
        self._trainer = ResidentTrainer()
        self._base = named_base(self._trainer, task.base_directory)
        start = {"kind": "start", "base": self._base, "specification": task.specification}
        self._start = self._blob(start)
        (arguments.place / START_FILE).write_bytes(self._start)
        self._metrics: dict[str, Any] = {}
        self._update = b""

    def facts(self) -> dict[str, Any]:
        """What the trainer chose."""
        return {name: self._metrics[name] for name in ("dtype", "device")}

    def train(self, n_steps: int) -> tuple[float, float]:
        """A local run; its clock stops when the worker hears of the last step."""
        training = {**self._task.specification["training"], "n_steps": n_steps}
        job = {
            "kind": "train",
            "base": self._base,
            "specification": {**self._task.specification, "training": training},
            "seed": training["seed"],
            "examples": self._task.rows[: n_steps * training["batch_size"]],
            "evaluate_before": False,
            "evaluate_after": False,
            "identity": {
                "round": "rnd_1",
                "tenant": "tnt_1",
                "attempt": 1,
                "parent": hashlib.sha256(self._start).hexdigest(),
            },
        }
        assert self._trainer.pid is not None
        process = psutil.Process(self._trainer.pid)
        ended: list[tuple[float, float]] = []

        def note(event: dict[str, Any]) -> None:
            if event["phase"] == "training" and event["step"] == n_steps:
                ended.append((time.perf_counter(), _cpu_seconds(process)))

        started_at, cpu_started_at = time.perf_counter(), _cpu_seconds(process)
        self._update = self._blob(job, note)
        (ended_at, cpu_ended_at) = ended[0]
        return ended_at - started_at, cpu_ended_at - cpu_started_at

    def figures(self) -> dict[str, int]:
        """The trainer's own: the base model in float32 for close calls is in the peak."""
        return {"peak_bytes": self._metrics["peak_memory_bytes"], "n_tokens": self._metrics["n_tokens"]}

    def save(self, path: Path) -> None:
        """Start and update, added."""
        start, update = load(self._start), load(self._update)
        save_file({name: start[name] + update[name] for name in start}, path)

    def _blob(self, job: dict[str, Any], on_event: Any = lambda _event: None) -> bytes:
        answer = self._trainer.run(
            job, {"state": self._start} if "identity" in job else {}, on_event=on_event
        )
        self._metrics = answer.result.get("metrics", {})
        (blob,) = answer.blobs.values()
        return blob


def named_base(trainer: ResidentTrainer, directory: str) -> dict[str, str]:
    """The base model as jobs name it."""
    facts = trainer.run({"kind": "inspect", "path": directory}).result["facts"]
    return {"path": directory, **{name: facts[name] for name in ("weights_sha256", "tokenizer_sha256")}}


def _cpu_seconds(process: psutil.Process) -> float:
    times = process.cpu_times()
    return times.user + times.system


if __name__ == "__main__":
    serve(PreludeEngine)
