"""A round's way through its states, whatever its tenants do."""

import re
from datetime import timedelta

import numpy as np
import pytest
from django.utils import timezone
from safetensors.numpy import load

from federation import tasks
from federation.errors import (
    FederationNotReady,
    QuorumOutOfReach,
    RoundInProgress,
    RoundStateConflict,
)
from federation.models import (
    Evaluation,
    FederatedRound,
    Federation,
    LocalRun,
    PrefixVersion,
    PublishedPrefix,
    PublishRecord,
    RoundEvent,
)
from federation.services import local_runs, prefixes, rounds
from federation.states import (
    ROUND_TRANSITIONS,
    EvaluationState,
    FederationState,
    LocalRunState,
    RoundState,
)
from tenants import scoping, storage
from tenants.errors import LeaseLost
from tenants.models import AuditEntry
from tenants.services.tenants import change_tenant
from tenants.states import TenantState
from tests.conftest import Message
from tests.factories import FederationFactory, ready_federation
from tests.federation import rounds as steps

pytestmark = pytest.mark.django_db


def pass_deadline(federated_round: FederatedRound) -> None:
    with scoping.platform():
        FederatedRound.objects.filter(pk=federated_round.pk).update(
            deadline_at=timezone.now() - timedelta(seconds=1)
        )
    tasks.advance(federated_round.public_id)


def states_of(federated_round: FederatedRound) -> list[str]:
    return [local_run.state for local_run in steps.runs_of(federated_round)]


def test_a_whole_round_publishes_the_weighted_mean() -> None:
    federation = ready_federation(n_tenants=3)
    federated_round = steps.start(federation)
    steps.train_all(federated_round)
    assert steps.reload(federated_round).state == RoundState.EVALUATING
    steps.score_all(federated_round, parent=0.7, candidate=0.8)

    federated_round = steps.reload(federated_round)
    assert (federated_round.state, federated_round.number) == (RoundState.PUBLISHED, 1)
    candidate = federated_round.candidate_version
    assert candidate is not None
    parent_file = storage.get(federated_round.parent_version.sha256, max_bytes=10_000)
    parent = load(parent_file)["prompt_embeddings"]
    mean = np.mean([steps.change(seed).astype(np.float64) for seed in range(3)], axis=0)
    published = load(storage.get(candidate.sha256, max_bytes=10_000))["prompt_embeddings"]
    np.testing.assert_array_equal(published, (parent.astype(np.float64) + mean).astype(np.float32))
    with scoping.platform():
        assert steps.reload(federation).published.version == candidate
        assert PublishRecord.objects.filter(new=candidate, actor="gate").count() == 1


@pytest.mark.parametrize(("of_others", "state"), [(0.75, "published"), (0.25, "kept")])
def test_from_what_a_tenant_reads_of_the_gate_it_cannot_tell_others_scores(
    of_others: float, state: str
) -> None:
    federation = ready_federation()
    federated_round = steps.start(federation)
    steps.train_all(federated_round)
    first, *_ = steps.runs_of(federated_round)
    steps.score_all(federated_round, parent=0.5, candidate=of_others)
    ended = steps.reload(federated_round)
    assert ended.state == state
    with scoping.tenant(first.tenant_id):
        read = [
            ended.state_reason,
            *RoundEvent.objects.values_list("message", flat=True),
            *map(str, RoundEvent.objects.values_list("data", flat=True)),
            *PublishRecord.objects.values_list("reason", flat=True),
            *map(str, AuditEntry.objects.values_list("after", flat=True)),
        ]
    numbers = re.findall(r"\d+\.\d+", " ".join(read))
    assert set(numbers) <= {"0.005"}, "the tolerance alone is told"


def test_a_worse_candidate_is_kept_and_the_next_round_begins_from_the_published_one() -> None:
    federation = ready_federation()
    federated_round = steps.start(federation)
    steps.train_all(federated_round)
    steps.score_all(federated_round, parent=0.8, candidate=0.7)
    kept = steps.reload(federated_round)
    assert kept.state == RoundState.KEPT
    assert "is lower than the incumbent's by more than the tolerance of 0.005" in kept.state_reason
    with scoping.platform():
        decided = AuditEntry.objects.get(action="round.decided")
    assert (decided.tenant_id, decided.after["is_kept"]) == (None, True)
    assert (decided.after["incumbent"], decided.after["candidate"]) == (
        pytest.approx(0.8),
        pytest.approx(0.7),
    )
    second = steps.start(federation)
    with scoping.platform():
        assert (second.number, second.parent_version.number) == (2, 0)
    steps.train_all(second)
    with scoping.platform():
        candidate = steps.reload(second).candidate_version
        assert candidate is not None
        assert (candidate.number, candidate.parent and candidate.parent.number) == (2, 0)


def test_a_fall_within_the_tolerance_is_published() -> None:
    federated_round = steps.start(ready_federation(gate={"tolerance": 0.02}))
    steps.train_all(federated_round)
    steps.score_all(federated_round, parent=0.8, candidate=0.79)
    assert steps.reload(federated_round).state == RoundState.PUBLISHED


def test_one_failed_tenant_does_not_stop_a_round_with_its_quorum() -> None:
    federated_round = steps.start(ready_federation(n_tenants=3, quorum=2))
    first, *others = steps.runs_of(federated_round)
    steps.fail(steps.claim(first))
    for seed, local_run in enumerate(others):
        claimed = steps.claim(local_run)
        steps.submit(claimed, steps.update_bytes(claimed, steps.change(seed)))
    assert states_of(federated_round) == ["failed", "accepted", "accepted"]
    with scoping.platform():
        candidate = steps.reload(federated_round).candidate_version
        assert candidate is not None
        assert candidate.n_contributors == 2


def test_a_score_that_a_deadline_cut_off_is_asked_for_anew_in_the_next_round() -> None:
    federation = ready_federation(n_tenants=3, quorum=2)
    first = steps.start(federation)
    steps.train_all(first)
    with scoping.platform():
        candidate = steps.reload(first).candidate_version
        parents = list(Evaluation.objects.filter(version=first.parent_version))
        *quick, slow = Evaluation.objects.filter(version=candidate)
    for evaluation in [*parents, *quick]:
        steps.score(evaluation, 0.7)
    pass_deadline(first)
    with scoping.platform():
        slow.refresh_from_db()
    assert slow.state == EvaluationState.CANCELED
    steps.start(federation)
    with scoping.platform():
        anew = Evaluation.objects.filter(version=candidate, dataset=slow.dataset_id).order_by("id")
        assert [evaluation.state for evaluation in anew] == [EvaluationState.CANCELED, EvaluationState.QUEUED]
        assert Evaluation.objects.filter(version=candidate).count() == 4, (
            "what was measured is not measured again"
        )


def test_without_its_quorum_a_round_fails_with_its_reason_and_nothing_is_published() -> None:
    federation = ready_federation(n_tenants=2, quorum=2)
    federated_round = steps.start(federation)
    for local_run in steps.runs_of(federated_round):
        steps.fail(steps.claim(local_run))
    failed = steps.reload(federated_round)
    assert (failed.state, failed.state_reason) == (
        RoundState.FAILED,
        "Only 0 updates were accepted and the quorum is 2.",
    )
    with scoping.platform():
        assert steps.reload(federation).published.version.number == 0
        assert PrefixVersion.objects.count() == 1


def test_the_deadline_closes_a_round_on_its_quorum_and_a_late_update_is_refused() -> None:
    federated_round = steps.start(ready_federation(n_tenants=3, quorum=2))
    *quick, slow = steps.runs_of(federated_round)
    for seed, local_run in enumerate(quick):
        claimed = steps.claim(local_run)
        steps.submit(claimed, steps.update_bytes(claimed, steps.change(seed)))
    late = steps.claim(slow)
    pass_deadline(federated_round)
    assert steps.reload(federated_round).state == RoundState.EVALUATING
    with pytest.raises(LeaseLost):
        steps.submit(late, steps.update_bytes(late, steps.change(9)))
    assert steps.reload(slow).state == LocalRunState.FAILED
    assert steps.reload(slow).update_sha256 == ""


def test_an_update_that_waits_for_its_check_at_the_deadline_still_counts() -> None:
    federated_round = steps.start(ready_federation(n_tenants=2, quorum=2))
    first, second = (steps.claim(local_run) for local_run in steps.runs_of(federated_round))
    steps.submit(first, steps.update_bytes(first, steps.change(0)))
    with scoping.tenant(second.tenant_id):
        local_runs.submit_update(
            local_run=second, update=steps.update_bytes(second, steps.change(1)), metrics={}
        )
    with scoping.platform():
        federated_round.deadline_at = timezone.now() - timedelta(seconds=1)
        federated_round.save(update_fields=["deadline_at"])
        rounds.close_training(federated_round=federated_round)
    assert steps.reload(federated_round).state == RoundState.TRAINING
    tasks.advance(federated_round.public_id)
    assert steps.reload(federated_round).state == RoundState.EVALUATING
    assert states_of(federated_round) == ["accepted"] * 2


def test_evaluations_that_do_not_come_by_the_deadline_fail_the_round() -> None:
    federated_round = steps.start(ready_federation())
    steps.train_all(federated_round)
    pass_deadline(federated_round)
    failed = steps.reload(federated_round)
    assert failed.state == RoundState.FAILED
    assert "Only 0 tenants scored the candidate" in failed.state_reason


def test_cancel_ends_every_run_and_a_second_cancel_is_a_conflict() -> None:
    federated_round = steps.start(ready_federation())
    claimed = steps.claim(steps.runs_of(federated_round)[0])
    with scoping.platform():
        rounds.cancel_round(federated_round=federated_round, actor="operator:anna")
    assert steps.reload(federated_round).state_reason == "Canceled by operator:anna."
    assert states_of(federated_round) == ["canceled"] * 3
    with scoping.tenant(claimed.tenant_id), pytest.raises(LeaseLost):
        claimed.keep()
    with scoping.platform(), pytest.raises(RoundStateConflict):
        rounds.cancel_round(federated_round=federated_round, actor="operator:anna")


def test_cancel_while_evaluating_cancels_the_evaluations_and_publishes_nothing() -> None:
    federation = ready_federation()
    federated_round = steps.start(federation)
    steps.train_all(federated_round)
    with scoping.platform():
        rounds.cancel_round(federated_round=steps.reload(federated_round), actor="operator:anna")
        candidate = steps.reload(federated_round).candidate_version
        states = set(Evaluation.objects.filter(version=candidate).values_list("state", flat=True))
    assert states == {"canceled"}
    tasks.advance(federated_round.public_id)
    with scoping.platform():
        assert steps.reload(federation).published.version.number == 0


def test_refused_starts_change_nothing() -> None:
    federation = ready_federation(n_tenants=1, quorum=2)
    preparing = FederationFactory.create(state=FederationState.PREPARING)
    with scoping.platform():
        with pytest.raises(QuorumOutOfReach):
            rounds.start_round(federation=federation)
        with pytest.raises(FederationNotReady):
            rounds.start_round(federation=preparing)
        assert (FederatedRound.objects.count(), LocalRun.objects.count(), RoundEvent.objects.count()) == (
            0,
            0,
            0,
        )


def test_a_round_leaves_suspended_tenants_out_and_ends_what_it_began_with_them() -> None:
    federation = ready_federation(n_tenants=3, quorum=2)
    first = steps.start(federation)
    with scoping.platform():
        suspended = steps.runs_of(first)[0].tenant
        change_tenant(tenant=suspended, state=TenantState.SUSPENDED)
    steps.train_all(first)
    steps.score_all(first, parent=0.5, candidate=0.6)
    assert steps.reload(first).state == RoundState.PUBLISHED
    assert states_of(first) == [LocalRunState.ACCEPTED] * 3
    assert suspended not in [local_run.tenant for local_run in steps.runs_of(steps.start(federation))]


def test_a_suspended_tenant_counts_for_no_quorum() -> None:
    federation = ready_federation(n_tenants=2, quorum=2)
    with scoping.platform():
        place = federation.enrolments.select_related("tenant").earliest("pk")
        change_tenant(tenant=place.tenant, state=TenantState.SUSPENDED)
        with pytest.raises(QuorumOutOfReach):
            rounds.start_round(federation=federation)


def test_a_federation_has_one_live_round_at_most() -> None:
    federation = ready_federation()
    steps.start(federation)
    with pytest.raises(RoundInProgress):
        steps.start(federation)


def test_every_move_is_an_event_in_order() -> None:
    federated_round = steps.start(ready_federation(n_tenants=2))
    steps.train_all(federated_round)
    steps.score_all(federated_round, parent=0.5, candidate=0.6)
    with scoping.platform():
        kinds = [event.kind for event in RoundEvent.objects.filter(federated_round=federated_round)]
    own = [kind for kind in kinds if kind.startswith("round.")]
    assert own == ["round.training", "round.aggregating", "round.evaluating", "round.published"]
    assert kinds.count("local_run.submitted") == kinds.count("local_run.accepted") == 2


def test_two_workers_are_woken_for_each_kind_of_work_by_messages_that_say_nothing(
    sent_messages: list[Message], django_capture_on_commit_callbacks: object
) -> None:
    federation = ready_federation(n_tenants=3)
    with django_capture_on_commit_callbacks(execute=True):  # type: ignore[operator]
        steps.start(federation)
    assert sent_messages == [Message("training_workers.work", [], "gpu")] * 4, "local runs, evaluations"


def test_coordinator_messages_that_come_twice_or_late_change_nothing() -> None:
    federation = ready_federation()
    federated_round = steps.start(federation)
    steps.train_all(federated_round)
    tasks.advance(federated_round.public_id)
    steps.score_all(federated_round, parent=0.5, candidate=0.6)
    for _ in range(3):
        tasks.advance(federated_round.public_id)
    with scoping.platform():
        assert PrefixVersion.objects.filter(federation=federation).count() == 2
        assert PublishRecord.objects.filter(federation=federation, actor="gate").count() == 1


def test_roll_back_is_a_record_and_the_next_round_begins_there() -> None:
    federation = ready_federation()
    federated_round = steps.start(federation)
    steps.train_all(federated_round)
    steps.score_all(federated_round, parent=0.5, candidate=0.6)
    with scoping.platform():
        start = PrefixVersion.objects.get(federation=federation, number=0)
        prefixes.roll_back(federation=federation, version=start, actor="operator:anna")
        newest = PublishRecord.objects.filter(federation=federation).first()
        assert newest is not None
        assert (newest.new.number, newest.reason) == (0, "roll-back")
    second = steps.start(steps.reload(federation))
    with scoping.platform():
        assert second.parent_version.number == 0


def test_a_roll_back_in_the_middle_of_a_round_stays() -> None:
    federation = ready_federation()
    first = steps.start(federation)
    steps.train_all(first)
    steps.score_all(first, parent=0.5, candidate=0.6)
    second = steps.start(federation)
    with scoping.platform():
        prefixes.roll_back(federation=federation, version=first.parent_version, actor="operator:anna")
    steps.train_all(second)
    steps.score_all(second, parent=0.6, candidate=0.9)
    second = steps.reload(second)
    assert second.state == RoundState.KEPT
    assert "another version was published by hand meanwhile" in second.state_reason
    assert published_number(federation) == 0


def test_a_round_whose_candidate_is_published_by_hand_ends() -> None:
    federation = ready_federation()
    federated_round = steps.start(federation)
    steps.train_all(federated_round)
    candidate = steps.reload(federated_round).candidate_version
    assert candidate is not None
    with scoping.platform():
        prefixes.roll_back(federation=federation, version=candidate, actor="operator:anna")
    steps.score_all(federated_round, parent=0.5, candidate=0.6)
    assert steps.reload(federated_round).state == RoundState.PUBLISHED
    assert published_number(federation) == 1
    with scoping.platform():
        assert not PublishRecord.objects.filter(federation=federation, actor="gate").exists()


def published_number(federation: Federation) -> int:
    with scoping.platform():
        return PublishedPrefix.objects.get(federation=federation).version.number


def test_terminal_states_lead_nowhere_and_all_others_lead_to_one() -> None:
    assert {state for state, targets in ROUND_TRANSITIONS.items() if not targets} == {
        "published",
        "kept",
        "failed",
        "canceled",
    }
    assert all("canceled" in targets for targets in ROUND_TRANSITIONS.values() if targets)
