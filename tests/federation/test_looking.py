"""Which of the many pieces of a round's work that end tell the coordinator."""

import pytest
from pytest_django import DjangoCaptureOnCommitCallbacks

from federation import tasks
from federation.dispatch import ADVANCE
from federation.models import Evaluation, LocalRun
from federation.services import local_runs
from tenants import scoping
from tests.conftest import Message
from tests.factories import ready_federation
from tests.federation import rounds as steps

pytestmark = pytest.mark.django_db
Capture = DjangoCaptureOnCommitCallbacks


def hand_in(local_run: LocalRun) -> None:
    """A worker submits, and nobody has checked it yet."""
    claimed = steps.claim(local_run)
    with scoping.tenant(claimed.tenant_id):
        update = steps.update_bytes(claimed, steps.change(0))
        local_runs.submit_update(local_run=claimed, update=update, metrics={})


def n_told(sent_messages: list[Message]) -> int:
    told = sum(message.task_name == ADVANCE for message in sent_messages)
    sent_messages.clear()
    return told


def test_of_updates_that_wait_to_be_checked_the_first_one_tells_and_so_does_the_last_one(
    sent_messages: list[Message], django_capture_on_commit_callbacks: Capture
) -> None:
    federated_round = steps.start(ready_federation(n_tenants=4))
    told = []
    for local_run in steps.runs_of(federated_round):
        with django_capture_on_commit_callbacks(execute=True):
            hand_in(local_run)
        told.append(n_told(sent_messages))
    assert told == [1, 0, 0, 1]


def test_of_updates_that_end_the_training_at_the_same_moment_one_tells(
    sent_messages: list[Message], django_capture_on_commit_callbacks: Capture
) -> None:
    federated_round = steps.start(ready_federation(n_tenants=3))
    with django_capture_on_commit_callbacks(execute=True):  # all are committed when the first one looks
        for local_run in steps.runs_of(federated_round):
            hand_in(local_run)
    assert n_told(sent_messages) == 1


def test_an_update_that_comes_after_the_check_tells_again(
    sent_messages: list[Message], django_capture_on_commit_callbacks: Capture
) -> None:
    federated_round = steps.start(ready_federation(n_tenants=3))
    first, second, _ = steps.runs_of(federated_round)
    hand_in(first)
    tasks.advance(federated_round.public_id)
    with django_capture_on_commit_callbacks(execute=True):
        hand_in(second)
    assert n_told(sent_messages) == 1


def test_a_failure_tells_only_when_it_ends_the_training(
    sent_messages: list[Message], django_capture_on_commit_callbacks: Capture
) -> None:
    first, second = steps.runs_of(steps.start(ready_federation(n_tenants=2)))
    told = []
    for claimed in (steps.claim(first), steps.claim(second)):
        with scoping.tenant(claimed.tenant_id), django_capture_on_commit_callbacks(execute=True):
            local_runs.fail_local_run(local_run=claimed, code="loss_not_finite", reason="The loss is NaN.")
        told.append(n_told(sent_messages))
    assert told == [0, 1]


def test_only_a_candidates_last_score_tells(
    sent_messages: list[Message], django_capture_on_commit_callbacks: Capture
) -> None:
    federated_round = steps.start(ready_federation(n_tenants=3))
    steps.train_all(federated_round)
    federated_round = steps.reload(federated_round)
    told: dict[object, list[int]] = {}
    for version_id in (federated_round.parent_version_id, federated_round.candidate_version_id):
        with scoping.platform():
            waiting = list(Evaluation.objects.filter(version_id=version_id, state="queued"))
        told[version_id] = []
        for evaluation in waiting:
            with django_capture_on_commit_callbacks(execute=True):
                steps.score(evaluation, 0.5)
            told[version_id].append(n_told(sent_messages))
    assert list(told.values()) == [[0, 0, 0], [0, 0, 1]]
