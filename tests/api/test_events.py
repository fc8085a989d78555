"""The stream of events over HTTP."""

import threading
from typing import Any

import pytest
from django.db import ProgrammingError, connection
from rest_framework.test import APIClient

from federation.models import FederatedRound, Federation, RoundEvent
from federation.services import rounds
from tenants import scoping
from tenants.models import Tenant
from tests.api.problems import faults, problem
from tests.factories import (
    EnrolmentFactory,
    FederatedRoundFactory,
    RoundEventFactory,
    ready_federation,
)
from tests.racing import at_once

EVENTS = "/api/v1/events"


def listed(client: APIClient, **query: str) -> list[dict[str, Any]]:
    answer = client.get(EVENTS, query)
    assert answer.status_code == 200, answer.content
    found: list[dict[str, Any]] = answer.json()["results"]
    return found


@pytest.fixture
def federation(acme: Tenant) -> Federation:
    """Acme and two others."""
    federation = ready_federation(n_tenants=2)
    EnrolmentFactory.create(federation=federation, tenant=acme)
    return federation


@pytest.mark.django_db
def test_a_tenant_follows_its_own_events_and_those_of_its_federations(
    acme_client: APIClient, operator_client: APIClient, acme: Tenant, federation: Federation
) -> None:
    others = RoundEventFactory.create()
    with scoping.platform():
        started = rounds.start_round(federation=federation)
        rounds.cancel_round(federated_round=started, actor="a test")
    own = listed(acme_client)
    assert sorted((event["kind"], event["tenant"]) for event in own) == [
        ("local_run.canceled", acme.public_id),
        ("round.canceled", None),
        ("round.training", None),
    ]
    assert {event["round"] for event in own} == {started.public_id}
    assert {event["federation"] for event in own} == {federation.public_id}
    everything = listed(operator_client)
    assert [event["id"] for event in everything] == sorted(event["id"] for event in everything)
    assert len(everything) == 6
    assert everything[0]["round"] == others.federated_round.public_id


@pytest.mark.django_db
def test_an_outsider_follows_nothing(globex_client: APIClient, federation: Federation) -> None:
    RoundEventFactory.create(federated_round__federation=federation)
    assert listed(globex_client) == []
    problem(globex_client.get(EVENTS, {"federation": federation.public_id}), 404, "not_found")


@pytest.mark.django_db
def test_events_are_chosen_by_federation_kind_and_time(operator_client: APIClient) -> None:
    first, second = RoundEventFactory.create(), RoundEventFactory.create(kind="round.published")
    federation = second.federated_round.federation
    assert [event["id"] for event in listed(operator_client)] == [first.pk, second.pk]
    for query in ({"federation": federation.public_id}, {"kind": "round.published"}):
        assert [event["id"] for event in listed(operator_client, **query)] == [second.pk]
    assert len(listed(operator_client, since=first.happened_at.isoformat())) == 2
    assert listed(operator_client, since="2999-01-01T00:00:00Z") == []
    assert faults(operator_client.get(EVENTS, {"since": "soon", "sort": "id"})) == {("sort", "unknown_field")}


@pytest.mark.django_db
def test_every_event_has_the_cursor_of_what_follows_it(operator_client: APIClient) -> None:
    RoundEventFactory.create_batch(3)
    events = listed(operator_client)
    for place, event in enumerate(events, start=1):
        assert listed(operator_client, cursor=event["cursor"]) == events[place:]


@pytest.mark.django_db(transaction=True)
def test_who_follows_the_cursor_misses_no_event_that_is_committed_late(operator_client: APIClient) -> None:
    federated_round: FederatedRound = FederatedRoundFactory.create()
    is_written, may_commit = threading.Event(), threading.Event()

    def write_and_linger() -> None:
        try:
            with scoping.platform():
                RoundEvent.objects.create(federated_round=federated_round, kind="round.aggregating")
                is_written.set()
                assert may_commit.wait(30)
        finally:
            connection.close()

    lingering = threading.Thread(target=write_and_linger)
    lingering.start()
    try:
        assert is_written.wait(30)
        RoundEventFactory.create(federated_round=federated_round, kind="round.evaluating")
        [seen] = listed(operator_client)
        assert seen["kind"] == "round.evaluating"
        assert listed(operator_client, cursor=seen["cursor"]) == []
    finally:
        may_commit.set()
        lingering.join(30)
    [late] = listed(operator_client, cursor=seen["cursor"])
    assert late["kind"] == "round.aggregating"
    assert late["id"] < seen["id"]


@pytest.mark.django_db(transaction=True)
def test_readers_at_once_give_each_event_one_place(operator_client: APIClient) -> None:
    RoundEventFactory.create_batch(20)
    key = operator_client._credentials["HTTP_AUTHORIZATION"]  # type: ignore[attr-defined]

    def read() -> list[dict[str, Any]]:
        client = APIClient()
        client.credentials(HTTP_AUTHORIZATION=key)
        return listed(client)

    answers = at_once(8, read)
    assert [len(found) for found in answers] == [20] * 8
    assert all(found == answers[0] for found in answers)


@pytest.mark.django_db
def test_an_event_keeps_its_place_and_its_words(platform_scope: None, operator_client: APIClient) -> None:
    event = RoundEventFactory.create()
    listed(operator_client)
    for change in ("number = 7", "message = 'another'"):
        with pytest.raises(ProgrammingError), scoping.platform(), connection.cursor() as cursor:
            cursor.execute(f"UPDATE federation_roundevent SET {change} WHERE id = %s", [event.pk])
