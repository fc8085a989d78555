"""Lost messages, dead workers and overdue rounds are found in PostgreSQL and set going again."""

from collections.abc import Callable
from copy import copy
from datetime import timedelta
from typing import Any

import pytest
from django.utils import timezone
from pytest_django import DjangoCaptureOnCommitCallbacks, Settings

from federation.errors import RoundInProgress
from federation.models import Evaluation, FederatedRound, Federation, LocalRun, RoundEvent
from federation.services import local_runs, reconciling
from federation.states import EvaluationState, FederationState, LocalRunState
from tenants import dispatch, scoping
from tenants.errors import LeaseLost
from tenants.ids import uuid7
from tenants.models import Dataset
from tenants.states import DatasetState
from tests.claims import claim
from tests.conftest import Message
from tests.factories import DatasetFactory, EvaluationFactory, FederationFactory, ready_federation
from tests.federation import rounds as steps
from tests.racing import at_once

pytestmark = pytest.mark.django_db
Capture = DjangoCaptureOnCommitCallbacks


def reconcile() -> None:
    with scoping.platform():
        reconciling.reconcile()


def let_lease_expire(row: Any) -> None:
    with scoping.platform():
        past = timezone.now() - timedelta(seconds=1)
        type(row).objects.filter(pk=row.pk).update(lease_expires_at=past)


def let_time_pass(row: Any, **columns: timedelta) -> None:
    with scoping.platform():
        type(row).objects.filter(pk=row.pk).update(
            **{name: timezone.now() - ago for name, ago in columns.items()}
        )


def test_a_run_whose_worker_died_waits_again_and_is_attempt_two() -> None:
    federated_round = steps.start(ready_federation())
    claimed = steps.claim(steps.runs_of(federated_round)[0])
    let_lease_expire(claimed)
    reconcile()
    waiting = steps.reload(claimed)
    assert (waiting.state, waiting.lease_owner, waiting.lease_expires_at) == (LocalRunState.QUEUED, "", None)
    second = steps.claim(claimed)
    assert second.attempt == 2
    with scoping.tenant(claimed.tenant_id), pytest.raises(LeaseLost):
        claimed.keep()
    with pytest.raises(LeaseLost):
        steps.submit(claimed, steps.update_bytes(claimed, steps.change(0)))
    accepted = steps.submit(second, steps.update_bytes(second, steps.change(0)))
    assert (accepted.state, accepted.attempt) == (LocalRunState.ACCEPTED, 2)
    with scoping.platform():
        told = RoundEvent.objects.filter(kind="local_run.queued").get()
        claims = RoundEvent.objects.filter(kind="local_run.running").values_list("data__attempt", flat=True)
        assert list(claims) == [1, 2]
    assert "worker was not heard of" in told.message


def test_a_run_that_loses_every_worker_fails_with_its_reason(settings: Settings) -> None:
    federated_round = steps.start(ready_federation(n_tenants=3, quorum=2))
    local_run = steps.runs_of(federated_round)[0]
    for _ in range(settings.MAX_ATTEMPTS):
        let_lease_expire(steps.claim(local_run))
        reconcile()
    failed = steps.reload(local_run)
    assert failed.state == LocalRunState.FAILED
    assert failed.state_reason.startswith("worker_lost: ")
    assert "attempt 3 of 3" in failed.state_reason


def test_a_living_lease_is_left_alone() -> None:
    claimed = steps.claim(steps.runs_of(steps.start(ready_federation()))[0])
    reconcile()
    assert steps.reload(claimed).state == LocalRunState.RUNNING


@pytest.mark.parametrize(
    ("make", "refused"),
    [
        (lambda: DatasetFactory.create(state=DatasetState.VALIDATING), DatasetState.REFUSED),
        (lambda: FederationFactory.create(state=FederationState.PREPARING), FederationState.REFUSED),
        (
            lambda: EvaluationFactory.create(state=EvaluationState.QUEUED, accuracy=None),
            EvaluationState.FAILED,
        ),
    ],
)
def test_other_work_is_handed_on_and_given_up_alike(
    make: Callable[[], Dataset | Federation | Evaluation], refused: str, settings: Settings
) -> None:
    row = make()
    for attempt in range(1, settings.MAX_ATTEMPTS + 1):
        with scoping.platform():
            assert claim(type(row), row.pk, owner="worker").attempt == attempt
        let_lease_expire(row)
        reconcile()
    with scoping.platform():
        ended = type(row).objects.get(pk=row.pk)
    assert (ended.state, ended.is_finished) == (refused, True)
    assert "not heard of" in ended.state_reason


def test_a_lost_message_is_sent_again_and_each_time_later(
    sent_messages: list[Message], django_capture_on_commit_callbacks: Capture, settings: Settings
) -> None:
    federated_round = steps.start(ready_federation())
    local_run = steps.runs_of(federated_round)[0]
    waits = []
    for _ in range(3):
        for ago in range(0, 2_000, 10):
            let_time_pass(local_run, sent_at=timedelta(seconds=ago))
            with django_capture_on_commit_callbacks(execute=True):
                reconcile()
            n_sent, local_run = local_run.n_sent, steps.reload(local_run)
            if local_run.n_sent > n_sent:
                waits.append(ago)
                break
    patience = settings.RESEND_SECONDS
    assert Message(dispatch.WORK, [], dispatch.GPU_QUEUE) in sent_messages
    assert waits == [patience, 2 * patience, 4 * patience]


def test_an_update_whose_check_was_never_asked_for_is_checked(
    sent_messages: list[Message], django_capture_on_commit_callbacks: Capture
) -> None:
    claimed = steps.claim(steps.runs_of(steps.start(ready_federation()))[0])
    with scoping.tenant(claimed.tenant_id):
        local_runs.submit_update(local_run=claimed, update=b"", metrics={})
    let_time_pass(claimed, state_changed_at=timedelta(minutes=5))
    with django_capture_on_commit_callbacks(execute=True):
        reconcile()
    assert Message("federation.advance", [claimed.federated_round.public_id], "coordinator") in sent_messages


def test_a_round_past_its_deadline_is_looked_at(
    sent_messages: list[Message], django_capture_on_commit_callbacks: Capture
) -> None:
    federated_round = steps.start(ready_federation())
    let_time_pass(federated_round, deadline_at=timedelta(seconds=1))
    with django_capture_on_commit_callbacks(execute=True):
        reconcile()
    assert Message("federation.advance", [federated_round.public_id], "coordinator") in sent_messages


def outcomes_of_race(n_racers: int, run: Callable[[], object], loss: type[Exception]) -> list[str]:
    """What becomes of `run` in as many threads at once, each with a connection of its own."""

    def race() -> str:
        try:
            run()
        except loss:
            return "lost"
        return "won"

    return sorted(at_once(n_racers, race))


@pytest.mark.django_db(transaction=True)
def test_of_many_claims_at_once_exactly_one_wins() -> None:
    local_run = steps.runs_of(steps.start(ready_federation()))[0]
    assert outcomes_of_race(8, lambda: steps.claim(local_run), LeaseLost) == ["lost"] * 7 + ["won"]
    assert steps.reload(local_run).attempt == 1


@pytest.mark.django_db(transaction=True)
def test_of_many_starts_at_once_exactly_one_opens_a_round() -> None:
    federation = ready_federation()
    assert outcomes_of_race(6, lambda: steps.start(federation), RoundInProgress) == ["lost"] * 5 + ["won"]
    with scoping.platform():
        assert FederatedRound.objects.count() == 1
        assert LocalRun.objects.count() == 3


def test_one_row_that_cannot_be_handled_holds_up_no_other(caplog: pytest.LogCaptureFixture) -> None:
    broken, sound = (steps.claim(run) for run in steps.runs_of(steps.start(ready_federation()))[:2])
    for claimed in (broken, sound):
        let_lease_expire(claimed)
    with scoping.platform():  # an attempt beyond what the column holds: handing it on fails in the database
        LocalRun.objects.filter(pk=broken.pk).update(n_sent=2**31 - 1)
    reconcile()
    assert steps.reload(broken).state == LocalRunState.RUNNING
    assert steps.reload(sound).state == LocalRunState.QUEUED
    assert "not_reconciled" in caplog.text


def test_a_look_at_live_rounds_reads_nothing_of_those_that_ended() -> None:
    federation = ready_federation()
    ended = steps.start(federation)
    steps.train_all(ended)
    steps.score_all(ended, parent=0.5, candidate=0.6)
    repeat(steps.reload(ended), n=3_000)
    steps.start(federation)
    with scoping.platform():
        plan = reconciling._rounds_to_look_at().explain()
    assert "Seq Scan on federation_federatedround" not in plan
    assert "Seq Scan on federation_localrun" not in plan


def repeat(federated_round: FederatedRound, *, n: int) -> None:
    """The round and its first local run, `n` times more."""
    local_run = steps.runs_of(federated_round)[0]
    federated_round.candidate_version = None
    with scoping.platform():
        rounds, runs = [], []
        for number in range(n):
            federated_round.pk, federated_round.number = uuid7(), 1_000 + number
            local_run.pk, local_run.federated_round_id = uuid7(), federated_round.pk
            rounds.append(copy(federated_round))
            runs.append(copy(local_run))
        FederatedRound.objects.bulk_create(rounds)
        LocalRun.objects.bulk_create(runs)
