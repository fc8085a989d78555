"""One coordinator at a time aggregates a round; who is killed over it is followed by another, and adopts nothing."""

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.utils import timezone
from pytest_django import DjangoCaptureOnCommitCallbacks, Settings

from federation import tasks
from federation.models import FederatedRound, LocalRun, PrefixVersion
from federation.services import aggregating, reconciling, rounds
from federation.states import RoundState
from tenants import scoping, storage
from tenants.errors import LeaseLost
from tenants.storage import BlobMissing
from tests.conftest import Message
from tests.factories import ready_federation
from tests.federation import rounds as steps
from tests.racing import at_once

pytestmark = pytest.mark.django_db
AGGREGATE = aggregating.aggregate


class Killed(BaseException):
    """What SIGKILL is to a process."""


@pytest.fixture
def trained(monkeypatch: pytest.MonkeyPatch) -> FederatedRound:
    """A round that is to be aggregated, and nobody is at it."""
    federated_round = steps.start(ready_federation())
    with monkeypatch.context() as patch:
        patch.setattr(FederatedRound, "take", _nobody_takes)
        steps.train_all(federated_round)
    return federated_round


def _nobody_takes(federated_round: FederatedRound, *, owner: str) -> None:
    raise LeaseLost(public_id=federated_round.public_id, attempt=0)


def while_aggregating(monkeypatch: pytest.MonkeyPatch, happens: Callable[[], object]) -> list[int]:
    """Have something happen in the midst of the first aggregation; returns the list to which each adds."""
    begun: list[int] = []

    def aggregate(*arguments: Any, **options: Any) -> aggregating.Outcome:
        begun.append(1)
        if len(begun) == 1:
            happens()
        return AGGREGATE(*arguments, **options)

    monkeypatch.setattr(aggregating, "aggregate", aggregate)
    return begun


def let_lease_end(federated_round: FederatedRound) -> None:
    with scoping.platform():
        past = timezone.now() - timedelta(seconds=1)
        FederatedRound.objects.filter(pk=federated_round.pk).update(lease_expires_at=past)


def advance(federated_round: FederatedRound) -> FederatedRound:
    tasks.advance(federated_round.public_id)
    return steps.reload(federated_round)


def n_versions() -> int:
    with scoping.platform():
        return PrefixVersion.objects.count()


def test_others_leave_a_round_alone_that_is_being_aggregated(
    monkeypatch: pytest.MonkeyPatch, trained: FederatedRound
) -> None:
    begun = while_aggregating(monkeypatch, lambda: [advance(trained) for _ in range(3)])
    done = advance(trained)
    assert (begun, done.state, done.attempt) == ([1], RoundState.EVALUATING, 1)
    assert ":" in done.lease_owner


def test_the_round_of_a_killed_coordinator_is_taken_over_after_its_lease(
    monkeypatch: pytest.MonkeyPatch,
    trained: FederatedRound,
    sent_messages: list[Message],
    django_capture_on_commit_callbacks: DjangoCaptureOnCommitCallbacks,
) -> None:
    def be_killed() -> None:
        raise Killed

    def reconcile() -> list[str]:
        sent_messages.clear()
        with django_capture_on_commit_callbacks(execute=True), scoping.platform():
            reconciling.reconcile()
        return [message.task_name for message in sent_messages]

    assert "federation.advance" in reconcile(), "nobody has begun"
    begun = while_aggregating(monkeypatch, be_killed)
    with pytest.raises(Killed):
        advance(trained)
    assert "federation.advance" not in reconcile()
    assert (begun, advance(trained).state) == ([1], RoundState.AGGREGATING)
    let_lease_end(trained)
    assert "federation.advance" in reconcile()
    done = advance(trained)
    assert (begun, done.state, done.attempt) == ([1, 1], RoundState.EVALUATING, 2)


def test_who_comes_back_after_the_lease_adopts_nothing(
    monkeypatch: pytest.MonkeyPatch, trained: FederatedRound
) -> None:
    def be_slow() -> None:
        let_lease_end(trained)
        with scoping.platform():
            steps.reload(trained).take(owner="another")

    while_aggregating(monkeypatch, be_slow)
    late = advance(trained)
    assert (late.state, late.attempt, late.lease_owner) == (RoundState.AGGREGATING, 2, "another")
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
    def be_killed(*_: object, **__: object) -> None:
        raise Killed

    monkeypatch.setattr(aggregating, "aggregate", be_killed)
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
    assert steps.reload(trained).attempt == 1
