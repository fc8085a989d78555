"""The console's pages follow the stream of events, by the session and within its wall."""

import threading
from typing import Any

import pytest
from django.contrib.auth.models import Permission
from django.db import connection
from django.test import Client
from django.urls import reverse
from pytest_django import Settings

from api import event_stream
from api.event_stream import EventStream
from api.pagination import cursor_after
from deploy import console_events
from federation.models import FederatedRound, RoundEvent
from federation.services.rounds import cancel_round
from tenants import scoping
from tenants.models import Membership, Tenant
from tenants.states import Role
from tests.factories import (
    CampaignFactory,
    EnrolmentFactory,
    FederatedRoundFactory,
    MembershipFactory,
    RoundEventFactory,
    UserFactory,
    ready_federation,
)
from tests.federation import rounds
from tests.federation.console import signed_in

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(event_stream, "LOOK_EVERY_SECONDS", 0.02)


@pytest.fixture
def ending(monkeypatch: pytest.MonkeyPatch) -> None:
    """Streams that end after one look."""
    monkeypatch.setattr(console_events, "STREAM_SECONDS", 0)


@pytest.fixture
def operator() -> Client:
    return signed_in(UserFactory.create(is_staff=True, is_superuser=True))


@pytest.fixture
def live_round(acme: Tenant) -> FederatedRound:
    """Of Acme and another tenant, in training."""
    federation = ready_federation(n_tenants=1)
    EnrolmentFactory.create(federation=federation, tenant=acme)
    return rounds.start(federation)


def member_of(tenant: Tenant, role: Role = Role.VIEWER) -> Client:
    return signed_in(MembershipFactory.create(tenant=tenant, role=role).user)


def stream(client: Client, row: Any, **headers: str) -> Any:
    return client.get(
        reverse("console_events", args=[row.public_id]), headers={"Accept": "text/event-stream", **headers}
    )


def messages(answer: Any) -> list[dict[str, str]]:
    """The messages of a stream to its end: field by name."""
    text = b"".join(answer.streaming_content).decode()
    answer.close()
    blocks = [block for block in text.split("\n\n") if "data: " in block]
    return [dict(line.split(": ", 1) for line in block.splitlines()) for block in blocks]


def test_a_stream_begins_with_a_sign_and_goes_on_after_the_browsers_last_event(
    operator: Client, live_round: FederatedRound, ending: None
) -> None:
    answer = stream(operator, live_round)
    assert answer["Content-Type"] == "text/event-stream"
    assert messages(answer) == [{"data": "progress"}]
    opened = event_stream_cursor(live_round)
    cancel(live_round)
    [told] = messages(stream(operator, live_round, **{"Last-Event-ID": opened}))
    assert told["data"].split() == ["round.canceled", "local_run.canceled", "local_run.canceled"]
    assert messages(stream(operator, live_round, **{"Last-Event-ID": told["id"]})) == [{"data": "progress"}]


def event_stream_cursor(federated_round: FederatedRound) -> str:
    """Of the round's newest event with a place."""
    with scoping.platform():
        numbered = RoundEvent.objects.filter(federated_round=federated_round, number__isnull=False)
        last = numbered.order_by("number").last()
    assert last is not None
    assert last.number is not None
    return cursor_after(last.number)


def cancel(federated_round: FederatedRound) -> None:
    with scoping.platform():
        cancel_round(federated_round=rounds.reload(federated_round), actor="operator:ops")


def test_a_workers_beat_is_told_and_no_transaction_is_open_meanwhile(
    operator: Client, live_round: FederatedRound
) -> None:
    claimed = rounds.claim(rounds.runs_of(live_round)[0])
    answer = stream(operator, live_round)
    content = iter(answer.streaming_content)
    assert next(content) == b"retry: 1000\n\n"
    assert next(content) == b"data: progress\n\n"
    with scoping.tenant(claimed.tenant_id):
        claimed.keep(progress={"step": 3, "n_steps": 12})
    assert next(content) == b"data: progress\n\n"
    assert not connection.in_atomic_block
    assert scoping.in_force() is None
    rounds.fail(claimed)
    assert next(content).endswith(b"data: local_run.failed\n\n")
    answer.close()


def test_a_campaign_and_a_federation_are_followed_by_their_rounds(
    operator: Client, live_round: FederatedRound, ending: None
) -> None:
    campaign = CampaignFactory.create(federation=live_round.federation)
    with scoping.platform():
        FederatedRound.objects.filter(pk=live_round.pk).update(campaign=campaign)
    assert messages(stream(operator, live_round)) != []
    before = {"Last-Event-ID": event_stream_cursor(live_round)}
    RoundEventFactory.create(federated_round=live_round, kind="round.aggregating")
    RoundEventFactory.create(federated_round=FederatedRoundFactory.create(), kind="round.kept")
    for row in (campaign, live_round.federation, live_round):
        [told] = messages(stream(operator, row, **before))
        assert told["data"] == "round.aggregating"


def test_a_member_is_told_of_its_own_part_alone(
    acme: Tenant, globex: Tenant, operator: Client, live_round: FederatedRound, ending: None
) -> None:
    member = member_of(acme)
    assert messages(stream(member, live_round)) == [{"data": "progress"}]
    before = {"Last-Event-ID": event_stream_cursor(live_round)}
    own, other = sorted(rounds.runs_of(live_round), key=lambda run: run.tenant_id != acme.pk)
    rounds.claim(other)
    [told] = messages(stream(operator, live_round, **before))
    assert told["data"] == "local_run.running"
    assert messages(stream(member, live_round, **before)) == [{"data": "progress"}], "as at each beginning"
    rounds.claim(own)
    [told] = messages(stream(member, live_round, **before))
    assert told["data"] == "local_run.running"
    outsider = member_of(globex)
    for row in (live_round, live_round.federation):
        assert stream(outsider, row).status_code == 404


def test_who_may_not_see_rounds_follows_none(live_round: FederatedRound) -> None:
    assert stream(Client(), live_round).status_code == 302
    staff = UserFactory.create(is_staff=True)
    assert stream(signed_in(staff), live_round).status_code == 403
    staff.user_permissions.add(Permission.objects.get(codename="view_federatedround"))
    answer = stream(signed_in(staff), live_round)
    assert answer.status_code == 200
    answer.close()
    assert signed_in(staff).post(reverse("console_events", args=[live_round.public_id])).status_code == 405


@pytest.mark.parametrize("end", ["signs_out", "membership_ends", "idles"])
def test_a_stream_ends_with_its_session(
    acme: Tenant, live_round: FederatedRound, settings: Settings, end: str
) -> None:
    member = member_of(acme)
    answer = stream(member, live_round)
    content = iter(answer.streaming_content)
    next(content), next(content)
    if end == "signs_out":
        member.logout()
    elif end == "membership_ends":
        with scoping.platform():
            Membership.objects.filter(tenant=acme).delete()
    else:
        settings.SESSION_IDLE_SECONDS = 0
    RoundEventFactory.create(federated_round=live_round)
    assert list(content) == []
    answer.close()


def test_without_a_free_place_a_page_is_told_what_there_is_and_when_to_come_again(
    operator: Client, live_round: FederatedRound, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(EventStream, "places", threading.BoundedSemaphore(1))
    first = stream(operator, live_round)
    polled = stream(operator, live_round)
    assert b"".join(polled.streaming_content) == b"retry: 5000\n\ndata: progress\n\n"
    first.close()
    again = stream(operator, live_round)
    assert next(iter(again.streaming_content)) == b"retry: 1000\n\n"
    again.close()


def test_following_is_nobodys_presence(
    operator: Client, live_round: FederatedRound, settings: Settings, ending: None
) -> None:
    settings.SESSION_IDLE_SECONDS = 600
    session = operator.session
    session["seen_at"] = seen_at = session["seen_at"] - 300
    session.save()
    assert messages(stream(operator, live_round)) == [{"data": "progress"}]
    assert operator.session["seen_at"] == seen_at
    operator.get(reverse("admin:index"))
    assert operator.session["seen_at"] > seen_at
