"""The coordinator's arithmetic over stored bytes; rows are read before and written after it, in transactions apart."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Final
from uuid import UUID

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

CHECKED_TOGETHER: Final = 64  # updates whose verdicts are written in one transaction


@dataclass(frozen=True)
class CheckPlan:
    """All that is needed to judge one submitted update."""

    key: UUID
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


def plan_checks(*, federated_round: FederatedRound) -> list[CheckPlan]:
    """What to judge the round's next submitted updates by; empty when none waits."""
    submitted = LocalRun.objects.filter(federated_round=federated_round, state=LocalRunState.SUBMITTED)
    waiting = list(submitted.select_related("tenant").order_by("pk")[:CHECKED_TOGETHER])
    return _plans(federated_round, waiting) if waiting else []


def _plans(federated_round: FederatedRound, local_runs: Sequence[LocalRun]) -> list[CheckPlan]:
    federation, parent = federated_round.federation, federated_round.parent_version
    rules = federation.rules
    return [
        CheckPlan(
            key=local_run.pk,
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
            max_relative_norm=rules.max_relative_norm,
            sends=rules.method.sends,
        )
        for local_run in local_runs
    ]


def judge(plans: Sequence[CheckPlan]) -> list[Verdict]:
    """Check updates of one round against their parent; a refusal is a verdict, not a failure of the task.

    Raises BlobMissing and BlobCorrupt for the parent: no tenant is to blame for that, and the check is tried again.
    """
    first = plans[0]
    parent = storage.get(first.parent_sha256, max_bytes=first.parent_size_bytes)
    return [Verdict(plan=plan, error=_fault(plan, parent)) for plan in plans]


def _fault(plan: CheckPlan, parent: bytes) -> PreludeError | None:
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
        return error
    return None


def _update_limit(parent_size_bytes: int) -> int:
    """An update is its parent's size, but for its header."""
    return parent_size_bytes + MAX_HEADER_BYTES


def record_verdicts(*, verdicts: Sequence[Verdict]) -> None:
    """Accept or reject the runs, in the transaction in force; a verdict that comes twice or too late changes nothing.

    A run that is submitted is so by its last attempt: none begins from there.
    """
    sound = [verdict.plan.key for verdict in verdicts if verdict.error is None]
    LocalRun.move_together(sound, LocalRunState.ACCEPTED, origin=LocalRunState.SUBMITTED)
    for verdict in verdicts:
        if verdict.error is not None:
            _reject(verdict.plan.key, verdict.error)
    reach(FailPoint.VERDICT_WRITTEN)


def _reject(key: UUID, error: PreludeError) -> None:
    waiting = LocalRun.objects.select_for_update(no_key=True).filter(pk=key, state=LocalRunState.SUBMITTED)
    if local_run := waiting.first():
        local_run.move_to(LocalRunState.REJECTED, reason=str(error), rejection_code=error.code)


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
