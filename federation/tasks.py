"""The coordinator's tasks: ids in, rows read in one transaction, arithmetic outside of any, rows written in another."""

import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import NamedTuple

from celery import shared_task
from django.conf import settings
from django.db.models import QuerySet

from federation import dispatch
from federation.models import Campaign, FederatedRound
from federation.services import aggregating, campaigns, rounds
from federation.services.aggregating import AggregationPlan, CheckPlan, Verdict
from tenants import lookups, scoping
from tenants.errors import LeaseLost, PreludeError
from tenants.failpoints import FailPoint, reach
from tenants.leases import holder


def _rounds() -> QuerySet[FederatedRound]:
    """Rounds with all that their steps read."""
    return FederatedRound.objects.select_related(
        "federation__base_model", "parent_version", "incumbent_version", "candidate_version"
    )


@shared_task(name=dispatch.ADVANCE)
def advance(round_id: str) -> None:
    """Judge a round's submitted updates and take its next step if it is due; a message too many changes nothing."""
    look = _look(round_id)
    with suppress(LeaseLost):  # it was canceled meanwhile, or another coordinator has taken it over
        while look.checks:
            reach(FailPoint.CHECK_BEGUN)
            with _says_what_failed(look.federated_round, "Checking its updates"):
                verdicts = aggregating.judge(look.checks, beat=_beat_of(look.federated_round))
            look = _accept(look.federated_round, verdicts)
            reach(FailPoint.VERDICT_COMMITTED)
            if not look.checks and look.aggregation is None:
                # What was handed in until that commit saw an older one wait, and kept silent.
                look = _look(round_id)
        if look.aggregation is not None:
            reach(FailPoint.AGGREGATION_PLANNED)
            _aggregate(look.federated_round, look.aggregation)
    reach(FailPoint.ROUND_CONCLUDED, look.federated_round.state)


def _aggregate(federated_round: FederatedRound, plan: AggregationPlan) -> None:
    with _says_what_failed(federated_round, "Aggregating it"):
        outcome = aggregating.aggregate(plan, beat=_beat_of(federated_round))
    with scoping.platform():
        aggregating.adopt(federated_round=federated_round, outcome=outcome)


@contextmanager
def _says_what_failed(federated_round: FederatedRound, step: str) -> Iterator[None]:
    """Write into the round what its step failed for; another attempt may find the file, or room on the disk.

    Tenants read the reason, and the error's own text may hold a path or name another one's update.
    """
    try:
        yield
    except LeaseLost:
        raise
    except PreludeError as error:
        _keep_reason(federated_round, f"{error.code}: {step} failed.")
        raise
    except OSError as error:
        cause = os.strerror(error.errno) if error.errno else type(error).__name__
        _keep_reason(federated_round, f"files_not_accessible: {step} failed ({cause}).")
        raise


def _keep_reason(federated_round: FederatedRound, reason: str) -> None:
    with scoping.platform():
        federated_round.keep(state_reason=reason)


def _beat_of(federated_round: FederatedRound) -> Callable[[], None]:
    """What keeps the round's lease while it is called often enough. Raises LeaseLost."""
    written_at = time.monotonic()

    def beat() -> None:
        nonlocal written_at
        if time.monotonic() - written_at >= settings.BEAT_SECONDS:
            written_at = time.monotonic()
            with scoping.platform():
                federated_round.keep()

    return beat


@shared_task(name=dispatch.ADVANCE_CAMPAIGN)
def advance_campaign(campaign_id: str) -> None:
    """Open a campaign's next round, or end it, if its last round has ended; a message too many changes nothing."""
    with scoping.platform():
        campaigns.advance(campaign=Campaign.pick(Campaign.objects.select_related("federation"), campaign_id))


class _Look(NamedTuple):
    """A round, and what is to be done for it outside of any transaction."""

    federated_round: FederatedRound
    checks: list[CheckPlan]
    aggregation: AggregationPlan | None


def _look(round_id: str) -> _Look:
    """Find the updates that wait to be judged; where none does, let the round take the step that is due."""
    with scoping.platform():
        federated_round = lookups.pick(_rounds, round_id)
        if checks := aggregating.plan_checks(federated_round=federated_round):
            return _begin_checks(federated_round, checks)
        rounds.close_training(federated_round=federated_round)
        rounds.conclude(federated_round=federated_round)
        return _begin_aggregation(federated_round)


def _accept(federated_round: FederatedRound, verdicts: Sequence[Verdict]) -> _Look:
    """Write the verdicts, and look what else there is to judge; where nothing is, take the step that is due.

    The round is locked before its local runs, as by whoever cancels it. Raises LeaseLost: another one judges them.

    It is let go of in the transaction that looks anew: whose update this look does not find finds the round free.
    """
    with scoping.platform():
        federated_round.lock_held()
        aggregating.record_verdicts(verdicts=verdicts)
        federated_round.let_go()
        if checks := aggregating.plan_checks(federated_round=federated_round):
            return _begin_checks(federated_round, checks)
        rounds.close_locked(federated_round=federated_round)
        return _begin_aggregation(federated_round)


def _begin_checks(federated_round: FederatedRound, checks: list[CheckPlan]) -> _Look:
    is_ours = aggregating.hold(federated_round=federated_round, owner=holder())
    return _Look(federated_round, checks if is_ours else [], None)


def _begin_aggregation(federated_round: FederatedRound) -> _Look:
    plan = aggregating.begin_aggregation(federated_round=federated_round, owner=holder())
    return _Look(federated_round, [], plan)
