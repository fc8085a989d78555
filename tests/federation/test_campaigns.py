"""Campaigns: rounds in a chain, of which the best version stays published, whatever comes between."""

import itertools
from contextlib import suppress
from typing import Any

import pytest
from django.db import IntegrityError, transaction
from django.utils import timezone
from hypothesis import given, settings
from hypothesis import strategies as st
from pytest_django import DjangoCaptureOnCommitCallbacks

from federation import tasks
from federation.errors import (
    CampaignInProgress,
    CampaignStateConflict,
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
    RoundEvent,
    Schedule,
)
from federation.services import campaigns, prefixes, reconciling, rounds, schedules
from federation.states import ROUND_LIVE, CampaignState, EnrolmentState, EvaluationState, RoundState
from tenants import scoping
from tenants.errors import PreludeError
from tenants.models import AuditEntry
from tests.conftest import Message
from tests.factories import CampaignFactory, EnrolmentFactory, ScheduleFactory, ready_federation
from tests.federation import rounds as steps
from tests.racing import at_once

pytestmark = pytest.mark.django_db
Capture = DjangoCaptureOnCommitCallbacks


def start(federation: Federation, n_rounds: int = 3, **options: Any) -> Campaign:
    with scoping.platform():
        return campaigns.start_campaign(federation=federation, n_rounds=n_rounds, **options)


def reload(campaign: Campaign) -> Campaign:
    with scoping.platform():
        return Campaign.objects.get(pk=campaign.pk)


def rounds_of(campaign: Campaign) -> list[FederatedRound]:
    """In their order, with their versions."""
    with scoping.platform():
        found = FederatedRound.objects.filter(campaign=campaign).order_by("number")
        return list(found.select_related("parent_version", "candidate_version", "incumbent_version"))


def live_round(campaign: Campaign) -> FederatedRound:
    [found] = [one for one in rounds_of(campaign) if one.state in ROUND_LIVE]
    return found


def hold(campaign: Campaign, *, score: float | None = None) -> None:
    """The live round: all train and, if it comes to that, give its candidate this score; then the next one opens."""
    federated_round = live_round(campaign)
    steps.train_all(federated_round)
    if score is not None:
        steps.score_all(federated_round, parent=0.5, candidate=score)
    tasks.advance_campaign(campaign.public_id)


def lose(campaign: Campaign) -> None:
    """The live round: all tenants fail."""
    federated_round = live_round(campaign)
    for local_run in steps.runs_of(federated_round):
        steps.fail(steps.claim(local_run))
    tasks.advance_campaign(campaign.public_id)


def published_number(campaign: Campaign) -> int:
    with scoping.platform():
        return int(Federation.objects.get(pk=campaign.federation_id).published.version.number)


def numbers(campaign: Campaign, name: str) -> list[int]:
    return [getattr(one, name).number for one in rounds_of(campaign)]


def test_each_round_begins_where_the_one_before_ended_and_the_best_stays_published() -> None:
    campaign = start(ready_federation(), n_rounds=4)
    for score in (0.7, 0.6, 0.65, 0.8):
        hold(campaign, score=score)
    assert [one.state for one in rounds_of(campaign)] == ["published", "kept", "kept", "published"]
    assert numbers(campaign, "parent_version") == [0, 1, 2, 3]
    assert numbers(campaign, "incumbent_version") == [0, 1, 1, 1]
    assert published_number(campaign) == 4
    ended = reload(campaign)
    assert (ended.state, ended.state_reason) == (CampaignState.COMPLETED, "Its 4 rounds were held.")
    assert ended.finished_at is not None
    for one in rounds_of(campaign):
        assert one.candidate_version is not None
        assert one.candidate_version.parent_id == one.parent_version_id


def test_a_candidate_that_is_no_better_is_kept_however_little_is_missing() -> None:
    campaign = start(ready_federation(gate={"tolerance": 0.1}), n_rounds=3)
    for score in (0.7, 0.7, 0.69):
        hold(campaign, score=score)
    assert [one.state for one in rounds_of(campaign)] == ["published", "kept", "kept"]
    assert published_number(campaign) == 1


def test_a_round_by_itself_begins_from_the_published_version_again() -> None:
    federation = ready_federation()
    campaign = start(federation, n_rounds=2)
    for score in (0.7, 0.6):
        hold(campaign, score=score)
    after = steps.start(federation)
    with scoping.platform():
        assert (after.parent_version.number, after.incumbent_version.number) == (1, 1)
        assert after.campaign is None


def test_it_ends_early_when_patience_is_used_up() -> None:
    campaign = start(ready_federation(), n_rounds=10, patience=2)
    for score in (0.6, 0.55, 0.7, 0.65, 0.69):
        assert reload(campaign).state == CampaignState.RUNNING
        hold(campaign, score=score)
    ended = reload(campaign)
    assert ended.state == CampaignState.COMPLETED
    assert ended.state_reason == "Ended early: 2 evaluated rounds in a row gave no better version."
    assert len(rounds_of(campaign)) == 5
    assert published_number(campaign) == 3


def test_rounds_that_are_not_due_end_without_scores_and_the_last_one_is_always_due() -> None:
    campaign = start(ready_federation(), n_rounds=5, evaluate_every=3, patience=1)
    for score in (None, None, 0.7, None, 0.8):
        hold(campaign, score=score)
    held = rounds_of(campaign)
    assert [one.state for one in held] == ["kept", "kept", "published", "kept", "published"]
    assert held[0].state_reason == (
        "Round 1 of 5 of its campaign, which evaluates every 3 rounds and the last: not scored."
    )
    assert numbers(campaign, "parent_version") == [0, 1, 2, 3, 4]
    with scoping.platform():
        scored = set(Evaluation.objects.values_list("version__number", flat=True))
    assert scored == {0, 3, 5}


def test_the_gate_waits_for_the_incumbents_scores() -> None:
    federation = ready_federation()
    campaign = start(federation, n_rounds=2)
    hold(campaign, score=0.7)
    newcomer = EnrolmentFactory.create(federation=federation)  # after the round's tenants were gathered
    hold(campaign, score=0.6)
    campaign = start(federation, n_rounds=2)
    federated_round = live_round(campaign)
    steps.train_all(federated_round)
    federated_round = steps.reload(federated_round)
    with scoping.platform():
        asked = Evaluation.objects.get(
            version=federated_round.incumbent_version, dataset=newcomer.dataset, state=EvaluationState.QUEUED
        )
        candidates = list(Evaluation.objects.filter(version=federated_round.candidate_version))
    for evaluation in candidates:
        steps.score(evaluation, 0.9)
    tasks.advance(federated_round.public_id)
    assert steps.reload(federated_round).state == RoundState.EVALUATING
    steps.score(asked, 0.5)
    tasks.advance(federated_round.public_id)
    assert steps.reload(federated_round).state == RoundState.PUBLISHED


def test_the_incumbents_last_score_has_the_coordinator_look(
    sent_messages: list[Message], django_capture_on_commit_callbacks: Capture
) -> None:
    campaign = start(ready_federation(), n_rounds=2)
    federated_round = live_round(campaign)
    steps.train_all(federated_round)
    candidate = steps.reload(federated_round).candidate_version
    with scoping.platform():
        waiting = list(Evaluation.objects.filter(version=federated_round.incumbent_version))
        of_candidate = list(Evaluation.objects.filter(version=candidate))
    for evaluation in of_candidate:
        steps.score(evaluation, 0.5)
    with django_capture_on_commit_callbacks(execute=True):
        for evaluation in waiting:
            steps.score(evaluation, 0.5)
    assert Message("federation.advance", [federated_round.public_id], "coordinator") in sent_messages


def test_a_failed_round_leaves_nothing_behind_and_three_in_a_row_end_it() -> None:
    campaign = start(ready_federation(), n_rounds=9)
    lose(campaign)
    hold(campaign, score=0.7)
    assert numbers(campaign, "parent_version") == [0, 0, 1]
    for _ in range(2):
        lose(campaign)
        assert reload(campaign).state == CampaignState.RUNNING
    lose(campaign)
    ended = reload(campaign)
    assert (ended.state, ended.state_reason) == (CampaignState.FAILED, "3 rounds failed in a row.")
    assert len(rounds_of(campaign)) == 5


def test_a_last_round_that_fails_is_held_again_while_the_rounds_before_it_were_not_scored() -> None:
    campaign = start(ready_federation(), n_rounds=3, evaluate_every=3)
    for _ in range(2):
        hold(campaign)
    lose(campaign)
    assert reload(campaign).state == CampaignState.RUNNING
    hold(campaign, score=0.7)
    ended = reload(campaign)
    assert (ended.state, ended.state_reason) == (CampaignState.COMPLETED, "Its 4 rounds were held.")
    assert numbers(campaign, "parent_version") == [0, 1, 2, 2]
    assert published_number(campaign) == 3


def test_a_last_round_that_fails_is_not_held_again_where_the_one_before_it_was_scored() -> None:
    campaign = start(ready_federation(), n_rounds=3, evaluate_every=2)
    hold(campaign)
    hold(campaign, score=0.4)
    lose(campaign)
    ended = reload(campaign)
    assert (ended.state, ended.state_reason) == (CampaignState.COMPLETED, "Its 3 rounds were held.")


def test_a_campaign_of_one_round_that_fails_has_failed() -> None:
    campaign = start(ready_federation(), n_rounds=1)
    lose(campaign)
    assert reload(campaign).state == CampaignState.FAILED


def test_it_fails_when_a_round_cannot_open_and_tells_tenants_no_more_than_the_code() -> None:
    federation = ready_federation(n_tenants=2, quorum=2)
    campaign = start(federation)
    with scoping.platform():
        first = Enrolment.objects.filter(federation=federation).first()
        Enrolment.objects.filter(pk=first.pk).update(state=EnrolmentState.LEFT)  # type: ignore[union-attr]
    hold(campaign, score=0.7)
    ended = reload(campaign)
    assert ended.state == CampaignState.FAILED
    assert ended.state_reason == "Its round 2 could not open: quorum_out_of_reach."
    with scoping.platform():
        entry = AuditEntry.objects.get(action="campaign.failed")
    assert "1 active tenants" in entry.after["refusal"]
    assert published_number(campaign) == 1


def test_what_cannot_open_a_first_round_starts_no_campaign() -> None:
    with pytest.raises(QuorumOutOfReach):
        start(ready_federation(n_tenants=1, quorum=2))
    busy = ready_federation()
    steps.start(busy)
    with pytest.raises(RoundInProgress):
        start(busy)
    with scoping.platform():
        assert not Campaign.objects.exists()
        assert not AuditEntry.objects.filter(action="campaign.started").exists()


def test_meanwhile_no_other_round_and_no_other_campaign_begins() -> None:
    federation = ready_federation()
    campaign = start(federation)
    with pytest.raises(CampaignInProgress, match=campaign.public_id):
        steps.start(federation)
    with pytest.raises(CampaignInProgress, match=campaign.public_id):
        start(federation)
    ScheduleFactory.create(federation=federation, next_due_at=timezone.now())
    with scoping.platform():
        assert schedules.open_due_rounds(now=timezone.now()) == 0
        assert "skipped, campaign_in_progress" in Schedule.objects.get().last_outcome
    assert len(rounds_of(campaign)) == 1


def test_between_two_rounds_too() -> None:
    federation = ready_federation()
    campaign = start(federation)
    federated_round = live_round(campaign)
    steps.train_all(federated_round)
    steps.score_all(federated_round, parent=0.5, candidate=0.6)  # and the message about it is lost
    with pytest.raises(CampaignInProgress):
        steps.start(federation)


def test_it_is_canceled_as_one_and_keeps_what_was_published() -> None:
    campaign = start(ready_federation())
    hold(campaign, score=0.7)
    with scoping.platform():
        campaigns.cancel_campaign(campaign=reload(campaign), actor="operator:anna")
    ended = reload(campaign)
    assert (ended.state, ended.state_reason) == (CampaignState.CANCELED, "Canceled by operator:anna.")
    first, second = rounds_of(campaign)
    assert (first.state, second.state) == ("published", "canceled")
    assert {run.state for run in steps.runs_of(second)} == {"canceled"}
    assert published_number(campaign) == 1
    tasks.advance_campaign(campaign.public_id)
    assert len(rounds_of(campaign)) == 2
    with scoping.platform(), pytest.raises(CampaignStateConflict):
        campaigns.cancel_campaign(campaign=ended, actor="operator:anna")


def test_one_of_its_rounds_is_not_canceled_alone() -> None:
    campaign = start(ready_federation())
    federated_round = live_round(campaign)
    with scoping.platform(), pytest.raises(RoundOfCampaign, match=campaign.public_id):
        rounds.cancel_round(federated_round=federated_round, actor="operator:anna")
    assert steps.reload(federated_round).state == RoundState.TRAINING


def test_a_roll_back_meanwhile_sets_what_later_candidates_are_compared_with() -> None:
    federation = ready_federation()
    campaign = start(federation, n_rounds=3)
    hold(campaign, score=0.9)
    with scoping.platform():
        start_version = rounds_of(campaign)[0].parent_version
        prefixes.roll_back(federation=federation, version=start_version, actor="operator:anna")
    hold(campaign, score=0.85)  # against what was published when the round opened
    hold(campaign, score=0.7)
    assert numbers(campaign, "incumbent_version") == [0, 1, 0]
    assert published_number(campaign) == 3


def test_its_events_are_in_the_stream_of_its_rounds() -> None:
    campaign = start(ready_federation(), n_rounds=1)
    hold(campaign, score=0.7)
    with scoping.platform():
        told = RoundEvent.objects.filter(kind__startswith="campaign.").order_by("id")
        assert [(event.kind, event.data["campaign"], event.tenant_id) for event in told] == [
            ("campaign.running", campaign.public_id, None),
            ("campaign.completed", campaign.public_id, None),
        ]


def test_a_round_that_ends_has_the_coordinator_go_on(
    sent_messages: list[Message], django_capture_on_commit_callbacks: Capture
) -> None:
    campaign = start(ready_federation(), evaluate_every=2)
    with django_capture_on_commit_callbacks(execute=True):
        steps.train_all(live_round(campaign))
    assert Message("federation.advance_campaign", [campaign.public_id], "coordinator") in sent_messages


def test_a_lost_message_is_sent_again_by_the_reconciler(
    sent_messages: list[Message], django_capture_on_commit_callbacks: Capture
) -> None:
    campaign = start(ready_federation())
    message = Message("federation.advance_campaign", [campaign.public_id], "coordinator")

    def reconcile() -> None:
        with django_capture_on_commit_callbacks(execute=True), scoping.platform():
            reconciling.reconcile()

    reconcile()
    assert message not in sent_messages  # its round is live
    federated_round = live_round(campaign)
    steps.train_all(federated_round)
    steps.score_all(federated_round, parent=0.5, candidate=0.6)
    sent_messages.clear()
    reconcile()
    assert message in sent_messages
    tasks.advance_campaign(campaign.public_id)
    assert len(rounds_of(campaign)) == 2
    sent_messages.clear()
    reconcile()
    assert message not in sent_messages


@pytest.mark.django_db(transaction=True)
def test_of_many_coordinators_at_once_one_opens_the_next_round() -> None:
    campaign = start(ready_federation(), n_rounds=9)
    federated_round = live_round(campaign)
    steps.train_all(federated_round)
    steps.score_all(federated_round, parent=0.5, candidate=0.6)
    at_once(6, lambda: tasks.advance_campaign(campaign.public_id))
    assert [one.state for one in rounds_of(campaign)] == ["published", "training"]
    assert reload(campaign).state == CampaignState.RUNNING


@pytest.mark.django_db(transaction=True)
def test_of_many_starts_at_once_one_campaign_begins() -> None:
    federation = ready_federation()

    def race() -> str:
        try:
            start(federation)
        except CampaignInProgress:
            return "lost"
        return "won"

    assert sorted(at_once(6, race)) == ["lost"] * 5 + ["won"]
    with scoping.platform():
        assert (Campaign.objects.count(), FederatedRound.objects.count()) == (1, 1)


@pytest.mark.django_db(transaction=True)
def test_a_cancellation_that_races_the_next_round_leaves_none_alive() -> None:
    campaign = start(ready_federation())
    federated_round = live_round(campaign)
    steps.train_all(federated_round)
    steps.score_all(federated_round, parent=0.5, candidate=0.6)
    turns = itertools.count()

    def race() -> None:
        if next(turns) % 2:
            tasks.advance_campaign(campaign.public_id)
            return
        with scoping.platform():
            campaigns.cancel_campaign(campaign=reload(campaign), actor="operator:anna")

    at_once(2, race)
    assert reload(campaign).state == CampaignState.CANCELED
    assert not [one for one in rounds_of(campaign) if one.state in ROUND_LIVE]


def test_the_database_holds_one_live_campaign_a_federation() -> None:
    campaign = CampaignFactory.create()
    with pytest.raises(IntegrityError, match="campaign_one_live_per_federation"), transaction.atomic():
        CampaignFactory.create(federation=campaign.federation)


@pytest.mark.parametrize(
    "wrong", [{"n_rounds": 0}, {"n_rounds": 1_001}, {"patience": 0}, {"evaluate_every": 0}]
)
def test_the_database_holds_its_counts_in_range(wrong: dict[str, int]) -> None:
    with pytest.raises(IntegrityError, match="campaign_counts_in_range"), transaction.atomic():
        CampaignFactory.create(**wrong)


MOVES = st.lists(
    st.sampled_from(["round", "campaign", "hold", "hold", "lose", "advance", "cancel", "cancel round"]),
    max_size=12,
)


@given(moves=MOVES, score=st.sampled_from([0.4, 0.6]))
@settings(max_examples=25, deadline=None, derandomize=True)
def test_no_interleaving_opens_two_live_rounds(moves: list[str], score: float) -> None:
    with transaction.atomic():
        federation = ready_federation(n_tenants=2)
        for move in moves:
            with suppress(PreludeError):
                _make(move, federation, score)
            with scoping.platform():
                live = list(FederatedRound.objects.filter(state__in=ROUND_LIVE).select_related("campaign"))
                going = list(Campaign.objects.filter(state=CampaignState.RUNNING))
            assert len(live) <= 1
            assert len(going) <= 1
            assert all(one.campaign in (None, *going) for one in live)
            assert not going or not live or live[0].campaign == going[0]
        transaction.set_rollback(True)


def _make(move: str, federation: Federation, score: float) -> None:
    """One move, by whoever comes; refusals are part of the game."""
    with scoping.platform():
        campaign = Campaign.objects.filter(federation=federation).order_by("-id").first()
        live = FederatedRound.objects.filter(federation=federation, state__in=ROUND_LIVE).first()
    if move == "round":
        steps.start(federation)
    elif move == "campaign":
        start(federation, n_rounds=3, evaluate_every=2)
    elif move in ("hold", "lose") and live is not None:
        for local_run in steps.runs_of(live) if move == "lose" else ():
            steps.fail(steps.claim(local_run))
        if move == "hold":
            steps.train_all(live)
            steps.score_all(live, parent=0.5, candidate=score)
    elif move == "advance" and campaign is not None:
        tasks.advance_campaign(campaign.public_id)
    elif move == "cancel" and campaign is not None:
        with scoping.platform():
            campaigns.cancel_campaign(campaign=campaign, actor="operator:anna")
    elif move == "cancel round" and live is not None:
        with scoping.platform():
            rounds.cancel_round(federated_round=live, actor="operator:anna")
