"""Two who meet at the same rows of a round: neither fails for the other, and no wake-up is lost between them."""

from collections.abc import Iterator
from concurrent.futures import Future, wait
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import pytest
from django.utils import timezone

from federation import tasks
from federation.models import Enrolment, Evaluation, FederatedRound, LocalRun
from federation.services import evaluations, federations, local_runs, reconciling, rounds
from tenants import dispatch, scoping
from tenants.leases import Leased
from tests.claims import claim
from tests.factories import ready_federation
from tests.federation import rounds as steps
from tests.racing import beside, until_it_waits

pytestmark = pytest.mark.django_db(transaction=True)


def submit(claimed: LocalRun) -> None:
    """As its worker does, in the scope in force; nobody has checked it yet."""
    update = steps.update_bytes(claimed, steps.change(0))
    local_runs.submit_update(local_run=claimed, update=update, metrics={})


def hand_in(claimed: LocalRun) -> None:
    with scoping.tenant(claimed.tenant_id):
        submit(claimed)


def cancel(federated_round: FederatedRound) -> FederatedRound:
    with scoping.platform():
        return rounds.cancel_round(federated_round=federated_round, actor="operator:anna")


def test_a_score_that_comes_as_its_round_is_canceled_stays_and_the_round_is_canceled() -> None:
    federated_round = steps.start(ready_federation(n_tenants=3))
    steps.train_all(federated_round)
    federated_round = steps.reload(federated_round)
    with scoping.platform():
        first, second, last = Evaluation.objects.filter(version=federated_round.candidate_version).order_by(
            "pk"
        )
    with scoping.tenant(last.tenant_id):
        scored = claim(Evaluation, last.pk, owner="worker")
    with scoping.tenant(last.tenant_id):
        evaluations.complete_evaluation(evaluation=scored, accuracy=0.5, loss=0.5, n_rows=20)
        canceling = beside(lambda: cancel(federated_round))
        until_it_waits()
    assert canceling.result().state == "canceled"
    assert [steps.reload(one).state for one in (first, second, last)] == ["canceled", "canceled", "completed"]


def test_an_update_that_comes_as_the_deadline_passes_is_checked_and_counts() -> None:
    federated_round = steps.start(ready_federation(n_tenants=3, quorum=2))
    first, second, last = [steps.claim(run) for run in steps.runs_of(federated_round)]
    for claimed in (first, second):
        steps.submit(claimed, steps.update_bytes(claimed, steps.change(0)))
    with scoping.platform():
        passed = timezone.now() - timedelta(seconds=1)
        FederatedRound.objects.filter(pk=federated_round.pk).update(deadline_at=passed)
    with scoping.tenant(last.tenant_id):
        submit(last)
        closing = beside(lambda: tasks.advance(federated_round.public_id))
        until_it_waits()
    closing.result()
    tasks.advance(federated_round.public_id)
    assert {run.state for run in steps.runs_of(federated_round)} == {"accepted"}
    assert steps.reload(federated_round).state == "evaluating"


def test_an_update_that_is_handed_in_while_verdicts_are_written_is_checked_too(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    federated_round = steps.start(ready_federation(n_tenants=4))
    first, second, *_ = [steps.claim(run) for run in steps.runs_of(federated_round)]
    hand_in(first)
    close = rounds.close_locked

    def meanwhile(**given: Any) -> None:  # the last thing before the verdicts' commit
        monkeypatch.setattr(rounds, "close_locked", close)
        beside(lambda: hand_in(second)).result()
        close(**given)

    monkeypatch.setattr(rounds, "close_locked", meanwhile)
    tasks.advance(federated_round.public_id)
    states = [steps.reload(run).state for run in (first, second)]
    assert states == ["accepted", "accepted"]


def test_a_tenant_that_enrols_again_as_a_round_opens_closes_no_circle_of_waiting(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Both ask for the published version's score at the tenant, and the round names the tenant's place."""
    federation = ready_federation(n_tenants=3)
    with scoping.platform():
        enrolment = Enrolment.objects.select_related("tenant", "dataset").earliest("pk")
    assert enrolment.dataset is not None  # an active one has it
    opening: list[Future[FederatedRound]] = []
    request_first = evaluations.request_first

    def meanwhile(**given: Any) -> None:
        opening.append(beside(lambda: steps.start(federation)))
        wait(opening, timeout=2)  # the round waits for nothing
        request_first(**given)

    monkeypatch.setattr(evaluations, "request_first", meanwhile)
    with scoping.tenant(enrolment.tenant_id):
        federations.enrol(federation=federation, tenant=enrolment.tenant, dataset=enrolment.dataset)
    assert opening[0].result().state == "training"


def test_runs_whose_messages_are_sent_again_hold_up_no_cancellation(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither waits for a row that the other holds: with rows in another order that would be a circle."""
    federated_round = steps.start(ready_federation(n_tenants=3))
    with scoping.platform():
        *rest, last = LocalRun.objects.order_by("pk")
        LocalRun.objects.update(sent_at=timezone.now() - timedelta(hours=1))
    wake = dispatch.wake_worker
    n_sent = 0

    def count(row: Leased) -> None:
        nonlocal n_sent
        n_sent += 1
        wake(row)

    monkeypatch.setattr(dispatch, "wake_worker", count)
    with holding(last):
        canceling = beside(lambda: cancel(federated_round))
        until_it_waits()
        beside(reconciling.reconcile).result(timeout=60)  # the others' locks are the cancellation's
        assert n_sent == 0
    assert canceling.result().state == "canceled"
    assert {steps.reload(run).state for run in (*rest, last)} == {"canceled"}


@contextmanager
def holding(row: LocalRun) -> Iterator[None]:
    with scoping.platform():
        row.lock()
        yield


def test_a_reconciler_holds_one_row_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    steps.start(ready_federation(n_tenants=3))
    with scoping.platform():
        LocalRun.objects.update(sent_at=timezone.now() - timedelta(hours=1))
    wake, free = dispatch.wake_worker, []

    def look(row: Leased) -> None:
        wake(row)
        free.append(beside(n_free).result())

    monkeypatch.setattr(dispatch, "wake_worker", look)
    reconciling.reconcile()
    assert free == [2, 2, 2]


def n_free() -> int:
    with scoping.platform():
        return len(LocalRun.objects.select_for_update(skip_locked=True))
