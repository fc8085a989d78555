"""A round from its opening to its end, but for the arithmetic (`aggregating`)."""

from collections.abc import Sequence
from datetime import datetime, timedelta

from django.db import IntegrityError, transaction
from django.db.models import Count, Max, Q, QuerySet
from django.utils import timezone

from federation import dispatch as coordinator
from federation.errors import (
    CampaignInProgress,
    FederationNotReady,
    QuorumOutOfReach,
    RoundInProgress,
    RoundOfCampaign,
)
from federation.models import (
    Campaign,
    Enrolment,
    Evaluation,
    FederatedRound,
    Federation,
    LocalRun,
    PrefixVersion,
    PublishedPrefix,
)
from federation.services import admission, evaluations, gate, looking
from federation.services.admission import Admission
from federation.services.evaluations import Place
from federation.states import (
    CAMPAIGN_LIVE,
    EVALUATION_TRANSITIONS,
    ROUND_LIVE,
    EnrolmentState,
    EvaluationState,
    FederationState,
    LocalRunState,
    RoundState,
)
from tenants import dispatch
from tenants.failpoints import FailPoint, reach
from tenants.leases import Leased
from tenants.services import attempts, audit
from tenants.states import TenantState

_TOO_LATE = "The round's deadline passed."
_UNFINISHED_EVALUATION = tuple(state for state, targets in EVALUATION_TRANSITIONS.items() if targets)


def start_round(
    *, federation: Federation, due_at: datetime | None = None, campaign: Campaign | None = None
) -> FederatedRound:
    """Open a round and send every active tenant's local run to the workers.

    It begins from the published version; in a campaign, from the last candidate. A tenant that is at one of its limits
    is left out of this round, which its events tell.

    Raises FederationNotReady, CampaignInProgress, RoundInProgress and QuorumOutOfReach; then nothing has changed.
    """
    if federation.state != FederationState.READY:
        raise FederationNotReady(federation_id=federation.public_id, state=federation.state)
    with transaction.atomic():
        admission.one_at_a_time()
        federation.lock()
        _check_free(federation, campaign)
        parted = _parted(federation)
        federated_round = _open(federation, due_at, campaign)
        for left_out in parted.left_out:
            admission.tell(federated_round, left_out)
        _queue_local_runs(federated_round, parted.admitted)
        federated_round.move_to(RoundState.TRAINING)
        after = audit.fields(
            federated_round, "federation", "number", "state", "parent_version", "due_at", "campaign"
        )
        audit.record(action="round.started", subject=federated_round, after=after)
        reach(FailPoint.ROUND_OPENED)
        return federated_round


def _check_free(federation: Federation, campaign: Campaign | None) -> None:
    live = Campaign.objects.filter(federation=federation, state__in=CAMPAIGN_LIVE).first()
    if live is not None and live != campaign:
        raise CampaignInProgress(federation_id=federation.public_id, campaign_id=live.public_id)
    if FederatedRound.objects.filter(federation=federation, state__in=ROUND_LIVE).exists():
        raise RoundInProgress(federation_id=federation.public_id)


def _parted(federation: Federation) -> Admission:
    active = Enrolment.objects.filter(
        federation=federation, state=EnrolmentState.ACTIVE, tenant__state=TenantState.ACTIVE
    )
    parted = admission.part(list(active.select_related("tenant__limits", "dataset").order_by("tenant_id")))
    n_admitted, n_left_out = len(parted.admitted), len(parted.left_out)
    if n_admitted < federation.rules.round.quorum:
        raise QuorumOutOfReach(
            federation_id=federation.public_id,
            n_active=n_admitted + n_left_out,
            n_left_out=n_left_out,
            quorum=federation.rules.round.quorum,
        )
    return parted


def _open(federation: Federation, due_at: datetime | None, campaign: Campaign | None) -> FederatedRound:
    published = PublishedPrefix.objects.select_related("version").get(federation=federation).version
    last = FederatedRound.objects.filter(federation=federation).aggregate(number=Max("number"))["number"] or 0
    try:
        with transaction.atomic():
            return FederatedRound.objects.create(
                federation=federation,
                number=last + 1,
                parent_version=_last_candidate(campaign) or published,
                incumbent_version=published,
                quorum=federation.rules.round.quorum,
                deadline_at=_deadline(federation),
                due_at=due_at,
                campaign=campaign,
            )
    except IntegrityError:
        raise RoundInProgress(federation_id=federation.public_id) from None


def _last_candidate(campaign: Campaign | None) -> PrefixVersion | None:
    """Of the campaign's newest round that came to one and did not fail, whether or not it was published."""
    if campaign is None:
        return None
    ended = campaign.rounds.filter(state__in=(RoundState.PUBLISHED, RoundState.KEPT)).order_by("-number")
    newest = ended.select_related("candidate_version").first()
    return newest.candidate_version if newest else None


def _deadline(federation: Federation) -> datetime:
    return timezone.now() + timedelta(seconds=federation.rules.round.deadline_seconds)


def _queue_local_runs(federated_round: FederatedRound, enrolments: Sequence[Enrolment]) -> None:
    taking_part = [
        (enrolment, enrolment.dataset) for enrolment in enrolments if enrolment.dataset is not None
    ]
    if _is_evaluated(federated_round):
        evaluations.request(
            federation=federated_round.federation,
            version=federated_round.incumbent_version,
            places=[Place(dataset.pk, dataset.tenant_id) for _, dataset in taking_part],
        )
    local_runs = LocalRun.objects.bulk_create(
        LocalRun(
            tenant=enrolment.tenant,
            federated_round=federated_round,
            enrolment=enrolment,
            dataset=dataset,
            n_examples=dataset.facts["n_train"],
            **dispatch.TOLD,
        )
        for enrolment, dataset in taking_part
    )
    dispatch.wake_workers(local_runs)


def _is_evaluated(federated_round: FederatedRound) -> bool:
    """Whether its candidate is scored: always, but in a campaign that evaluates every so many rounds."""
    campaign = federated_round.campaign
    return campaign is None or campaign.evaluates(_place(federated_round, campaign))


def _place(federated_round: FederatedRound, campaign: Campaign) -> int:
    """The round's place in its campaign, from 1."""
    return campaign.rounds.filter(number__lte=federated_round.number).count()


def close_training(*, federated_round: FederatedRound) -> None:
    """When all local runs have ended, or the deadline has passed: go on with what was accepted, or fail.

    An update that is submitted but not yet checked holds the round open, past the deadline too: its check is under way.
    """
    if federated_round.state != RoundState.TRAINING:
        return
    if not _is_late(federated_round) and _unfinished_runs(federated_round).exists():
        return  # found without a lock: of the many messages of a round one alone moves it
    with transaction.atomic(savepoint=False):
        federated_round.lock()
        close_locked(federated_round=federated_round)


def close_locked(*, federated_round: FederatedRound) -> None:
    """The same for a round whose lock the caller holds."""
    if federated_round.state != RoundState.TRAINING:
        return
    if _is_late(federated_round):
        _end_stragglers(federated_round)
    runs = LocalRun.objects.filter(federated_round=federated_round).aggregate(
        n_unfinished=Count("pk", filter=Q(finished_at=None)),
        n_accepted=Count("pk", filter=Q(state=LocalRunState.ACCEPTED)),
    )
    if runs["n_unfinished"]:
        return
    if runs["n_accepted"] >= federated_round.quorum:
        federated_round.move_to(RoundState.AGGREGATING)
        reach(FailPoint.TRAINING_CLOSED)
    else:
        reason = (
            f"Only {runs['n_accepted']} updates were accepted and the quorum is {federated_round.quorum}."
        )
        end(federated_round=federated_round, state=RoundState.FAILED, reason=reason)


def _is_late(federated_round: FederatedRound) -> bool:
    return timezone.now() >= federated_round.deadline_at


def _unfinished_runs(federated_round: FederatedRound) -> QuerySet[LocalRun]:
    return LocalRun.objects.filter(federated_round=federated_round, finished_at=None)


def end(*, federated_round: FederatedRound, state: RoundState, reason: str) -> None:
    """Move the round to its last state, on record. Raises RoundStateConflict when it has ended already."""
    before = audit.fields(federated_round, "state")
    federated_round.move_to(state, reason=reason)
    after = {"state": state, "reason": reason}
    audit.record(action=f"round.{state}", subject=federated_round, before=before, after=after)
    if federated_round.campaign is not None:
        coordinator.advance_campaign(federated_round.campaign)


def _end_stragglers(federated_round: FederatedRound) -> None:
    late = (LocalRunState.QUEUED, LocalRunState.RUNNING)
    stragglers = LocalRun.objects.filter(federated_round=federated_round, state__in=late).order_by("pk")
    attempts.interrupt(((run, LocalRunState.FAILED) for run in stragglers), reason=_TOO_LATE)


def begin_evaluation(*, federated_round: FederatedRound) -> None:
    """The candidate is there: every tenant of the round scores it on its held-out rows, within another deadline.

    In a campaign whose turn to evaluate it is not, the round ends here: the next one begins from its candidate.
    """
    campaign = federated_round.campaign
    if campaign is not None and not _is_evaluated(federated_round):
        place = f"Round {_place(federated_round, campaign)} of {campaign.n_rounds} of its campaign"
        reason = f"{place}, which evaluates every {campaign.evaluate_every} rounds and the last: not scored."
        end(federated_round=federated_round, state=RoundState.KEPT, reason=reason)
        return
    runs = LocalRun.objects.filter(federated_round=federated_round)
    evaluations.request(
        federation=federated_round.federation,
        version=federated_round.candidate_version,
        places=[Place(*keys) for keys in runs.values_list("dataset_id", "tenant_id").order_by("pk")],
    )
    federated_round.move_to(RoundState.EVALUATING, deadline_at=_deadline(federated_round.federation))


def conclude(*, federated_round: FederatedRound) -> None:
    """When the evaluations that the gate compares have ended, or the deadline has passed: let it decide."""
    if federated_round.state != RoundState.EVALUATING:
        return
    if not _is_late(federated_round) and not looking.is_scored(federated_round):
        return
    with transaction.atomic(savepoint=False):
        federated_round.lock()
        if federated_round.state != RoundState.EVALUATING:
            return
        if _is_late(federated_round):
            unfinished = _unfinished_evaluations(federated_round).order_by("pk")
            attempts.interrupt(((row, EvaluationState.CANCELED) for row in unfinished), reason=_TOO_LATE)
        if looking.is_scored(federated_round):
            verdict = gate.decide(federated_round=federated_round)
            end(federated_round=federated_round, state=verdict.state, reason=verdict.reason)
            reach(FailPoint.GATE_DECIDED)


def cancel_round(*, federated_round: FederatedRound, actor: str) -> FederatedRound:
    """End a round that was opened by itself.

    Raises RoundOfCampaign, and RoundStateConflict when the round has ended already.
    """
    with transaction.atomic():
        federated_round.lock()
        if federated_round.campaign is not None and not federated_round.is_finished:
            raise RoundOfCampaign(
                round_id=federated_round.public_id, campaign_id=federated_round.campaign.public_id
            )
        return call_off(federated_round=federated_round, actor=actor)


def call_off(*, federated_round: FederatedRound, actor: str) -> FederatedRound:
    """End the round now: nothing of it is published; running workers learn it with their next heartbeat.

    Raises RoundStateConflict when the round has ended already.
    """
    return _end_now(federated_round, RoundState.CANCELED, f"Canceled by {actor}.", "The round was canceled.")


def give_up(*, federated_round: FederatedRound, reason: str) -> FederatedRound:
    """The same for a round whose next step the platform could not take."""
    return _end_now(federated_round, RoundState.FAILED, reason, "The round failed.")


def _end_now(
    federated_round: FederatedRound, state: RoundState, reason: str, reason_of_work: str
) -> FederatedRound:
    with transaction.atomic():
        federated_round.lock()
        end(federated_round=federated_round, state=state, reason=reason)
        runs = _unfinished_runs(federated_round).order_by("pk")  # in which they are locked where several are
        unfinished: list[tuple[Leased, str]] = [(run, LocalRunState.CANCELED) for run in runs]
        of_candidate = _unfinished_evaluations(federated_round).filter(
            version=federated_round.candidate_version_id  # later rounds are compared with the incumbent too
        )
        unfinished += [(row, EvaluationState.CANCELED) for row in of_candidate.order_by("pk")]
        attempts.interrupt(unfinished, reason=reason_of_work)
        return federated_round


def _unfinished_evaluations(federated_round: FederatedRound) -> QuerySet[Evaluation]:
    """Those at the round's tenants that have not ended, of both versions that the gate compares."""
    if federated_round.candidate_version_id is None:
        return Evaluation.objects.none()
    return Evaluation.objects.filter(
        version__in=(federated_round.candidate_version_id, federated_round.incumbent_version_id),
        dataset__in=LocalRun.objects.filter(federated_round=federated_round).values("dataset"),
        state__in=_UNFINISHED_EVALUATION,
    )
