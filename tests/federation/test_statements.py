"""How many statements the steps of a round take: they are most of what a round costs beside its training."""

from collections.abc import Callable

import pytest
from django.db import connection
from django.db.models.functions import Now
from django.test.utils import CaptureQueriesContext

from federation import tasks
from federation.errors import LocalRunStateConflict
from federation.models import FederatedRound, LocalRun
from federation.services import local_runs, rounds
from federation.services.claiming import claim_next
from federation.states import LocalRunState
from tenants import scoping
from tenants.services import attempts
from tests.factories import ready_federation
from tests.federation import rounds as steps

pytestmark = pytest.mark.django_db


def n_statements(step: Callable[[], object]) -> int:
    with CaptureQueriesContext(connection) as captured:
        step()
    return len(captured)


def test_a_round_of_many_tenants_begins_and_turns_to_scores_with_as_many_statements_as_one_of_few() -> None:
    few, many = steps.start(ready_federation(n_tenants=2)), steps.start(ready_federation(n_tenants=9))
    begun = []
    for n_tenants in (2, 9):
        federation = ready_federation(n_tenants=n_tenants)
        begun.append(n_statements(lambda made=federation: steps.start(made)))  # type: ignore[misc]
    assert begun[0] == begun[1]
    turned = []
    for federated_round in (few, many):
        with scoping.platform():
            federated_round.candidate_version = federated_round.parent_version
            federated_round.state = "aggregating"
            federated_round.save(update_fields=["candidate_version", "state"])
            turned.append(
                n_statements(lambda one=federated_round: rounds.begin_evaluation(federated_round=one))  # type: ignore[misc]
            )
    assert turned[0] == turned[1]


def test_a_message_about_a_round_that_is_not_over_only_looks() -> None:
    federated_round = steps.start(ready_federation(n_tenants=3))
    with CaptureQueriesContext(connection) as captured:
        tasks.advance(federated_round.public_id)
    assert not any("FOR UPDATE" in query["sql"] or "FOR NO KEY" in query["sql"] for query in captured)


def spoken(step: Callable[[], object]) -> list[str]:
    """The first words of the statements that the step takes."""
    with CaptureQueriesContext(connection) as captured:
        step()
    return [query["sql"].split()[0] for query in captured]


def test_a_run_is_moved_and_recorded_without_reading_what_it_belongs_to() -> None:
    local_run = steps.claim(steps.runs_of(steps.start(ready_federation()))[0])
    with scoping.platform():
        found = LocalRun.objects.get(pk=local_run.pk)
        assert spoken(lambda: found.move_to("submitted", lease_owner="", lease_expires_at=None)) == [
            "UPDATE",
            "INSERT",
        ]


def test_a_row_that_was_moved_since_it_was_read_is_judged_by_what_it_is() -> None:
    local_run = steps.runs_of(steps.start(ready_federation()))[0]
    with scoping.platform():
        first, second, third = (LocalRun.objects.get(pk=local_run.pk) for _ in range(3))
        first.move_to("running", attempt=1, lease_owner="one", lease_expires_at=Now())
        second.move_to("canceled", reason="It is.", lease_owner="", lease_expires_at=None)
        assert second.federated_round.events.order_by("-pk")[0].data["from"] == "running"
        with pytest.raises(LocalRunStateConflict, match="is canceled and cannot become running"):
            third.move_to("running")


def test_work_is_claimed_in_one_statement() -> None:
    """The order and the next row, the claim and all that belongs to it, its event, the usage, the order's progress."""
    steps.start(ready_federation())
    with scoping.platform():
        assert spoken(lambda: claim_next(owner="worker")) == ["SELECT"]


def test_an_attempt_ends_in_one_statement() -> None:
    """The row under its fencing token, the event, the usage."""
    local_run = steps.claim(steps.runs_of(steps.start(ready_federation()))[0])
    with scoping.tenant(local_run.tenant_id):
        taken = spoken(lambda: attempts.end(local_run, LocalRunState.SUBMITTED, received_bytes=1))
    assert taken == ["WITH"]


def test_many_updates_are_judged_with_as_many_statements_as_few() -> None:
    taken = []
    for n_tenants in (2, 9):
        federated_round = steps.start(ready_federation(n_tenants=n_tenants, quorum=n_tenants))
        *runs, _ = steps.runs_of(federated_round)
        for seed, local_run in enumerate(runs):
            claimed = steps.claim(local_run)
            with scoping.tenant(claimed.tenant_id):
                update = steps.update_bytes(claimed, steps.change(seed))
                local_runs.submit_update(local_run=claimed, update=update, metrics={})
        taken.append(n_statements(lambda one=federated_round: tasks.advance(one.public_id)))  # type: ignore[misc]
        assert {run.state for run in steps.runs_of(federated_round)} == {"accepted", "queued"}
    assert taken[0] == taken[1]


def test_a_round_that_is_locked_keeps_what_never_changes_and_forgets_what_may() -> None:
    started = steps.start(ready_federation())
    with scoping.platform():
        found = FederatedRound.objects.select_related("federation", "parent_version").get(pk=started.pk)
        FederatedRound.objects.filter(pk=started.pk).update(candidate_version=found.parent_version)

        def lock_and_look() -> None:
            found.lock()
            assert found.federation.pk == found.federation_id
            assert found.parent_version.pk == found.parent_version_id

        assert spoken(lock_and_look) == ["SELECT"]
        assert found.candidate_version == found.parent_version
