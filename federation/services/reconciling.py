"""What makes messages dispensable: whatever waits, hangs or is overdue is found in PostgreSQL and set going again.

Any number of reconcilers may run at once. Each row is handled in a transaction of its own, under its lock, and one that
somebody else holds is left to them: no reconciler waits for a row, and none holds one longer than its turn takes.
"""

from collections.abc import Callable
from datetime import timedelta
from typing import TypeVar

import structlog
from django.conf import settings
from django.db import transaction
from django.db.models import Exists, OuterRef, Q, QuerySet
from django.db.models.expressions import CombinedExpression
from django.db.models.functions import Now

from federation import dispatch as coordinator
from federation.models import (
    BaseModel,
    Campaign,
    Evaluation,
    FederatedRound,
    Federation,
    LocalRun,
    PersonalPrefix,
)
from federation.services import base_models, evaluations, federations, local_runs, personal_prefixes
from federation.states import CAMPAIGN_LIVE, ROUND_LIVE, LocalRunState, RoundState
from tenants import dispatch, scoping
from tenants.failpoints import FailPoint, reach
from tenants.ids import Identified
from tenants.leases import Leased
from tenants.models import Dataset
from tenants.services import attempts, datasets

log = structlog.get_logger(__name__)
Row = TypeVar("Row", bound=Identified)
LEASED: tuple[type[Leased], ...] = (
    BaseModel,
    Dataset,
    Federation,
    LocalRun,
    Evaluation,
    PersonalPrefix,
)


def reconcile() -> None:
    """One look at everything: expired leases, unanswered messages, rounds and campaigns that should have moved."""
    for model in LEASED:
        _each(model.expired, _take_back)
        _each(model.overdue, _wake)
    _each(_rounds_to_look_at, coordinator.advance)
    _each(_campaigns_between_rounds, coordinator.advance_campaign)


def _each(find: Callable[[], QuerySet[Row]], handle: Callable[[Row], None]) -> None:
    """Handle every row that is found; one that cannot be handled holds up no other."""
    with scoping.platform():
        rows = list(find())
    for row in rows:
        try:
            with scoping.platform():
                handle(row)
        except Exception:
            log.exception("not_reconciled", subject=row.public_id)


def hand_back(row: Leased, *, code: str, reason: str) -> None:
    """End an attempt that came to nothing: the work waits again, or fails with `code` after its last attempt.

    Raises LeaseLost when the row's attempt no longer holds it.
    """
    with transaction.atomic():
        row.lock_held()
        if row.attempt >= settings.MAX_ATTEMPTS:
            give_up(
                row,
                code=code,
                reason=f"{reason} This was attempt {row.attempt} of {settings.MAX_ATTEMPTS}.",
            )
            return
        attempts.hand_back(row, reason=f"{code}: {reason}")
        dispatch.wake_worker(row)


def give_up(row: Leased, *, code: str, reason: str) -> None:
    """End work for a fault that another attempt would meet again. Raises LeaseLost for a stale attempt."""
    match row:
        case BaseModel():
            base_models.refuse_base_model(base_model=row, code=code, reason=reason)
        case Dataset():
            datasets.refuse_dataset(dataset=row, code=code, reason=reason)
        case Federation():
            federations.refuse_start(federation=row, code=code, reason=reason)
        case LocalRun():
            local_runs.fail_local_run(local_run=row, code=code, reason=reason)
        case Evaluation():
            evaluations.fail_evaluation(evaluation=row, reason=f"{code}: {reason}")
        case PersonalPrefix():
            personal_prefixes.fail_personal_prefix(personal_prefix=row, reason=f"{code}: {reason}")
        case _:
            raise TypeError(f"{type(row).__name__} is no work of the training side")


def _take_back(row: Leased) -> None:
    locked = _locked(type(row).expired(), row)
    if locked is not None:  # else another reconciler has it, or its worker was heard of after all
        log.warning("lease_expired", subject=row.public_id, attempt=locked.attempt, worker=locked.lease_owner)
        locked.write_off()
        reason = "Its worker was not heard of within its lease."
        hand_back(locked, code="worker_lost", reason=reason)
        reach(FailPoint.TAKEN_BACK)


def _wake(row: Leased) -> None:
    locked = _locked(type(row).overdue(), row)
    if locked is not None:  # else it is being claimed, called off, or told of by another reconciler
        dispatch.wake_worker(locked)


def _locked(rows: QuerySet[Leased], row: Leased) -> Leased | None:
    return rows.select_for_update(skip_locked=True, no_key=True).filter(pk=row.pk).first()


def _rounds_to_look_at() -> QuerySet[FederatedRound]:
    live_runs = LocalRun.objects.filter(federated_round=OuterRef("pk"), finished_at=None)
    live_evaluations = Evaluation.objects.filter(version=OuterRef("candidate_version"), finished_at=None)
    late = Q(state__in=[RoundState.TRAINING, RoundState.EVALUATING], deadline_at__lt=Now())
    trained = Q(state=RoundState.TRAINING) & ~Exists(live_runs)
    unchecked = LocalRun.objects.filter(
        federated_round=OuterRef("pk"), state=LocalRunState.SUBMITTED, state_changed_at__lt=_long_ago()
    )
    scored = Q(state=RoundState.EVALUATING) & ~Exists(live_evaluations)
    # A coordinator that is at it is not told again, and others would leave it alone.
    nobodys = Q(pk__in=FederatedRound.unattended().values("pk"))
    unattended = nobodys & (Exists(unchecked) | Q(state=RoundState.AGGREGATING))
    # Asked for by their keys: of these few the runs are looked up, where all that were ever held would be read.
    live = list(FederatedRound.objects.filter(state__in=ROUND_LIVE).values_list("pk", flat=True))
    due = late | trained | unattended | scored
    return FederatedRound.objects.filter(due, pk__in=live)


def _campaigns_between_rounds() -> QuerySet[Campaign]:
    live_rounds = FederatedRound.objects.filter(campaign=OuterRef("pk"), state__in=ROUND_LIVE)
    return Campaign.objects.filter(~Exists(live_rounds), state__in=CAMPAIGN_LIVE)


def _long_ago() -> CombinedExpression:
    return Now() - timedelta(seconds=settings.RESEND_SECONDS)
