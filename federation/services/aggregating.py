"""The coordinator's arithmetic over stored files; rows are read before and written after it, in transactions apart."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from uuid import UUID

from django.conf import settings
from django.db import transaction
from django.db.models import Max

from federation.aggregation.columns import Beat, nothing
from federation.aggregation.combining import Recipe, WeightedUpdate, combine
from federation.aggregation.headers import MAX_HEADER_BYTES
from federation.aggregation.updates import ExpectedUpdate, Parent, check_update
from federation.aggregation.weights import capped_weight
from federation.aggregation_settings import WireDtype
from federation.errors import AggregateNotFinite, TooFewUpdates
from federation.models import FederatedRound, LocalRun, PrefixVersion
from federation.services import rounds
from federation.states import LocalRunState, RoundState
from tenants import staging, storage
from tenants.errors import LeaseLost, PreludeError
from tenants.failpoints import FailPoint, reach
from tenants.models import Tenant
from tenants.storage import Stored

CHECKED_TOGETHER: Final = 64  # updates whose verdicts are written in one transaction


@dataclass(frozen=True)
class CheckPlan:
    """All that is needed to judge one submitted update."""

    key: UUID
    update_sha256: str
    parent: Stored
    expected: ExpectedUpdate
    max_relative_norm: float
    dtype: WireDtype
    sends: Callable[[str], bool]


@dataclass(frozen=True)
class Verdict:
    """What came of the check: no error means accepted."""

    plan: CheckPlan
    error: PreludeError | None


def plan_checks(*, federated_round: FederatedRound) -> list[CheckPlan]:
    """What to judge the round's next submitted updates by; empty when none waits, as after the training."""
    if federated_round.state != RoundState.TRAINING:
        return []
    submitted = LocalRun.objects.filter(federated_round=federated_round, state=LocalRunState.SUBMITTED)
    needed = submitted.only("attempt", "tenant_id", "update_sha256")
    waiting = list(needed.order_by("pk")[:CHECKED_TOGETHER])
    return _plans(federated_round, waiting) if waiting else []


def _plans(federated_round: FederatedRound, local_runs: Sequence[LocalRun]) -> list[CheckPlan]:
    federation, parent = federated_round.federation, federated_round.parent_version
    rules = federation.rules
    return [
        CheckPlan(
            key=local_run.pk,
            update_sha256=local_run.update_sha256,
            parent=Stored(parent.sha256, parent.size_bytes),
            expected=ExpectedUpdate(
                round=federated_round.public_id,
                tenant=Tenant(pk=local_run.tenant_id).public_id,
                attempt=local_run.attempt,
                base=federation.base_model.weights_sha256,
                parent_sha256=parent.broadcast_sha256,
            ),
            max_relative_norm=rules.max_relative_norm,
            dtype=rules.upload.dtype,
            sends=rules.method.sends,
        )
        for local_run in local_runs
    ]


def judge(plans: Sequence[CheckPlan], *, beat: Beat = nothing) -> list[Verdict]:
    """Check updates of one round against their parent; a refusal is a verdict, not a failure of the task.

    `beat` is called with each. Raises BlobMissing and BlobCorrupt for the parent: no tenant is to blame for that, and
    the check is tried again.
    """
    with staging.directory() as directory:
        parent = Parent(_stage(plans[0].parent, directory))
        return [_verdict(plan, parent, directory, beat) for plan in plans]


def _verdict(plan: CheckPlan, parent: Parent, directory: Path, beat: Beat) -> Verdict:
    beat()
    return Verdict(plan=plan, error=_fault(plan, parent, directory))


def _fault(plan: CheckPlan, parent: Parent, directory: Path) -> PreludeError | None:
    try:
        limit = _update_limit(plan.parent)
        update = storage.stage(plan.update_sha256, directory, max_bytes=limit)
        check_update(
            update,
            parent=parent,
            expected=plan.expected,
            max_relative_norm=plan.max_relative_norm,
            dtype=plan.dtype,
            sends=plan.sends,
        )
    except PreludeError as error:
        return error
    return None


def _update_limit(parent: Stored) -> int:
    """An update is its parent's size at most, but for its header."""
    return parent.size_bytes + MAX_HEADER_BYTES


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
    """A round's parent, with the server state that is the parent's own, and its accepted updates in a fixed order.

    A roll-back or a branch needs no more: whatever the parent is, its state comes with it.
    """

    round_id: str
    recipe: Recipe
    parent: Stored
    server_state: Stored | None
    updates: tuple[tuple[str, float], ...]  # (sha256, weight)


@dataclass(frozen=True)
class Candidate:
    """The stored files of a candidate."""

    version: Stored
    broadcast: Stored
    server_state: Stored | None


@dataclass(frozen=True)
class Outcome:
    """What came of an aggregation: a candidate, or what makes one impossible from these updates."""

    plan: AggregationPlan
    made: Candidate | PreludeError


def begin_aggregation(*, federated_round: FederatedRound, owner: str) -> AggregationPlan | None:
    """What to aggregate, held by this attempt from now on; nothing where nothing is due, or another is at it."""
    if federated_round.state != RoundState.AGGREGATING or not hold(
        federated_round=federated_round, owner=owner
    ):
        return None
    return plan_aggregation(federated_round=federated_round)


def hold(*, federated_round: FederatedRound, owner: str) -> bool:
    """Take the round for its next step; False where another is at it, or this was one attempt too many.

    A round whose attempts all came to nothing ends: it would hold up its federation for as long as nobody looks.
    """
    try:
        federated_round.take(owner=owner)
    except LeaseLost:
        return False
    if federated_round.n_tries <= settings.MAX_ATTEMPTS:
        return True
    last = federated_round.state_reason or "coordinator_lost: Who worked on it was not heard of in time."
    reason = f"{last} This was attempt {settings.MAX_ATTEMPTS} of {settings.MAX_ATTEMPTS}."
    rounds.give_up(federated_round=federated_round, reason=reason)
    return False


def plan_aggregation(*, federated_round: FederatedRound) -> AggregationPlan:
    """What to aggregate."""
    specification, parent = federated_round.federation.rules, federated_round.parent_version
    rules = specification.aggregation
    accepted = LocalRun.objects.filter(federated_round=federated_round, state=LocalRunState.ACCEPTED)
    has_state = bool(parent.server_state_sha256)
    return AggregationPlan(
        round_id=federated_round.public_id,
        recipe=Recipe(
            rule=rules.rule,
            server=rules.server,
            average_decay=rules.average_decay,
            upload_dtype=specification.upload.dtype,
            broadcast_dtype=specification.broadcast.dtype,
            sends=specification.method.sends,
        ),
        parent=Stored(parent.sha256, parent.size_bytes),
        server_state=Stored(parent.server_state_sha256, parent.server_state_size_bytes)
        if has_state
        else None,
        updates=tuple(
            (sha256, capped_weight(n_examples, rules.max_weight))
            for sha256, n_examples in accepted.values_list("update_sha256", "n_examples").order_by(
                "tenant_id"
            )
        ),
    )


def aggregate(plan: AggregationPlan, *, beat: Beat = nothing) -> Outcome:
    """Make the candidate and store its files: a pure function of the plan, in bounded memory; `beat` as in `combine`.

    Updates from which no candidate can be made are an outcome, not a failure of the task: no repetition helps.
    """
    with staging.directory() as directory:
        try:
            made = combine(
                version=_stage(plan.parent, directory),
                server_state=None if plan.server_state is None else _stage(plan.server_state, directory),
                updates=[
                    WeightedUpdate(_stage_update(sha256, plan.parent, directory, beat), weight)
                    for sha256, weight in plan.updates
                ],
                recipe=plan.recipe,
                directory=directory,
                beat=beat,
            )
        except (AggregateNotFinite, TooFewUpdates) as error:
            return Outcome(plan, error)
        reach(FailPoint.CANDIDATE_SUMMED)
        version = storage.put_path(made.version)
        candidate = Candidate(
            version=version,
            broadcast=version if made.broadcast == made.version else storage.put_path(made.broadcast),
            server_state=None if made.server_state is None else storage.put_path(made.server_state),
        )
    reach(FailPoint.CANDIDATE_STORED)
    return Outcome(plan, candidate)


def _stage(stored: Stored, directory: Path) -> Path:
    return storage.stage(stored.sha256, directory, max_bytes=stored.size_bytes)


def _stage_update(sha256: str, parent: Stored, directory: Path, beat: Beat) -> Path:
    beat()
    update = storage.stage(sha256, directory, max_bytes=_update_limit(parent))
    reach(FailPoint.UPDATE_LOADED)
    return update


def adopt(*, federated_round: FederatedRound, outcome: Outcome) -> None:
    """Make the candidate a version to be evaluated, or end the round. Raises LeaseLost for a stale attempt."""
    with transaction.atomic():
        federated_round.lock_held()
        made = outcome.made
        if isinstance(made, PreludeError):
            reason = f"{made.code}: {made}"
            rounds.end(federated_round=federated_round, state=RoundState.FAILED, reason=reason)
            return
        n_contributors = len(outcome.plan.updates)
        federated_round.candidate_version = _create_version(federated_round, made, n_contributors)
        federated_round.save(update_fields=["candidate_version"])
        rounds.begin_evaluation(federated_round=federated_round)
        reach(FailPoint.CANDIDATE_ADOPTED)


def _create_version(
    federated_round: FederatedRound, candidate: Candidate, n_contributors: int
) -> PrefixVersion:
    federation, state = federated_round.federation, candidate.server_state or Stored("", 0)
    last = PrefixVersion.objects.filter(federation=federation).aggregate(number=Max("number"))["number"]
    return PrefixVersion.objects.create(
        federation=federation,
        number=last + 1,
        parent=federated_round.parent_version,
        sha256=candidate.version.sha256,
        size_bytes=candidate.version.size_bytes,
        broadcast_sha256=candidate.broadcast.sha256,
        broadcast_size_bytes=candidate.broadcast.size_bytes,
        server_state_sha256=state.sha256,
        server_state_size_bytes=state.size_bytes,
        n_contributors=n_contributors,
    )
