"""The coordinator's tasks: ids in, rows read in one transaction, arithmetic outside of any, rows written in another."""

from celery import shared_task

from federation import dispatch
from federation.models import FederatedRound, LocalRun
from federation.services import aggregating, rounds
from tenants import scoping
from tenants.failpoints import FailPoint, reach

_NEEDED = ("tenant", "federated_round__federation__base_model", "federated_round__parent_version")


@shared_task(name=dispatch.CHECK_UPDATE)
def check_update(local_run_id: str) -> None:
    """Judge a submitted update, then see whether its round can go on."""
    with scoping.platform():
        local_run = LocalRun.pick(LocalRun.objects.select_related(*_NEEDED), local_run_id)
        plan = aggregating.plan_check(local_run=local_run)
        round_id = local_run.federated_round.public_id
    if plan is not None:
        reach(FailPoint.CHECK_BEGUN)
        verdict = aggregating.judge(plan)
        with scoping.platform():
            aggregating.record_verdict(local_run=local_run, verdict=verdict)
        reach(FailPoint.VERDICT_COMMITTED)
    _advance(round_id)


@shared_task(name=dispatch.ADVANCE)
def advance(round_id: str) -> None:
    """Take a round's next step if it is due; a message too many changes nothing."""
    _advance(round_id)


def _advance(round_id: str) -> None:
    with scoping.platform():
        federated_round = FederatedRound.pick(FederatedRound.objects.all(), round_id)
        rounds.close_training(federated_round=federated_round)
        rounds.conclude(federated_round=federated_round)
        plan = aggregating.plan_aggregation(federated_round=federated_round)
    if plan is not None:
        reach(FailPoint.AGGREGATION_PLANNED)
        candidate = aggregating.aggregate(plan)
        with scoping.platform():
            aggregating.adopt_candidate(federated_round=federated_round, plan=plan, candidate=candidate)
            rounds.conclude(federated_round=federated_round)
    reach(FailPoint.ROUND_CONCLUDED, federated_round.state)
