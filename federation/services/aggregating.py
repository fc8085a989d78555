"""The coordinator's arithmetic over stored bytes; rows are read before and written after it, in transactions apart."""

from dataclasses import dataclass
from functools import partial

from django.db import transaction
from django.db.models import Max

from federation.aggregation import WeightedUpdate, capped_weight, get_rule
from federation.aggregation.tensors import MAX_HEADER_BYTES, Sends
from federation.aggregation.updates import ExpectedUpdate, check_update
from federation.models import FederatedRound, LocalRun, PrefixVersion
from federation.services import rounds
from federation.states import LocalRunState, RoundState
from tenants import storage
from tenants.errors import PreludeError
from tenants.failpoints import FailPoint, reach


@dataclass(frozen=True)
class CheckPlan:
    """All that is needed to judge one submitted update."""

    local_run_id: str
    attempt: int
    update_sha256: str
    parent_sha256: str
    parent_size_bytes: int
    expected: ExpectedUpdate
    max_relative_norm: float
    sends: Sends


@dataclass(frozen=True)
class Verdict:
    """What came of the check: no error means accepted."""

    plan: CheckPlan
    error: PreludeError | None


def plan_check(*, local_run: LocalRun) -> CheckPlan | None:
    """What to judge the run's update by; nothing when the run is no longer submitted."""
    if local_run.state != LocalRunState.SUBMITTED:
        return None
    federated_round = local_run.federated_round
    federation, parent = federated_round.federation, federated_round.parent_version
    return CheckPlan(
        local_run_id=local_run.public_id,
        attempt=local_run.attempt,
        update_sha256=local_run.update_sha256,
        parent_sha256=parent.sha256,
        parent_size_bytes=parent.size_bytes,
        expected=ExpectedUpdate(
            round=federated_round.public_id,
            tenant=local_run.tenant.public_id,
            attempt=local_run.attempt,
            base=federation.base_model.weights_sha256,
            parent_sha256=parent.sha256,
        ),
        max_relative_norm=federation.rules.max_relative_norm,
        sends=federation.rules.method.sends,
    )


def judge(plan: CheckPlan) -> Verdict:
    """Read the update and check it against its parent; a refusal is a verdict, not a failure of the task.

    Raises BlobMissing and BlobCorrupt for the parent: no tenant is to blame for that, and the check is tried again.
    """
    parent = storage.get(plan.parent_sha256, max_bytes=plan.parent_size_bytes)
    try:
        update = storage.get(plan.update_sha256, max_bytes=_update_limit(plan.parent_size_bytes))
        check_update(
            update,
            parent=parent,
            expected=plan.expected,
            max_relative_norm=plan.max_relative_norm,
            sends=plan.sends,
        )
    except PreludeError as error:
        return Verdict(plan=plan, error=error)
    return Verdict(plan=plan, error=None)


def _update_limit(parent_size_bytes: int) -> int:
    """An update is its parent's size, but for its header."""
    return parent_size_bytes + MAX_HEADER_BYTES


def record_verdict(*, local_run: LocalRun, verdict: Verdict) -> None:
    """Accept or reject the run; a verdict that comes twice or too late changes nothing."""
    with transaction.atomic():
        local_run.lock()
        if local_run.state != LocalRunState.SUBMITTED or local_run.attempt != verdict.plan.attempt:
            return
        if verdict.error is None:
            local_run.move_to(LocalRunState.ACCEPTED)
        else:
            local_run.move_to(
                LocalRunState.REJECTED, reason=str(verdict.error), rejection_code=verdict.error.code
            )
        reach(FailPoint.VERDICT_WRITTEN)


@dataclass(frozen=True)
class AggregationPlan:
    """The immutable set of accepted updates of a round, in the order in which they are summed."""

    round_id: str
    rule: str
    sends: Sends
    parent_sha256: str
    parent_size_bytes: int
    updates: tuple[tuple[str, float], ...]  # (sha256, weight)


def plan_aggregation(*, federated_round: FederatedRound) -> AggregationPlan | None:
    """What to aggregate; nothing unless the round is in that state."""
    if federated_round.state != RoundState.AGGREGATING:
        return None
    method = federated_round.federation.rules.method
    rules = federated_round.federation.rules.aggregation
    accepted = LocalRun.objects.filter(federated_round=federated_round, state=LocalRunState.ACCEPTED)
    return AggregationPlan(
        round_id=federated_round.public_id,
        rule=rules.rule,
        sends=method.sends,
        parent_sha256=federated_round.parent_version.sha256,
        parent_size_bytes=federated_round.parent_version.size_bytes,
        updates=tuple(
            (local_run.update_sha256, capped_weight(local_run.n_examples, rules.max_weight))
            for local_run in accepted.order_by("tenant_id")
        ),
    )


def aggregate(plan: AggregationPlan) -> bytes:
    """The candidate's bytes: a pure function of the plan, with one update in memory at a time."""
    parent = storage.get(plan.parent_sha256, max_bytes=plan.parent_size_bytes)
    limit = _update_limit(plan.parent_size_bytes)
    updates = (
        WeightedUpdate(weight=weight, load=partial(_load, sha256, max_bytes=limit))
        for sha256, weight in plan.updates
    )
    return get_rule(plan.rule)(parent, updates, sends=plan.sends)


def _load(sha256: str, *, max_bytes: int) -> bytes:
    update = storage.get(sha256, max_bytes=max_bytes)
    reach(FailPoint.UPDATE_LOADED)
    return update


def adopt_candidate(*, federated_round: FederatedRound, plan: AggregationPlan, candidate: bytes) -> None:
    """Make the bytes a version and send it to be evaluated; whoever comes second changes nothing."""
    reach(FailPoint.CANDIDATE_SUMMED)
    sha256 = storage.put(candidate)
    reach(FailPoint.CANDIDATE_STORED)
    with transaction.atomic():
        federated_round.lock()
        if federated_round.state != RoundState.AGGREGATING:
            return
        federation = federated_round.federation
        last = PrefixVersion.objects.filter(federation=federation).aggregate(number=Max("number"))["number"]
        federated_round.candidate_version = PrefixVersion.objects.create(
            federation=federation,
            number=last + 1,
            parent=federated_round.parent_version,
            sha256=sha256,
            size_bytes=len(candidate),
            n_contributors=len(plan.updates),
        )
        federated_round.save(update_fields=["candidate_version"])
        rounds.begin_evaluation(federated_round=federated_round)
        reach(FailPoint.CANDIDATE_ADOPTED)
