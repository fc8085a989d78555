"""Server-sent events: what happens, as it happens."""

import json
import threading
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from django.db import connection
from pytest_django import Settings
from pytest_django.live_server_helper import LiveServer
from rest_framework.test import APIClient

from api import event_stream, events
from api.event_stream import EventStream
from api.pagination import cursor_after
from federation.models import Federation, RoundEvent
from tenants import scoping
from tenants.models import ApiKey, Tenant
from tenants.services.api_keys import revoke_api_key
from tests.api.problems import faults, problem
from tests.factories import EnrolmentFactory, FederatedRoundFactory, RoundEventFactory, ready_federation
from tests.keys import new_client
from tests.standing_clock import StandingClock

pytestmark = pytest.mark.django_db(transaction=True)
STREAM = "/api/v1/events/stream"


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(event_stream, "LOOK_EVERY_SECONDS", 0.02)


@pytest.fixture
def ending(settings: Settings) -> None:
    """Streams that end as soon as there is nothing to tell."""
    settings.EVENT_STREAM_SECONDS = 0


@pytest.fixture
def federation(acme: Tenant) -> Federation:
    """Acme and another one."""
    federation = ready_federation(n_tenants=1)
    EnrolmentFactory.create(federation=federation, tenant=acme)
    return federation


def frames(answer: Any) -> list[dict[str, str]]:
    """The events of a stream to its end: field by name."""
    text = b"".join(answer.streaming_content).decode()
    answer.close()
    blocks = [block for block in text.split("\n\n") if block.startswith("id: ")]
    return [dict(line.split(": ", 1) for line in block.splitlines()) for block in blocks]


def test_a_stream_goes_on_after_the_event_that_came_last(operator_client: APIClient, ending: None) -> None:
    first, second, third = RoundEventFactory.create_batch(3)
    listed = operator_client.get("/api/v1/events").json()["results"]
    answer = operator_client.get(STREAM, {"cursor": listed[0]["cursor"]})
    assert answer["Content-Type"] == "text/event-stream"
    assert answer["Cache-Control"] == "no-store"
    told = frames(answer)
    assert [frame["id"] for frame in told] == [event["cursor"] for event in listed[1:]]
    assert {frame["event"] for frame in told} == {"round.training"}
    assert [json.loads(frame["data"]) for frame in told] == listed[1:]
    again = operator_client.get(
        STREAM, {"cursor": listed[0]["cursor"]}, headers={"Last-Event-ID": listed[1]["cursor"]}
    )
    assert [json.loads(frame["data"])["id"] for frame in frames(again)] == [third.pk]
    assert first.pk < second.pk


def test_a_stream_reads_nothing_of_others_events_twice(
    acme_client: APIClient, ending: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    RoundEventFactory.create_batch(3)
    looks: list[int] = []
    look = events.LiveEvents._look

    def watched(view: events.LiveEvents, asked: dict[str, Any]) -> str | None:
        told = look(view, asked)
        assert view._number is not None
        looks.append(view._number)
        return told

    monkeypatch.setattr(events.LiveEvents, "_look", watched)
    assert frames(acme_client.get(STREAM, {"cursor": cursor_after(0)})) == []
    with scoping.platform():
        last = RoundEvent.objects.latest("number").number
    assert looks[-1] == last


def test_a_text_of_several_lines_stays_within_its_event(operator_client: APIClient, ending: None) -> None:
    cursor = start_of_stream(operator_client)
    RoundEventFactory.create(message="one\n\nid: forged\r\ndata: x\u2028")
    [frame] = frames(operator_client.get(STREAM, {"cursor": cursor}))
    assert json.loads(frame["data"])["message"] == "one\n\nid: forged\r\ndata: x\u2028"


def start_of_stream(client: APIClient) -> str:
    """The cursor of an event that has just happened."""
    RoundEventFactory.create()
    cursor: str = client.get("/api/v1/events").json()["results"][-1]["cursor"]
    return cursor


def test_a_stream_tells_what_the_caller_may_see_and_asks_for(
    acme_client: APIClient, operator_client: APIClient, federation: Federation, ending: None
) -> None:
    cursor = start_of_stream(operator_client)
    with scoping.platform():
        version = federation.published.version
    own = FederatedRoundFactory.create(parent_version=version)
    RoundEventFactory.create(federated_round=own)
    RoundEventFactory.create(federated_round=own, kind="round.published")
    other = RoundEventFactory.create().federated_round

    def kinds(client: APIClient, **asked: str) -> list[str]:
        return [frame["event"] for frame in frames(client.get(STREAM, {"cursor": cursor, **asked}))]

    assert kinds(operator_client) == ["round.training", "round.published", "round.training"]
    assert kinds(acme_client) == ["round.training", "round.published"]
    assert kinds(acme_client, kind="round.published") == ["round.published"]
    assert kinds(operator_client, round=other.public_id) == ["round.training"]
    problem(acme_client.get(STREAM, {"round": other.public_id}), 404, "not_found")


@pytest.mark.parametrize("bad", ["", "x", "cD14", "cj0xJnA9MQ==", "ü", "cD0x\n"])
def test_a_place_of_nobodys(operator_client: APIClient, bad: str) -> None:
    problem(operator_client.get(STREAM, {"cursor": bad}), 400, "cursor_invalid")


def test_a_stream_refuses_what_it_does_not_know(operator_client: APIClient) -> None:
    assert faults(operator_client.get(STREAM, {"sort": "id"})) == {("sort", "unknown_field")}
    assert operator_client.head(STREAM).status_code == 405


@pytest.fixture
def live(operator_client: APIClient) -> Iterator[Iterator[bytes]]:
    """An open stream, which has just begun."""
    answer: Any = operator_client.get(STREAM)
    content = iter(answer.streaming_content)
    assert next(content) == b"retry: 1000\n\n"
    yield content
    answer.close()


def test_no_transaction_is_open_while_a_stream_waits(live: Iterator[bytes]) -> None:
    assert next(live) == b":\n\n"
    assert not connection.in_atomic_block
    assert scoping.in_force() is None
    RoundEventFactory.create()
    assert next(live).startswith(b"id: ")


def test_a_revoked_key_ends_its_stream(live: Iterator[bytes], standing_clock: StandingClock) -> None:
    RoundEventFactory.create()
    next(live)
    with scoping.platform():
        revoke_api_key(key=ApiKey.objects.get())
    standing_clock.advance(1)
    RoundEventFactory.create()
    assert list(live) == []


def test_a_stream_goes_on_for_a_key_of_its_networks(
    acme: Tenant, federation: Federation, ending: None
) -> None:
    client = new_client(acme, allowed_networks=["192.0.2.0/24"])
    where: dict[str, Any] = {"REMOTE_ADDR": "192.0.2.9"}
    cursor = cursor_after(0)
    RoundEventFactory.create(federated_round=FederatedRoundFactory.create(federation=federation))
    assert frames(client.get(STREAM, {"cursor": cursor}, **where))


def test_streams_are_few_and_each_gives_its_place_back(
    operator_client: APIClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(EventStream, "places", threading.BoundedSemaphore(1))
    first: Any = operator_client.get(STREAM)
    refused = operator_client.get(STREAM)
    problem(refused, 429, "too_many_streams")
    assert refused["Retry-After"] == "10"
    assert operator_client.get("/api/v1/events").status_code == 200
    first.close()  # it was never read
    second: Any = operator_client.get(STREAM)
    assert second.status_code == 200
    second.close()


def test_a_tenant_leaves_places_to_others(
    acme_client: APIClient, globex_client: APIClient, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings.MAX_EVENT_STREAMS = 4
    monkeypatch.setattr(EventStream, "places", threading.BoundedSemaphore(4))
    first, second = acme_client.get(STREAM), acme_client.get(STREAM)
    problem(acme_client.get(STREAM), 429, "too_many_streams")
    theirs = globex_client.get(STREAM)
    assert theirs.status_code == 200
    first.close()
    third = acme_client.get(STREAM)
    assert third.status_code == 200
    for stream in (second, third, theirs):
        stream.close()


def test_an_event_arrives_over_a_connection_that_was_open_before_it(
    live_server: LiveServer, operator_client: APIClient
) -> None:
    headers = {"Authorization": operator_client._credentials["HTTP_AUTHORIZATION"]}  # type: ignore[attr-defined]
    with httpx.stream("GET", f"{live_server.url}{STREAM}", headers=headers, timeout=30) as answer:
        lines = answer.iter_lines()
        assert next(lines) == "retry: 1000"
        event = RoundEventFactory.create()
        data = next(line for line in lines if line.startswith("data: "))
    assert json.loads(data.removeprefix("data: "))["id"] == event.pk
