"""The coordinator's tasks: ids in, rows read in one transaction, arithmetic outside of any, rows written in another."""

import os
import socket
import time
from collections.abc import Callable
from contextlib import suppress

from celery import shared_task
from django.conf import settings

from federation import dispatch
from federation.models import Campaign, FederatedRound
from federation.services import aggregating, campaigns, rounds
from federation.services.aggregating import AggregationPlan
from tenants import scoping
from tenants.errors import LeaseLost
from tenants.failpoints import FailPoint, reach

_NAME = f"{socket.gethostname()}:{os.getpid()}"
_NEEDED = ("federation__base_model", "parent_version")


@shared_task(name=dispatch.ADVANCE)
def advance(round_id: str) -> None:
    """Judge a round's submitted updates and take its next step if it is due; a message too many changes nothing."""
    while _check_updates(round_id):
        reach(FailPoint.VERDICT_COMMITTED)
    with scoping.platform():
        federated_round = _pick(round_id)
        rounds.close_training(federated_round=federated_round)
        rounds.conclude(federated_round=federated_round)
        plan = aggregating.begin_aggregation(federated_round=federated_round, owner=_NAME)
    if plan is not None:
        reach(FailPoint.AGGREGATION_PLANNED)
        with suppress(LeaseLost):  # it was canceled meanwhile, or another coordinator has taken it over
            _aggregate(federated_round, plan)
    reach(FailPoint.ROUND_CONCLUDED, federated_round.state)


def _aggregate(federated_round: FederatedRound, plan: AggregationPlan) -> None:
    outcome = aggregating.aggregate(plan, beat=_beat_of(federated_round))
    with scoping.platform():
        aggregating.adopt(federated_round=federated_round, outcome=outcome)
        rounds.conclude(federated_round=federated_round)


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


def _check_updates(round_id: str) -> bool:
    """Judge updates that were submitted until now; whether there were any."""
    with scoping.platform():
        plans = aggregating.plan_checks(federated_round=_pick(round_id))
    if not plans:
        return False
    reach(FailPoint.CHECK_BEGUN)
    verdicts = aggregating.judge(plans)
    with scoping.platform():
        aggregating.record_verdicts(verdicts=verdicts)
    return True


def _pick(round_id: str) -> FederatedRound:
    return FederatedRound.pick(FederatedRound.objects.select_related(*_NEEDED), round_id)
