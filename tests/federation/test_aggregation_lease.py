"""One coordinator at a time checks or aggregates; who is killed over it is followed by another, and writes nothing."""

import errno
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.utils import timezone
from pytest_django import Settings

from federation import tasks
from federation.models import FederatedRound, LocalRun, PrefixVersion
from federation.services import aggregating, local_runs, reconciling, rounds
from federation.states import LocalRunState, RoundState
from tenants import scoping, storage
from tenants.errors import LeaseLost
from tenants.storage import BlobMissing
from tests.conftest import Message
from tests.factories import ready_federation
from tests.federation import rounds as steps
from tests.racing import at_once

pytestmark = pytest.mark.django_db


class Killed(BaseException):
    """What SIGKILL is to a process."""


@pytest.fixture
def trained(monkeypatch: pytest.MonkeyPatch) -> FederatedRound:
    """A round that is to be aggregated, and nobody is at it."""
    federated_round = steps.start(ready_federation())
    with monkeypatch.context() as patch:
        patch.setattr(aggregating, "begin_aggregation", lambda **_: None)
        steps.train_all(federated_round)
    return steps.reload(federated_round)


@pytest.fixture
def submitted() -> FederatedRound:
    """A round with an update that waits to be checked."""
    federated_round = steps.start(ready_federation())
    local_run = steps.claim(steps.runs_of(federated_round)[0])
    with scoping.tenant(local_run.tenant_id):
        update = steps.update_bytes(local_run, steps.change(1))
        local_runs.submit_update(local_run=local_run, update=update, metrics={})
        long_ago = timezone.now() - timedelta(minutes=5)
        LocalRun.objects.filter(pk=local_run.pk).update(state_changed_at=long_ago)
    return federated_round


def while_aggregating(
    monkeypatch: pytest.MonkeyPatch, happens: Callable[[], object], *, step: str = "aggregate"
) -> list[int]:
    """Have something happen in the midst of the first aggregation; returns the list to which each adds."""
    begun: list[int] = []
    take_step = getattr(aggregating, step)

    def taken(*arguments: Any, **options: Any) -> Any:
        begun.append(1)
        if len(begun) == 1:
            happens()
        return take_step(*arguments, **options)

    monkeypatch.setattr(aggregating, step, taken)
    return begun


def while_checking(monkeypatch: pytest.MonkeyPatch, happens: Callable[[], object]) -> list[int]:
    """The same of the first check."""
    return while_aggregating(monkeypatch, happens, step="judge")


def let_lease_end(federated_round: FederatedRound) -> None:
    with scoping.platform():
        past = timezone.now() - timedelta(seconds=1)
        FederatedRound.objects.filter(pk=federated_round.pk).update(lease_expires_at=past)


def advance(federated_round: FederatedRound) -> FederatedRound:
    tasks.advance(federated_round.public_id)
    return steps.reload(federated_round)


def reconciled(sent_messages: list[Message]) -> list[str]:
    """The names of the messages that a reconciler sends now."""
    sent_messages.clear()
    with scoping.platform():
        reconciling.reconcile()
    return [message.task_name for message in sent_messages]


def n_versions() -> int:
    with scoping.platform():
        return PrefixVersion.objects.count()


def test_others_leave_a_round_alone_that_is_being_aggregated(
    monkeypatch: pytest.MonkeyPatch, trained: FederatedRound
) -> None:
    begun = while_aggregating(monkeypatch, lambda: [advance(trained) for _ in range(3)])
    done = advance(trained)
    assert (begun, done.state, done.attempt) == ([1], RoundState.EVALUATING, trained.attempt + 1)
    assert ":" in done.lease_owner


@pytest.mark.django_db(transaction=True)
def test_the_round_of_a_killed_coordinator_is_taken_over_after_its_lease(
    monkeypatch: pytest.MonkeyPatch, trained: FederatedRound, sent_messages: list[Message]
) -> None:
    assert "federation.advance" in reconciled(sent_messages), "nobody has begun"
    begun = while_aggregating(monkeypatch, be_killed)
    with pytest.raises(Killed):
        advance(trained)
    assert "federation.advance" not in reconciled(sent_messages)
    assert (begun, advance(trained).state) == ([1], RoundState.AGGREGATING)
    let_lease_end(trained)
    assert "federation.advance" in reconciled(sent_messages)
    done = advance(trained)
    assert (begun, done.state, done.attempt) == ([1, 1], RoundState.EVALUATING, trained.attempt + 2)


def be_killed() -> None:
    raise Killed


def fill_the_disk(*_: object, **__: object) -> None:
    raise OSError(errno.ENOSPC, "No space left on device", "/srv/prelude/some-file")


@pytest.mark.django_db(transaction=True)
def test_checks_that_take_long_are_neither_asked_for_again_nor_begun_twice(
    monkeypatch: pytest.MonkeyPatch, submitted: FederatedRound, sent_messages: list[Message]
) -> None:
    assert "federation.advance" in reconciled(sent_messages), "nobody has begun"
    seen: list[str] = []

    def be_looked_at() -> None:
        seen.extend(reconciled(sent_messages))
        advance(submitted)

    begun = while_checking(monkeypatch, be_looked_at)
    advance(submitted)
    assert (begun, "federation.advance" in seen) == ([1], False)
    assert steps.runs_of(submitted)[0].state == LocalRunState.ACCEPTED


@pytest.mark.django_db(transaction=True)
def test_the_checks_of_a_killed_coordinator_are_taken_over_after_its_lease(
    monkeypatch: pytest.MonkeyPatch, submitted: FederatedRound, sent_messages: list[Message]
) -> None:
    while_checking(monkeypatch, be_killed)
    with pytest.raises(Killed):
        advance(submitted)
    assert "federation.advance" not in reconciled(sent_messages)
    let_lease_end(submitted)
    assert "federation.advance" in reconciled(sent_messages)
    done = advance(submitted)
    assert steps.runs_of(submitted)[0].state == LocalRunState.ACCEPTED
    assert (done.state, done.n_tries, done.lease_expires_at) == (RoundState.TRAINING, 0, None)


def test_verdicts_that_come_after_the_lease_are_left_to_who_has_it(
    monkeypatch: pytest.MonkeyPatch, submitted: FederatedRound
) -> None:
    def be_slow() -> None:
        let_lease_end(submitted)
        with scoping.platform():
            steps.reload(submitted).take(owner="another")

    while_checking(monkeypatch, be_slow)
    assert advance(submitted).lease_owner == "another"
    assert steps.runs_of(submitted)[0].state == LocalRunState.SUBMITTED


def test_a_round_whose_checks_always_fail_on_our_side_fails_after_its_attempts_and_says_why(
    monkeypatch: pytest.MonkeyPatch, submitted: FederatedRound
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(aggregating, "check_update", fill_the_disk)
        for _ in range(3):
            with pytest.raises(OSError, match="No space"):
                advance(submitted)
            failing = steps.reload(submitted)
            said = "files_not_accessible: Checking its updates failed (No space left on device)."
            assert (failing.state, failing.state_reason) == (RoundState.TRAINING, said)
            let_lease_end(submitted)
        ended = advance(submitted)
    assert (ended.state, ended.state_reason) == (RoundState.FAILED, f"{said} This was attempt 3 of 3.")
    assert {run.state for run in steps.runs_of(submitted)} == {LocalRunState.CANCELED}
    steps.start(ended.federation)


def test_checks_that_failed_once_are_forgotten_with_those_that_went_well(
    monkeypatch: pytest.MonkeyPatch, submitted: FederatedRound
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(aggregating, "check_update", fill_the_disk)
        with pytest.raises(OSError, match="No space"):
            advance(submitted)
    let_lease_end(submitted)
    done = advance(submitted)
    assert (done.state, done.state_reason, done.n_tries) == (RoundState.TRAINING, "", 0)


def test_a_round_that_cannot_be_aggregated_for_want_of_room_says_so(
    monkeypatch: pytest.MonkeyPatch, trained: FederatedRound
) -> None:
    monkeypatch.setattr(storage, "put_path", fill_the_disk)
    for _ in range(3):
        with pytest.raises(OSError, match="No space"):
            advance(trained)
        let_lease_end(trained)
    said = "files_not_accessible: Aggregating it failed (No space left on device). This was attempt 3 of 3."
    assert advance(trained).state_reason == said


def test_who_comes_back_after_the_lease_adopts_nothing(
    monkeypatch: pytest.MonkeyPatch, trained: FederatedRound
) -> None:
    def be_slow() -> None:
        let_lease_end(trained)
        with scoping.platform():
            steps.reload(trained).take(owner="another")

    while_aggregating(monkeypatch, be_slow)
    late = advance(trained)
    assert (late.state, late.attempt, late.lease_owner) == (
        RoundState.AGGREGATING,
        trained.attempt + 2,
        "another",
    )
    assert n_versions() == 1
    let_lease_end(trained)
    assert advance(trained).state == RoundState.EVALUATING
    assert n_versions() == 2


def test_a_round_whose_update_is_gone_fails_after_its_attempts_and_says_why(trained: FederatedRound) -> None:
    with scoping.platform():
        local_run = LocalRun.objects.order_by("pk")[0]
    storage.delete(f"content/{local_run.update_sha256[:2]}/{local_run.update_sha256}")
    for _ in range(3):
        with pytest.raises(BlobMissing):
            advance(trained)
        assert steps.reload(trained).state_reason == "blob_missing: Aggregating it failed."
        let_lease_end(trained)
    ended = advance(trained)
    assert ended.state == RoundState.FAILED
    assert ended.state_reason == "blob_missing: Aggregating it failed. This was attempt 3 of 3."
    assert n_versions() == 1
    steps.start(ended.federation)


def test_a_round_whose_coordinators_are_all_killed_fails(
    monkeypatch: pytest.MonkeyPatch, trained: FederatedRound
) -> None:
    monkeypatch.setattr(aggregating, "aggregate", lambda *_, **__: be_killed())
    for _ in range(3):
        with pytest.raises(Killed):
            advance(trained)
        let_lease_end(trained)
    ended = advance(trained)
    assert (ended.state, ended.state_reason.split(":")[0]) == (RoundState.FAILED, "coordinator_lost")


def test_the_lease_is_kept_with_each_update_that_is_staged_or_read(
    monkeypatch: pytest.MonkeyPatch, trained: FederatedRound, settings: Settings
) -> None:
    settings.BEAT_SECONDS = 0
    while_aggregating(monkeypatch, lambda: let_lease_end(trained))
    kept: list[FederatedRound] = []
    keep = FederatedRound.keep

    def counted(row: FederatedRound) -> None:
        kept.append(row)
        keep(row)

    monkeypatch.setattr(FederatedRound, "keep", counted)
    done = advance(trained)
    assert len(kept) == 3 + 3, "each update staged, and read"
    assert done.lease_expires_at is not None
    assert done.lease_expires_at > timezone.now()


def test_a_canceled_round_is_not_aggregated_to_the_end(
    monkeypatch: pytest.MonkeyPatch, trained: FederatedRound, settings: Settings
) -> None:
    settings.BEAT_SECONDS = 0

    def cancel() -> None:
        with scoping.platform():
            rounds.cancel_round(federated_round=steps.reload(trained), actor="operator:ops")

    while_aggregating(monkeypatch, cancel)
    summed: list[object] = []
    monkeypatch.setattr(aggregating, "combine", lambda **_: summed.append(1))
    assert advance(trained).state == RoundState.CANCELED
    assert summed == []
    assert n_versions() == 1


@pytest.mark.django_db(transaction=True)
def test_of_many_coordinators_at_once_exactly_one_begins(trained: FederatedRound) -> None:
    def race() -> str:
        try:
            with scoping.platform():
                steps.reload(trained).take(owner="coordinator")
        except LeaseLost:
            return "lost"
        return "won"

    assert sorted(at_once(8, race)) == ["lost"] * 7 + ["won"]
    assert steps.reload(trained).attempt == trained.attempt + 1
