"""Steps of a round as the training side would take them, for tests that are not about learning."""

from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from federation import tasks
from federation.aggregation.wire import encode
from federation.models import Evaluation, FederatedRound, Federation, LocalRun
from federation.services import evaluations, local_runs, rounds
from federation.states import EvaluationState
from tenants import scoping
from tests.claims import claim as claim_row
from tests.factories import PREFIX_SHAPE

M = TypeVar("M", FederatedRound, LocalRun, Evaluation, Federation)
Values = NDArray[np.float32]


def start(federation: Federation) -> FederatedRound:
    """A round of the federation, in training."""
    with scoping.platform():
        return rounds.start_round(federation=federation)


def runs_of(federated_round: FederatedRound) -> list[LocalRun]:
    """The round's local runs in the order in which they are summed."""
    with scoping.platform():
        runs = LocalRun.objects.filter(federated_round=federated_round)
        return list(runs.select_related("tenant", "federated_round__parent_version").order_by("tenant_id"))


def claim(local_run: LocalRun) -> LocalRun:
    """The run, claimed by a worker."""
    with scoping.tenant(local_run.tenant_id):
        return claim_row(LocalRun, local_run.pk, owner="worker")


def change(seed: int, scale: float = 0.01) -> Values:
    """A change of the prefix: float32, PREFIX_SHAPE."""
    return np.random.default_rng(seed).normal(scale=scale, size=PREFIX_SHAPE).astype(np.float32)


def update_bytes(local_run: LocalRun, values: Values) -> bytes:
    """The update file that an honest worker makes of the values."""
    with scoping.platform():
        federated_round, tenant = local_run.federated_round, local_run.tenant
    return encode(
        {"prompt_embeddings": values},
        federated_round.federation.rules.upload.dtype,
        {
            "round": federated_round.public_id,
            "tenant": tenant.public_id,
            "attempt": str(local_run.attempt),
            "base": federated_round.federation.base_model.weights_sha256,
            "parent": federated_round.parent_version.broadcast_sha256,
        },
    )


def submit(local_run: LocalRun, update: bytes, *, residual: bytes | None = None) -> LocalRun:
    """Submit as the worker that holds the run, then let the coordinator check it."""
    with scoping.tenant(local_run.tenant_id):
        local_runs.submit_update(local_run=local_run, update=update, metrics={}, residual=residual)
    tasks.advance(local_run.federated_round.public_id)
    return reload(local_run)


def train_all(federated_round: FederatedRound) -> None:
    """Every tenant of the round submits a sound update."""
    for seed, local_run in enumerate(runs_of(federated_round)):
        claimed = claim(local_run)
        submit(claimed, update_bytes(claimed, change(seed)))


def score_all(federated_round: FederatedRound, *, parent: float, candidate: float) -> None:
    """Every tenant measures both versions, where it has not yet; the coordinator looks at the round.

    `parent` is the score of what the gate compares with: the parent, but in campaigns.
    """
    federated_round = reload(federated_round)
    for version, accuracy in [
        (federated_round.incumbent_version, parent),
        (federated_round.candidate_version, candidate),
    ]:
        with scoping.platform():
            waiting = list(Evaluation.objects.filter(version=version, state=EvaluationState.QUEUED))
        for evaluation in waiting:
            score(evaluation, accuracy)
    tasks.advance(federated_round.public_id)


def score(evaluation: Evaluation, accuracy: float) -> None:
    """One tenant's worker scores a version."""
    with scoping.tenant(evaluation.tenant_id):
        claimed = claim_row(Evaluation, evaluation.pk, owner="worker")
        evaluations.complete_evaluation(evaluation=claimed, accuracy=accuracy, loss=1 - accuracy, n_rows=20)


def fail(local_run: LocalRun) -> None:
    """The worker that holds the run gives it up."""
    with scoping.tenant(local_run.tenant_id):
        local_runs.fail_local_run(local_run=local_run, code="loss_not_finite", reason="The loss is NaN.")
    tasks.advance(local_run.federated_round.public_id)


def reload(row: M) -> M:
    """The row as it is now, with nothing cached."""
    with scoping.platform():
        return type(row).objects.get(pk=row.pk)
