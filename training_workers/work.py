"""What each kind of work is: rows to a job for the resident trainer, the trainer's answer to a service."""

import json
from functools import cache, lru_cache
from pathlib import Path
from typing import Any

from django.conf import settings

from federation.aggregation.wire import in_broadcast_form
from federation.models import BaseModel, Evaluation, Federation, LocalRun, PersonalPrefix
from federation.services import (
    base_models,
    evaluations,
    federations,
    local_runs,
    personal_prefixes,
    residuals,
)
from federation.states import PersonalRule
from tenants import scoping, storage
from tenants.models import Dataset
from tenants.services import datasets
from training_workers import examples
from training_workers.attempts import Attempt
from training_workers.resident import ResidentTrainer, TrainerResult


@cache
def resident_trainer() -> ResidentTrainer:
    """This process's trainer: its child keeps the base model in memory from one job to the next."""
    return ResidentTrainer(stall_seconds=settings.STALL_SECONDS)


def inspect_base_model(attempt: Attempt[BaseModel]) -> None:
    """Digests and shape facts of a directory, into the row."""
    job = {"kind": "inspect", "path": str(_directory(attempt.row))}
    facts = _run(attempt, job, {}).result["facts"]
    with attempt.scope():
        base_models.accept_base_model(
            base_model=attempt.row,
            weights_sha256=facts.pop("weights_sha256"),
            tokenizer_sha256=facts.pop("tokenizer_sha256"),
            facts=facts,
        )


def prepare_start(attempt: Attempt[Federation]) -> None:
    """The start prefix from the federation's public text, published as version 0."""
    federation = attempt.row
    job = {"kind": "start", "base": _base(federation), "specification": federation.specification}
    answer = _run(attempt, job, {})
    start = answer.blobs["start"]
    broadcast = in_broadcast_form(start, federation.rules.broadcast.dtype)
    with attempt.scope():
        federations.accept_start(
            federation=federation,
            start=start,
            broadcast=broadcast,
            configuration=answer.result["configuration"],
        )


def validate_dataset(attempt: Attempt[Dataset]) -> None:
    """Columns, labels, lengths, duplicates: facts into the row, or the first fault with its row number."""
    dataset = attempt.row
    try:
        with attempt.open_rows(dataset) as rows:
            facts = examples.validate(rows, dataset.format, limits=examples.DatasetLimits())
    except examples.DatasetRefusal as refusal:
        with attempt.scope():
            datasets.refuse_dataset(dataset=dataset, code=refusal.code, reason=str(refusal), row=refusal.row)
        return
    with attempt.scope():
        datasets.accept_dataset(dataset=dataset, facts=facts.to_dict())


def train(attempt: Attempt[LocalRun]) -> None:
    """One tenant's local training: the parent version and sampled rows in, the change of the prefix out."""
    local_run = attempt.row
    measured, residual = local_run.parent_score, _residual(local_run)
    parent = local_run.federated_round.parent_version
    # Where tenants train from something else than the version, its score comes from its own evaluation alone.
    is_version = parent.broadcast_sha256 == parent.sha256
    job = _train_job(local_run, is_measured=measured is not None or not is_version)
    job |= _rows(attempt, job["specification"], job["seed"], is_scored=job["evaluate_after"])
    blobs = {"state": _fetched(parent.broadcast_sha256, parent.broadcast_size_bytes)}
    answer = _run(attempt, job, blobs if residual is None else {**blobs, "residual": residual})
    metrics = {**answer.result["metrics"], "base_loaded": answer.result["base_loaded"]}
    if job["evaluate_before"]:
        with attempt.scope():
            local_runs.record_before(local_run=local_run, score=metrics["scores"]["before"])
    else:
        metrics["scores"]["before"] = measured
    with attempt.scope() if "residual" in answer.blobs else attempt.single():
        local_runs.submit_update(
            local_run=local_run,
            update=answer.blobs["update"],
            metrics=metrics,
            residual=answer.blobs.get("residual"),
        )


def evaluate(attempt: Attempt[Evaluation]) -> None:
    """A version (or the base model alone) on the tenant's held-out rows."""
    evaluation = attempt.row
    federation, version = evaluation.federation, evaluation.version
    job = {"kind": "evaluate", "base": _base(federation), "specification": federation.specification}
    job["held_out"] = _held_out_rows(attempt, evaluation.dataset, federation.specification)
    blobs = {"state": _fetched(version.sha256, version.size_bytes)} if version else {}
    score = _run(attempt, job, blobs).result
    with attempt.single():
        evaluations.complete_evaluation(
            evaluation=evaluation, accuracy=score["accuracy"], loss=score["loss"], n_rows=score["n_rows"]
        )


def grow(attempt: Attempt[PersonalPrefix]) -> None:
    """A tenant's own prefix from a shared version, and what both score on the tenant's held-out rows."""
    personal_prefix = attempt.row
    version, specification = personal_prefix.version, personal_prefix.rules.as_json()
    job: dict[str, Any] = {"base": _base(personal_prefix.federation), "specification": specification}
    blobs = {"state": _fetched(version.sha256, version.size_bytes)}
    by_rule = _find_prior if personal_prefix.rule == PersonalRule.PRIOR else _train_personal
    content, scores = by_rule(attempt, job, blobs)
    with personal_prefixes.stored(personal_prefix, content) as blob_name, attempt.scope():
        personal_prefixes.complete_personal_prefix(
            personal_prefix=personal_prefix, blob_name=blob_name, size_bytes=len(content), **scores
        )


def _train_personal(
    attempt: Attempt[PersonalPrefix], job: dict[str, Any], blobs: dict[str, bytes]
) -> tuple[bytes, dict[str, Any]]:
    """The trained state's file, and both scores."""
    seed = job["specification"]["training"]["seed"]
    job |= {
        "kind": "grow",
        "seed": seed,
        "freezes_keys": attempt.row.rule == PersonalRule.PERSONAL_VALUES,
        **_rows(attempt, job["specification"], seed, is_scored=True),
    }
    answer = _run(attempt, job, blobs)
    return answer.blobs["grown"], answer.result["scores"]


def _find_prior(
    attempt: Attempt[PersonalPrefix], job: dict[str, Any], blobs: dict[str, bytes]
) -> tuple[bytes, dict[str, Any]]:
    """The tenant's log label prior as JSON, and the shared version's scores without it and with it."""
    dataset, labels = attempt.row.dataset, job["specification"]["task"]["label_words"]
    with attempt.open_rows(dataset) as rows:
        counts = examples.count_training_labels(rows, dataset.format)
    job |= {
        "kind": "evaluate",
        "held_out": _held_out_rows(attempt, attempt.row.dataset, job["specification"]),
    }
    shared = _run(attempt, job, blobs).result
    personal = _run(attempt, {**job, "label_counts": counts}, blobs).result
    prior = examples.label_log_prior(counts, labels=labels)
    return json.dumps(prior).encode(), {"shared": shared, "personal": personal}


@lru_cache(maxsize=1)
def _fetched(sha256: str, size_bytes: int) -> bytes:
    """A version's bytes: a round's tenants come one after the other, and all begin with the same ones."""
    return storage.get(sha256, max_bytes=size_bytes)


def _residual(local_run: LocalRun) -> bytes | None:
    """What the tenant's last accepted upload left out, where the federation has error feedback."""
    if not local_run.federated_round.federation.rules.upload.error_feedback:
        return None
    with scoping.reading(local_run.tenant_id):
        return residuals.read_last(local_run=local_run)


def _train_job(local_run: LocalRun, *, is_measured: bool) -> dict[str, Any]:
    federated_round = local_run.federated_round
    federation = federated_round.federation
    is_scored = federation.rules.evaluation.around_training
    return {
        "kind": "train",
        "base": _base(federation),
        "specification": federation.specification,
        # The round's number varies the sample from round to round; a second attempt at a run draws the same rows.
        "seed": federation.specification["training"]["seed"] + federated_round.number,
        "evaluate_before": is_scored and not is_measured,
        "evaluate_after": is_scored,
        "identity": {
            "round": federated_round.public_id,
            "tenant": local_run.tenant.public_id,
            "attempt": local_run.attempt,
            "parent": federated_round.parent_version.broadcast_sha256,
        },
    }


def _rows(
    attempt: Attempt[LocalRun] | Attempt[PersonalPrefix],
    specification: dict[str, Any],
    seed: int,
    *,
    is_scored: bool,
) -> dict[str, Any]:
    """The rows to train on, and those to score on where that is wanted: the dataset is read once.

    What is held out is known either way: nothing is trained on that shows the model the same.
    """
    dataset, training = attempt.row.dataset, specification["training"]
    with attempt.open_rows(dataset) as rows:
        chosen, held_out = examples.select_both(
            rows,
            dataset.format,
            n=training["n_steps"] * training["batch_size"],
            n_train=dataset.facts["n_train"],
            seed=seed,
            n_held_out=specification["evaluation"]["n_held_out_rows"],
            max_characters=specification["task"].get("max_text_characters"),
        )
    found = {"examples": [examples.as_row(example) for example in chosen]}
    return {**found, "held_out": [examples.as_row(example) for example in held_out]} if is_scored else found


def _held_out_rows(
    attempt: Attempt[Evaluation] | Attempt[PersonalPrefix], dataset: Dataset, specification: dict[str, Any]
) -> list[dict[str, Any]]:
    with attempt.open_rows(dataset) as rows:
        chosen = examples.select_held_out(
            rows, dataset.format, n=specification["evaluation"]["n_held_out_rows"]
        )
    return [examples.as_row(example) for example in chosen]


def _base(federation: Federation) -> dict[str, str]:
    base_model = federation.base_model
    return {
        "path": str(_directory(base_model)),
        "weights_sha256": base_model.weights_sha256,
        "tokenizer_sha256": base_model.tokenizer_sha256,
    }


def _directory(base_model: BaseModel) -> Path:
    root: Path = settings.BASE_MODELS_ROOT
    return root / base_model.directory


def _run(attempt: Attempt[Any], job: dict[str, Any], blobs: dict[str, bytes]) -> TrainerResult:
    progress = _Progress(attempt)
    return resident_trainer().run(
        job, blobs, on_event=progress.note, beat_seconds=settings.BEAT_SECONDS, on_beat=attempt.beat
    )


class _Progress:
    """Writes a local run's progress and loss history; other work only keeps its lease."""

    def __init__(self, attempt: Attempt[Any]) -> None:
        self._attempt = attempt
        self._history: list[list[float]] = []

    def note(self, event: dict[str, Any]) -> None:
        """Take one progress event; the last step is always written."""
        is_step = event.get("phase") == "training"
        if is_step:
            self._history.append([event["step"], event["loss"]])
        is_last = is_step and event["step"] == event["n_steps"]
        if not isinstance(self._attempt.row, LocalRun) or not (is_last or self._attempt.is_due()):
            return
        self._attempt.beat(progress=event, history=self._history)
