"""How many statements the steps of a round take: they are most of what a round costs beside its training."""

from collections.abc import Callable

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from federation import tasks
from federation.models import LocalRun
from federation.services import rounds
from tenants import scoping
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


def test_a_run_is_moved_and_recorded_without_reading_what_it_belongs_to() -> None:
    local_run = steps.claim(steps.runs_of(steps.start(ready_federation()))[0])
    with scoping.platform():
        found = LocalRun.objects.get(pk=local_run.pk)
        with CaptureQueriesContext(connection) as captured:
            found.move_to("submitted", lease_owner="", lease_expires_at=None)
    spoken_to = [query["sql"].split()[0] for query in captured]
    assert spoken_to == ["SAVEPOINT", "SELECT", "UPDATE", "INSERT", "RELEASE"]
