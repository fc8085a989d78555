"""The stream of events over HTTP."""

import threading
from typing import Any

import psycopg
import pytest
from django.db import ProgrammingError, connection
from django.test.utils import CaptureQueriesContext
from rest_framework.test import APIClient

from api import events
from federation.models import FederatedRound, Federation, PrefixVersion, RoundEvent
from federation.services import rounds
from federation.services.events import number_up_to_now
from tenants import scoping
from tenants.models import Tenant
from tests.api.problems import faults, problem
from tests.factories import (
    EnrolmentFactory,
    FederatedRoundFactory,
    RoundEventFactory,
    TenantFactory,
    ready_federation,
)
from tests.plans import most_read
from tests.racing import at_once
from tests.session import SERVERS

EVENTS = "/api/v1/events"


def listed(client: APIClient, **query: str) -> list[dict[str, Any]]:
    answer = client.get(EVENTS, query)
    assert answer.status_code == 200, answer.content
    found: list[dict[str, Any]] = answer.json()["results"]
    return found


def version_of(federation: Federation) -> PrefixVersion:
    with scoping.platform():
        return federation.published.version


@pytest.fixture
def federation(acme: Tenant) -> Federation:
    """Acme and two others."""
    federation = ready_federation(n_tenants=2)
    EnrolmentFactory.create(federation=federation, tenant=acme)
    return federation


@pytest.mark.django_db
def test_what_comes_while_a_page_is_read_comes_with_the_next_one(
    acme_client: APIClient, acme: Tenant, federation: Federation, monkeypatch: pytest.MonkeyPatch
) -> None:
    federated_round = FederatedRoundFactory.create(parent_version=version_of(federation))

    def happens() -> None:
        RoundEventFactory.create(federated_round=federated_round, tenant=acme)
        RoundEventFactory.create(federated_round=federated_round)

    def meanwhile() -> int:
        last = number_up_to_now()
        happens()
        number_up_to_now()
        return last

    happens()
    with monkeypatch.context() as patched:
        patched.setattr(events, "number_up_to_now", meanwhile)
        first = listed(acme_client)
    after = listed(acme_client, cursor=first[-1]["cursor"])
    assert (len(first), len(after)) == (2, 2)


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
def test_a_tenants_pages_go_there_and_back_and_hold_its_events_alone(
    acme_client: APIClient, acme: Tenant, federation: Federation
) -> None:
    federated_round = FederatedRoundFactory.create(parent_version=version_of(federation))
    seen: list[int] = []
    for number in range(4):
        RoundEventFactory.create()
        own = [RoundEventFactory.create(federated_round=federated_round, tenant=one) for one in (acme, None)]
        seen += [event.pk for event in own]
        RoundEventFactory.create(federated_round=federated_round, tenant=TenantFactory.create())
        if number == 1:
            listed(acme_client)  # numbers of two looks
    pages = [acme_client.get(EVENTS, {"page_size": 3}).json()]
    while pages[-1]["next"]:
        pages.append(acme_client.get(pages[-1]["next"]).json())
    assert [event["id"] for page in pages for event in page["results"]] == seen
    assert [len(page["results"]) for page in pages] == [3, 3, 2]
    assert acme_client.get(pages[2]["previous"]).json()["results"] == pages[1]["results"]


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("is_of_round", [False, True])
def test_a_page_reads_nothing_of_others_events(
    acme_client: APIClient, acme: Tenant, federation: Federation, *, is_of_round: bool
) -> None:
    others = RoundEventFactory.create().federated_round
    with scoping.platform():
        RoundEvent.objects.bulk_create(
            RoundEvent(federated_round=others, kind="round.training") for _ in range(3_000)
        )
    own = FederatedRoundFactory.create(parent_version=version_of(federation))
    made = [RoundEventFactory.create(federated_round=own, tenant=tenant).pk for tenant in (acme, None)]
    path = f"/api/v1/rounds/{own.public_id}/events" if is_of_round else EVENTS
    acme_client.get(path)  # the first one numbers them
    with psycopg.connect(SERVERS.owner_database_url, autocommit=True) as owner:
        owner.execute("ANALYZE")
    with CaptureQueriesContext(connection) as captured:
        found = acme_client.get(path).json()["results"]
    assert [event["id"] for event in found] == made
    looks = [
        query["sql"]
        for query in captured
        if '"federation_roundevent"' in query["sql"] and "ORDER BY" in query["sql"]
    ]
    for look in looks:
        select = look[look.index('SELECT "federation_roundevent"') :] if "set_config" in look else look
        with scoping.tenant(acme.pk), connection.cursor() as cursor:
            cursor.execute(f"EXPLAIN (ANALYZE, FORMAT JSON) {select}")
            [[plan]] = cursor.fetchall()
        assert most_read(plan[0]["Plan"]) < 100, select
    assert looks


@pytest.mark.django_db
def test_an_event_keeps_its_place_and_its_words(platform_scope: None, operator_client: APIClient) -> None:
    event = RoundEventFactory.create()
    listed(operator_client)
    for change in ("number = 7", "message = 'another'"):
        with pytest.raises(ProgrammingError), scoping.platform(), connection.cursor() as cursor:
            cursor.execute(f"UPDATE federation_roundevent SET {change} WHERE id = %s", [event.pk])
