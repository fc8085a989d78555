"""The training side's tasks and attempts: names that dispatch sends, and what becomes of a row when work goes wrong."""

import errno
import re
from collections.abc import Callable
from pathlib import Path
from unittest.mock import Mock

import pytest
from celery import current_app
from django.db import DataError, InterfaceError, OperationalError
from django.utils import timezone
from pytest_django import DjangoCaptureOnCommitCallbacks, Settings
from rest_framework.test import APIClient

import training_workers.tasks as tasks
from federation.models import Evaluation, LocalRun, RoundEvent
from federation.services import local_runs, reconciling, rounds
from federation.services.claiming import KINDS
from federation.services.reconciling import LEASED
from federation.states import LocalRunState
from tenants import dispatch, scoping
from tenants.errors import DatasetEmpty, LeaseLost
from tenants.services import attempts
from tests.conftest import Message
from tests.factories import EnrolmentFactory, ready_federation
from tests.federation import rounds as steps
from tests.keys import new_client
from tests.tenants.test_limits import limit
from training_workers.attempts import Attempt, perform
from training_workers.errors import TrainerDied, TrainerFailed, WorkerStalled
from training_workers.resident import StopJob

pytestmark = pytest.mark.django_db


@pytest.fixture
def local_run() -> LocalRun:
    """A queued run."""
    return steps.runs_of(steps.start(ready_federation()))[0]


def attempt(local_run: LocalRun, work: Callable[[Attempt[LocalRun]], None]) -> LocalRun:
    perform(Attempt(steps.claim(local_run)), work)
    return steps.reload(local_run)


def raising(error: Exception) -> Callable[[Attempt[LocalRun]], None]:
    def work(_: Attempt[LocalRun]) -> None:
        raise error

    return work


def test_workers_know_what_to_do_with_each_kind_of_work() -> None:
    assert set(LEASED) == set(tasks.WORK) == set(KINDS.values())
    registered = {name for name in current_app.tasks if name.startswith(tasks.__name__.split(".")[0])}
    assert registered == {dispatch.WORK}


@pytest.mark.parametrize(
    "error",
    [
        TrainerDied(exit_code=-9),
        TrainerFailed(refusal_code="trainer_error", detail="MemoryError", is_unexpected=True),
        OSError("disk full"),
        WorkerStalled(seconds=600),
    ],
)
def test_a_fault_of_the_worker_hands_the_run_back_at_once(
    local_run: LocalRun,
    error: Exception,
    sent_messages: list[Message],
    django_capture_on_commit_callbacks: DjangoCaptureOnCommitCallbacks,
) -> None:
    with django_capture_on_commit_callbacks(execute=True):
        waiting = attempt(local_run, raising(error))
    assert (waiting.state, waiting.attempt, waiting.lease_expires_at) == (LocalRunState.QUEUED, 1, None)
    assert [message.task_name for message in sent_messages] == [dispatch.WORK]
    assert "disk full" not in waiting.state_reason


def test_an_unexpected_error_is_logged_by_its_type_and_frames_without_any_text(
    local_run: LocalRun, caplog: pytest.LogCaptureFixture
) -> None:
    def work(_: Attempt[LocalRun]) -> None:
        try:
            raise ValueError("a marked row")
        except ValueError as error:
            raise DataError("a marked label") from error

    with caplog.at_level("ERROR"):
        waiting = attempt(local_run, work)
    assert waiting.state_reason == "worker_failed: The worker met DataError."
    assert "'error': 'DataError'" in caplog.text
    assert re.search(r"test_tasks\.py:\d+ work'", caplog.text)
    assert "marked" not in caplog.text


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (TrainerFailed(refusal_code="loss_not_finite", detail="NaN", is_unexpected=False), "loss_not_finite"),
        (DatasetEmpty(file_name="rows.csv"), "dataset_empty"),
    ],
)
def test_a_fault_of_the_work_ends_the_run_with_its_code(
    local_run: LocalRun, error: Exception, code: str
) -> None:
    failed = attempt(local_run, raising(error))
    assert failed.state == LocalRunState.FAILED
    assert failed.state_reason.startswith(f"{code}: ")


def test_a_run_whose_round_was_canceled_stops_at_its_next_beat(local_run: LocalRun) -> None:
    def work(running: Attempt[LocalRun]) -> None:
        with scoping.platform():
            rounds.cancel_round(federated_round=local_run.federated_round, actor="operator:anna")
        with pytest.raises(StopJob):
            running.beat()
        running.beat()

    assert attempt(local_run, work).state == LocalRunState.CANCELED


def test_a_worker_acknowledges_that_its_run_was_called_off(
    local_run: LocalRun, operator_client: APIClient
) -> None:
    federated_round = local_run.federated_round
    path = f"/api/v1/rounds/{federated_round.public_id}"

    def told(client: APIClient) -> int:
        n_still_ending: int = client.get(path).json()["n_still_ending"]
        return n_still_ending

    def work(running: Attempt[LocalRun]) -> None:
        assert told(operator_client) == 0
        with scoping.platform():
            rounds.cancel_round(federated_round=federated_round, actor="operator:anna")
        assert told(operator_client) == 1, "of the three runs one was under way"
        assert told(new_client(local_run.tenant)) == 1
        assert told(new_client(others.tenant)) == 0
        running.beat()

    others = steps.runs_of(federated_round)[1]
    stopped = attempt(local_run, work)
    assert stopped.state == LocalRunState.CANCELED
    assert told(operator_client) == 0
    with scoping.platform():
        events = RoundEvent.objects.filter(kind="local_run.stopped")
        assert [event.tenant_id for event in events] == [local_run.tenant_id]


def test_what_no_worker_acknowledges_ends_with_its_lease(
    local_run: LocalRun, operator_client: APIClient
) -> None:
    claimed = steps.claim(local_run)
    with scoping.platform():
        rounds.cancel_round(federated_round=local_run.federated_round, actor="operator:anna")
    path = f"/api/v1/rounds/{local_run.federated_round.public_id}"
    assert operator_client.get(path).json()["n_still_ending"] == 1
    assert steps.reload(claimed).stopping_until == claimed.lease_expires_at
    with scoping.platform():
        LocalRun.objects.filter(pk=local_run.pk).update(stopping_until=timezone.now())
    assert operator_client.get(path).json()["n_still_ending"] == 0


def test_a_full_disk_hands_the_run_back_with_nothing_half_written_and_the_worker_goes_on(
    local_run: LocalRun, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = Path(settings.STORAGES["blobs"]["OPTIONS"]["location"])

    def work(running: Attempt[LocalRun]) -> None:
        update = steps.update_bytes(running.row, steps.change(0))
        with running.scope():
            local_runs.submit_update(local_run=running.row, update=update, metrics={})

    def refuse(_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    rests: list[float] = []
    before = {path for path in root.rglob("*") if path.is_file()}
    with monkeypatch.context() as full:
        full.setattr("os.fsync", refuse)
        full.setattr("time.sleep", rests.append)
        waiting = attempt(local_run, work)
    assert waiting.state == LocalRunState.QUEUED
    assert waiting.state_reason == "disk_full: The storage, or a disk of the worker, is full."
    assert (waiting.update_sha256, waiting.update_size_bytes) == ("", None)
    assert {path for path in root.rglob("*") if path.is_file()} == before
    assert rests == [settings.BEAT_SECONDS], "others take the work meanwhile"
    assert attempt(local_run, work).state == LocalRunState.SUBMITTED


def test_only_the_attempt_that_was_called_off_acknowledges_it(local_run: LocalRun) -> None:
    stale = steps.claim(local_run)
    with scoping.tenant(local_run.tenant_id):
        reconciling.hand_back(stale, code="worker_lost", reason="It was not heard of.")
    steps.claim(local_run)
    with scoping.platform():
        rounds.cancel_round(federated_round=local_run.federated_round, actor="operator:anna")
        stale.attempt = 1
        stale.acknowledge_stop()
        assert LocalRun.objects.get(pk=local_run.pk).stopping_until is not None
        assert not RoundEvent.objects.filter(kind="local_run.stopped").exists()


def test_progress_is_written_while_the_lease_is_held(local_run: LocalRun) -> None:
    seen: list[LocalRun] = []

    def work(running: Attempt[LocalRun]) -> None:
        running.beat(progress={"step": 3}, history=[[3, 0.5]])
        seen.append(steps.reload(local_run))
        raise LeaseLost(public_id=local_run.public_id, attempt=1)

    attempt(local_run, work)
    assert (seen[0].state, seen[0].progress, seen[0].history) == (
        LocalRunState.RUNNING,
        {"step": 3},
        [[3, 0.5]],
    )


def test_a_worker_does_all_that_waits_each_piece_in_its_tenants_scope(
    local_run: LocalRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = {}

    def work(running: Attempt[LocalRun]) -> None:
        with running.scope():
            scope = scoping.in_force()
            assert scope is not None
            seen[running.row.tenant_id] = scope.tenant_id

    monkeypatch.setattr(tasks, "WORK", {LocalRun: work, Evaluation: lambda _: None})
    tasks.work_on_next()
    assert len(seen) == len(steps.runs_of(local_run.federated_round)) == 3
    assert all(tenant_id == in_force for tenant_id, in_force in seen.items())


def test_a_worker_wakes_one_other_while_more_waits_and_gives_the_rest_of_a_long_turn_on(
    local_run: LocalRun,
    monkeypatch: pytest.MonkeyPatch,
    sent_messages: list[Message],
    django_capture_on_commit_callbacks: DjangoCaptureOnCommitCallbacks,
) -> None:
    worked: list[LocalRun | Evaluation] = []
    monkeypatch.setattr(tasks, "WORK", dict.fromkeys(LEASED, lambda running: worked.append(running.row)))
    with scoping.platform():
        n_waiting = LocalRun.objects.count() + Evaluation.objects.count()
    monkeypatch.setattr(tasks, "TURN_SECONDS", 0.0)
    with django_capture_on_commit_callbacks(execute=True):
        tasks.work_on_next()
    assert (len(worked), len(sent_messages)) == (1, 2), "one for another worker, one for whoever is free next"
    monkeypatch.setattr(tasks, "TURN_SECONDS", 60.0)
    with django_capture_on_commit_callbacks(execute=True):
        tasks.work_on_next()
    assert (len(worked), len(sent_messages)) == (n_waiting, 3)


def test_a_worker_that_ends_an_attempt_takes_what_waited_for_its_tenants_limit(
    local_run: LocalRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    limit(local_run.tenant, concurrent_runs=1)
    ended: list[LocalRun] = []

    def work(running: Attempt[LocalRun]) -> None:
        with running.scope():
            attempts.end(running.row, LocalRunState.FAILED)
        ended.append(running.row)

    steps.start(EnrolmentFactory.create(tenant=local_run.tenant, federation=ready_federation()).federation)
    with scoping.platform():
        Evaluation.objects.all().delete()
    monkeypatch.setattr(tasks, "WORK", {LocalRun: work})
    tasks.work_on_next()
    assert [run.tenant_id for run in ended].count(local_run.tenant_id) == 2


def test_a_message_too_many_does_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tasks, "WORK", dict.fromkeys(LEASED, raising(AssertionError("there was no work"))))
    tasks.work_on_next()


def test_a_beat_outlasts_a_database_that_is_away(
    local_run: LocalRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    def work(held: Attempt[LocalRun]) -> None:
        keep = held.row.keep
        for error in (OperationalError("restarting"), InterfaceError("closed")):
            monkeypatch.setattr(held.row, "keep", Mock(side_effect=error))
            held.beat()
        monkeypatch.setattr(held.row, "keep", keep)
        held.beat(progress={"step": 1})

    after = attempt(local_run, work)
    assert (after.state, after.attempt, after.progress) == (LocalRunState.RUNNING, 1, {"step": 1})
