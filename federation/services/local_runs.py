"""What a training worker reports of a local run: progress, an update, or a failure."""

from contextlib import nullcontext

from federation.models import LocalRun
from federation.services import evaluations, looking, residuals
from federation.states import LocalRunState
from tenants import storage
from tenants.failpoints import FailPoint, reach
from tenants.services import attempts


def submit_update(
    *, local_run: LocalRun, update: bytes, metrics: dict[str, object], residual: bytes | None = None
) -> None:
    """Keep the update's bytes, then hand the run to the coordinator in one transaction, with error feedback's residual.

    Raises LeaseLost when the round has closed, was canceled, or another attempt holds the run; the bytes are then
    unused.
    """
    reach(FailPoint.UPDATE_RECEIVED)
    sha256 = storage.put(update)
    reach(FailPoint.UPDATE_STORED)
    with nullcontext() if residual is None else residuals.kept(local_run=local_run, residual=residual):
        attempts.end(
            local_run,
            LocalRunState.SUBMITTED,
            update_sha256=sha256,
            update_size_bytes=len(update),
            metrics=metrics,
            received_bytes=len(update),
        )
    looking.after_run(local_run)
    reach(FailPoint.UPDATE_SUBMITTED)


def record_before(*, local_run: LocalRun, score: dict[str, float]) -> None:
    """Keep the broadcast version's score that this run measured before it trained."""
    federated_round = local_run.federated_round
    evaluations.record_measured(
        federation=federated_round.federation,
        version=federated_round.parent_version,
        dataset=local_run.dataset,
        score=score,
    )


def fail_local_run(*, local_run: LocalRun, code: str, reason: str) -> None:
    """The attempt met a fault that another attempt would meet again. Raises LeaseLost for a stale attempt."""
    attempts.end(local_run, LocalRunState.FAILED, reason=f"{code}: {reason}")
    looking.after_run(local_run)
