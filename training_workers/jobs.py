"""The trainer's jobs: plain values and blobs in, plain values and blobs out."""

import hashlib
import resource
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from federation.specification import FederationSpecification, parse_specification
from tenants.failpoints import FailPoint, reach
from training_workers.base_models import directory_stamp, inspect_directory, refuse_other_digests
from training_workers.errors import JobUnknown, ParentMismatch
from training_workers.evaluation import Score, evaluate
from training_workers.examples.rows import Example, example_from_row, kind_of
from training_workers.loading import BaseModel, load_base_model
from training_workers.local_training import Step, TrainingOutcome, train_locally
from training_workers.methods import Method, get_method
from training_workers.runtime import choose_runtime
from training_workers.states import from_bytes, moved, send, to_bytes, unpacked

Answer = tuple[dict[str, Any], dict[str, bytes]]
Report = Callable[[dict[str, Any]], None]
ShouldStop = Callable[[], bool]


class Shelf:
    """Base models in memory, the last used one only unless more are allowed; found by path and digests."""

    def __init__(self, *, n_models: int = 1) -> None:
        self._n_models = n_models
        self._runtime = choose_runtime()
        self._held: OrderedDict[tuple[str, ...], tuple[Any, BaseModel]] = OrderedDict()

    def take(self, base: Mapping[str, str], *, report: Report) -> tuple[BaseModel, bool]:
        """The base model, and whether it had to be loaded.

        Raises:
            BaseModelDigestMismatch: the directory's bytes are not those that were registered.
            BaseModelRefusal: the directory cannot serve.
        """
        key = (base["path"], base["weights_sha256"], base["tokenizer_sha256"])
        stamp = directory_stamp(Path(base["path"])) if Path(base["path"]).is_dir() else None
        held = self._held.pop(key, None)
        if held is not None and held[0] == stamp:
            self._held[key] = held
            return held[1], False

        def tell() -> None:
            report({"phase": "loading"})

        tell()
        while len(self._held) >= self._n_models:  # before loading: two may not fit
            self._held.popitem(last=False)
        refuse_other_digests(inspect_directory(Path(base["path"]), on_file=tell), base)
        model = load_base_model(Path(base["path"]), self._runtime)
        self._held[key] = (stamp, model)
        return model, True


class Workshop:
    """Does the trainer's jobs one after the other, keeping the base model in between."""

    def __init__(self) -> None:
        self._shelf = Shelf()

    def do(
        self, job: Mapping[str, Any], blobs: Mapping[str, bytes], *, report: Report, should_stop: ShouldStop
    ) -> Answer:
        """One job's result and blobs.

        Raises:
            JobUnknown: no such job, or a part of it is missing.
            JobCancelled: `should_stop` said so.
            PreludeError: what the job itself refuses.
        """
        kinds = {
            "start": self._start,
            "train": self._train,
            "grow": self._grow,
            "evaluate": self._evaluate,
        }
        if job.get("kind") not in kinds:
            raise JobUnknown(
                reason=f"there is no kind {job.get('kind')!r}; there are inspect, {', '.join(kinds)}"
            )
        return kinds[job["kind"]](_Job(job, blobs, report, should_stop))

    def _start(self, job: "_Job") -> Answer:
        base, is_loaded = self._shelf.take(job.part("base"), report=job.report)
        specification, method = job.specification(), job.method()
        # Refused here, when the federation is made, and not in its first round.
        bound = base.for_task(specification.task)
        state = method.start(base, seed=specification.training.seed)
        method.check(base, state)
        bound.check_context(n_positions=method.n_positions)
        result = {"configuration": method.configuration(base), "base_loaded": is_loaded}
        return result, {"start": to_bytes(state, metadata={})}

    def _train(self, job: "_Job") -> Answer:
        """The training, with scores before and after it where asked for.

        The blobs are the update with its identity, as it travels, and what error feedback keeps of it.
        """
        identity = job.part("identity")
        state = job.broadcast(identity["parent"])
        base, is_loaded = self._shelf.take(job.part("base"), report=job.report)
        before = job.score(base, state, phase="evaluating_before") if job.part("evaluate_before") else None
        reach(FailPoint.TRAINING_BEGUN)
        outcome = job.train(base, state)
        after = None
        if job.part("evaluate_after"):
            after = job.score(base, moved(state, outcome.update), phase="evaluating_after")
        scores = {"before": asdict(before) if before else None, "after": asdict(after) if after else None}
        metrics = {**_training_metrics(outcome, base), "scores": scores}
        names = ("round", "tenant", "attempt", "parent")
        metadata = {name: str(identity[name]) for name in names} | {"base": base.facts.weights_sha256}
        return {"metrics": metrics, "base_loaded": is_loaded}, job.sent(outcome.update, metadata)

    def _grow(self, job: "_Job") -> Answer:
        """A tenant's own state, trained from the shared one, with the scores of both; the blob is the state itself."""
        state = job.state()
        base, is_loaded = self._shelf.take(job.part("base"), report=job.report)
        shared = job.score(base, state, phase="evaluating_before")
        reach(FailPoint.TRAINING_BEGUN)
        grown = moved(state, job.train(base, state).update)
        personal = job.score(base, grown, phase="evaluating_after")
        scores = {"shared": asdict(shared), "personal": asdict(personal)}
        return {"scores": scores, "base_loaded": is_loaded}, {"grown": to_bytes(grown, metadata={})}

    def _evaluate(self, job: "_Job") -> Answer:
        state = job.state() if "state" in job.blobs else None
        base, is_loaded = self._shelf.take(job.part("base"), report=job.report)
        started_at = time.perf_counter()
        score = job.score(base, state, phase="evaluating")
        return {**asdict(score), "seconds": time.perf_counter() - started_at, "base_loaded": is_loaded}, {}


class _Job:
    """One job's parts, read when they are needed."""

    def __init__(
        self, job: Mapping[str, Any], blobs: Mapping[str, bytes], report: Report, should_stop: ShouldStop
    ) -> None:
        self._job = job
        self.blobs = blobs
        self.report = report
        self.should_stop = should_stop

    def part(self, name: str) -> Any:
        if name not in self._job:
            raise JobUnknown(reason=f"it has no {name}")
        return self._job[name]

    def specification(self) -> FederationSpecification:
        return parse_specification(self.part("specification"))

    def method(self) -> Method:
        return get_method(self.specification().method, freezes_keys=bool(self._job.get("freezes_keys")))

    def examples(self, name: str) -> list[Example]:
        rows = self.part(name)
        return [
            example_from_row(row, kind=kind_of(row), number=number)
            for number, row in enumerate(rows, start=1)
        ]

    def state(self) -> dict[str, Tensor]:
        """The version that came as a blob."""
        return from_bytes(self._blob("state"))

    def broadcast(self, sha256: str) -> dict[str, Tensor]:
        """What to train from, in the form in which it came, checked against its digest."""
        content = self._blob("state")
        found = hashlib.sha256(content).hexdigest()
        if found != sha256:
            raise ParentMismatch(expected=sha256, found=found)
        return unpacked(content, self.specification().broadcast.dtype)

    def sent(self, update: Mapping[str, Tensor], metadata: Mapping[str, str]) -> dict[str, bytes]:
        """The update as it travels, and what error feedback keeps of it."""
        last = from_bytes(self.blobs["residual"]) if "residual" in self.blobs else None
        sent = send(update, self.specification().upload, metadata, residual=last)
        if sent.residual is None:
            return {"update": sent.content}
        return {"update": sent.content, "residual": to_bytes(sent.residual, metadata={})}

    def _blob(self, name: str) -> bytes:
        if name not in self.blobs:
            raise JobUnknown(reason=f"it has no {name}")
        return self.blobs[name]

    def train(self, base: BaseModel, state: Mapping[str, Tensor]) -> TrainingOutcome:
        return train_locally(
            base,
            self.method(),
            state,
            self.examples("examples"),
            self.specification(),
            seed=self.part("seed"),
            on_step=self._note,
            should_stop=self.should_stop,
        )

    def _note(self, step: Step) -> None:
        reach(FailPoint.STEP_TAKEN, str(step.step))
        self.report({"phase": "training", **asdict(step)})

    def score(self, base: BaseModel, state: Mapping[str, Tensor] | None, *, phase: str) -> Score:
        return evaluate(
            base,
            self.method(),
            state,
            self.examples("held_out"),
            self.specification(),
            label_counts=self._job.get("label_counts"),
            on_rows=lambda n_done, n_rows: self.report({"phase": phase, "n_done": n_done, "n_rows": n_rows}),
            should_stop=self.should_stop,
        )


def _training_metrics(outcome: TrainingOutcome, base: BaseModel) -> dict[str, Any]:
    return {
        "n_examples": outcome.n_examples,
        "n_tokens": outcome.n_tokens,
        "seconds": outcome.seconds,
        "tokens_per_second": outcome.n_tokens / outcome.seconds,
        "loss_first": outcome.losses[0],
        "loss_last": outcome.losses[-1],
        "relative_norm": outcome.relative_norm,
        "dtype": base.runtime.dtype_name,
        "device": base.runtime.device.type,
        "device_reason": base.runtime.reason,
        "n_threads": base.runtime.n_threads,
        "peak_memory_bytes": _peak_memory_bytes(base.runtime.device),
    }


def _peak_memory_bytes(device: torch.device) -> int:
    """The device's peak where it has memory of its own, otherwise the process's, since it was started."""
    if device.type == "cuda":
        return int(torch.cuda.max_memory_allocated(device))
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
