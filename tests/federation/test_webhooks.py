"""Webhooks from the event to the receiver, which is a real HTTP server and verifies with the stock library."""

import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from ipaddress import ip_network
from typing import Any

import pytest
from django.db import connection
from django.db.models import F
from django.db.models.functions import Now
from pytest_django import Settings
from standardwebhooks import Webhook, WebhookVerificationError

from federation.errors import WebhookDisabled
from federation.models import (
    Federation,
    WebhookAttempt,
    WebhookDelivery,
    WebhookEndpoint,
    WebhookSecret,
)
from federation.outbound.sending import Answer
from federation.services import announcing, rounds, webhooks
from federation.services.announcing import PAUSES, announce
from federation.services.events import number_new_events
from federation.states import DeliveryState, WebhookState
from tenants import scoping
from tenants.models import AuditEntry, Tenant
from tenants.states import TenantState
from tests.factories import (
    EnrolmentFactory,
    WebhookEndpointFactory,
    ready_federation,
)
from tests.federation.webhooks import announce_all, attempts, federation_of, happens, the_delivery, webhook
from tests.plans import most_read
from tests.racing import at_once
from tests.receiver import Received, Receiver, receiving

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture(autouse=True)
def loopback(settings: Settings) -> None:
    """Let the tests' receivers be reached."""
    settings.WEBHOOK_PRIVATE_NETWORKS, settings.WEBHOOK_ALLOW_HTTP = (ip_network("127.0.0.1/32"),), True


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with receiving() as found:
        yield found


@pytest.fixture
def federation(acme: Tenant) -> Federation:
    """One that Acme takes part in."""
    return federation_of(acme)


def let_pass(time: timedelta) -> None:
    """Let everything that messages wait for come nearer by so much."""
    with scoping.platform():
        WebhookDelivery.objects.update(
            due_at=F("due_at") - time,
            waiting_since=F("waiting_since") - time,
            lease_expires_at=F("lease_expires_at") - time,
        )


def verified(request: Received, secret: str, *, body: bytes | None = None) -> Any:
    return Webhook(secret).verify(request.body if body is None else body, request.headers)


def test_an_event_reaches_the_receiver_and_verifies_with_the_stock_library(
    receiver: Receiver, acme: Tenant, federation: Federation
) -> None:
    secret = webhook(acme, receiver.url).text
    with scoping.platform():
        started = rounds.start_round(federation=federation)
    announce_all()
    [request] = receiver.received
    told = verified(request, secret)
    assert told["type"] == "round.training"
    assert set(told) == {"type", "timestamp", "data"}
    assert (told["data"]["round"], told["data"]["federation"]) == (started.public_id, federation.public_id)
    assert request.headers["webhook-id"] == the_delivery().public_id
    assert request.headers["Content-Type"] == "application/json"
    assert str(started.pk) not in request.body.decode()
    [attempt] = attempts()
    assert (attempt.number, attempt.status_code, attempt.error) == (1, 204, "")
    delivery = the_delivery()
    assert delivery.state == DeliveryState.DELIVERED
    assert delivery.endpoint.last_delivered_at is not None


def test_what_was_altered_is_old_or_is_signed_by_another_does_not_verify(
    receiver: Receiver, acme: Tenant, federation: Federation
) -> None:
    secret = webhook(acme, receiver.url).text
    happens(federation)
    announce_all()
    [request] = receiver.received
    verified(request, secret)
    old = {**request.headers, "webhook-timestamp": str(int(request.headers["webhook-timestamp"]) - 301)}
    renamed = {**request.headers, "webhook-id": "whd_other"}
    with pytest.raises(WebhookVerificationError):
        verified(request, secret, body=request.body.replace(b"round", b"rouna"))
    with pytest.raises(WebhookVerificationError, match="too old"):
        Webhook(secret).verify(request.body, old)
    with pytest.raises(WebhookVerificationError):
        Webhook(secret).verify(request.body, renamed)
    with pytest.raises(WebhookVerificationError):
        verified(request, "whsec_" + "c2VjcmV0" * 4)


def test_a_receiver_that_is_down_gets_it_later_under_the_same_id(
    acme: Tenant, federation: Federation
) -> None:
    with receiving() as first:
        url = first.url
        secret = webhook(acme, url).text
        first.status = 503
        happens(federation)
        announce_all()
    let_pass(PAUSES[0])
    announce_all()  # nobody listens there any more
    let_pass(PAUSES[1])
    with receiving(port=int(url.split(":")[2].split("/")[0])) as second:
        announce_all()
    ids = {request.headers["webhook-id"] for request in [*first.received, *second.received]}
    assert ids == {the_delivery().public_id}
    verified(second.received[0], secret)
    assert [attempt.status_code for attempt in attempts()] == [503, None, 204]
    assert "ConnectError" in attempts()[1].error
    assert the_delivery().state == DeliveryState.DELIVERED


def test_it_is_not_sent_before_its_time(receiver: Receiver, acme: Tenant, federation: Federation) -> None:
    receiver.status = 500
    webhook(acme, receiver.url)
    happens(federation)
    announce_all()
    announce_all()
    assert len(receiver.received) == 1


def test_pauses_grow_and_end_within_72_hours() -> None:
    assert list(PAUSES) == sorted(PAUSES)
    assert timedelta(hours=70) < sum(PAUSES, timedelta()) <= timedelta(hours=72)


def test_a_secret_that_was_rotated_signs_for_another_day(
    receiver: Receiver, acme: Tenant, federation: Federation
) -> None:
    made = webhook(acme, receiver.url)
    with scoping.platform():
        new = webhooks.rotate_secret(endpoint=made.endpoint).text
    happens(federation)
    announce_all()
    for secret in (made.text, new):
        verified(receiver.received[0], secret)
    with scoping.platform():
        WebhookSecret.objects.exclude(expires_at=None).update(expires_at=Now())
    happens(federation)
    announce_all()
    verified(receiver.received[1], new)
    with pytest.raises(WebhookVerificationError):
        verified(receiver.received[1], made.text)


def test_no_secret_stands_in_the_database_in_the_clear(receiver: Receiver, acme: Tenant) -> None:
    secret = webhook(acme, receiver.url).text
    with scoping.platform():
        assert secret.removeprefix("whsec_").encode() not in bytes(WebhookSecret.objects.get().sealed)
        entries = json.dumps(list(AuditEntry.objects.values_list("before", "after")))
    assert secret.removeprefix("whsec_") not in entries


def test_who_is_told_of_what(
    receiver: Receiver, acme: Tenant, globex: Tenant, federation: Federation
) -> None:
    """A tenant is told of its own and its federations' events, operators of all, of the kinds that they want."""
    places = {
        "acme": (acme, ()),
        "globex": (globex, ()),
        "operators": (None, ()),
        "some": (acme, ("round.failed",)),
    }
    for name, (tenant, kinds) in places.items():
        webhook(tenant, f"{receiver.url}/{name}", *kinds)
    happens(federation)
    happens(federation, "local_run.accepted", tenant=acme)
    happens(federation, "local_run.rejected", tenant=globex)  # it has left since
    happens(ready_federation(), "round.failed")
    announce_all()
    told = sorted(
        (request.path.rsplit("/", 1)[1], json.loads(request.body)["type"]) for request in receiver.received
    )
    every = ["local_run.accepted", "local_run.rejected", "round.failed", "round.published"]
    assert [kind for name, kind in told if name == "operators"] == every
    assert [kind for name, kind in told if name == "acme"] == ["local_run.accepted", "round.published"]
    assert [kind for name, kind in told if name == "globex"] == ["local_run.rejected"]
    assert [kind for name, kind in told if name == "some"] == []


def test_a_webhook_may_want_only_what_is_told_of_no_state(
    receiver: Receiver, acme: Tenant, federation: Federation
) -> None:
    webhook(acme, receiver.url, "local_run.left_out", "local_run.stopped")
    for kind in ("local_run.left_out", "local_run.accepted", "local_run.stopped"):
        happens(federation, kind, tenant=acme)
    announce_all()
    told = sorted(json.loads(request.body)["type"] for request in receiver.received)
    assert told == ["local_run.left_out", "local_run.stopped"]


def test_a_suspended_tenant_is_told_of_nothing(
    receiver: Receiver, acme: Tenant, federation: Federation
) -> None:
    webhook(acme, receiver.url)
    with scoping.platform():
        Tenant.objects.filter(pk=acme.pk).update(state=TenantState.SUSPENDED)
    happens(federation)
    announce_all()
    assert receiver.received == []


def test_what_happened_before_a_webhook_was_made_is_not_told(
    receiver: Receiver, acme: Tenant, federation: Federation
) -> None:
    happens(federation)
    webhook(acme, receiver.url)
    announce_all()
    assert receiver.received == []


def test_announcers_at_once_send_each_message_once(
    receiver: Receiver, acme: Tenant, federation: Federation
) -> None:
    webhook(acme, receiver.url)
    for _ in range(20):
        happens(federation)
    at_once(4, announce_all)
    announce_all()
    ids = [request.headers["webhook-id"] for request in receiver.received]
    assert (len(ids), len(set(ids))) == (20, 20)


def test_who_answers_goes_on_while_a_slow_one_is_waited_for(
    receiver: Receiver, acme: Tenant, globex: Tenant, federation: Federation
) -> None:
    may_answer = threading.Event()
    with receiving(before_answer=lambda: may_answer.wait(30)) as slow:
        EnrolmentFactory.create(federation=federation, tenant=globex)
        webhook(acme, slow.url)
        webhook(globex, receiver.url)
        for _ in range(10):
            happens(federation)
        on_their_way: announcing.OnTheirWay = {}
        until = time.monotonic() + 10
        while len(receiver.received) < 10 and time.monotonic() < until:
            announce(on_their_way)
        assert (len(receiver.received), len(slow.received)) == (10, announcing.LETTERS_AT_ONCE_PER_WEBHOOK)
        happens(federation)
        while len(receiver.received) < 11 and time.monotonic() < until:
            announce(on_their_way)
        assert len(receiver.received) == 11, "what happens meanwhile is told, too"
        announce_all()
        assert len(slow.received) == announcing.LETTERS_AT_ONCE_PER_WEBHOOK, "of all announcers together"
        may_answer.set()
        while announce(on_their_way):
            pass
        assert len(slow.received) == 11
    with scoping.platform():
        assert set(WebhookDelivery.objects.values_list("state", flat=True)) == {DeliveryState.DELIVERED}


def test_a_look_at_what_is_due_reads_no_backlog(acme: Tenant) -> None:
    endpoint = WebhookEndpointFactory.create(tenant=acme)
    with scoping.platform():
        rows = (WebhookDelivery(tenant=acme, endpoint=endpoint, kind="x", body="{}") for _ in range(3_000))
        WebhookDelivery.objects.bulk_create(rows)
        with connection.cursor() as cursor:
            cursor.execute(f"EXPLAIN (ANALYZE, FORMAT JSON) {announcing._NEXT}", [4, 128])
            [[plan]] = cursor.fetchall()
    assert most_read(plan[0]["Plan"]) <= 4


def test_what_was_sent_and_not_recorded_is_sent_again_under_the_same_id(
    receiver: Receiver, acme: Tenant, federation: Federation, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At least once: the announcer dies between the sending and the record."""
    webhook(acme, receiver.url)
    happens(federation)

    class Killed(BaseException):
        pass

    def die(*_: object) -> None:
        raise Killed

    with monkeypatch.context() as dying:
        dying.setattr(announcing, "record", die)
        with pytest.raises(Killed):
            announce_all()
    announce_all()
    assert len(receiver.received) == 1, "its lease holds"
    let_pass(announcing.LEASE)
    announce_all()
    first, second = receiver.received
    assert first.headers["webhook-id"] == second.headers["webhook-id"]
    assert first.body == second.body
    assert the_delivery().state == DeliveryState.DELIVERED


def test_an_outcome_that_comes_late_is_logged_and_changes_nothing(
    receiver: Receiver, acme: Tenant, federation: Federation
) -> None:
    webhook(acme, receiver.url)
    happens(federation)
    with stale_claim() as (claimed, answer):
        announce_all()
        assert the_delivery().state == DeliveryState.DELIVERED
    with scoping.platform():
        announcing.record(claimed, answer)
    delivery = the_delivery()
    assert (delivery.state, delivery.n_failures) == (DeliveryState.DELIVERED, 0)
    assert [attempt.status_code for attempt in attempts()] == [500, 204]


@contextmanager
def stale_claim() -> Iterator[tuple[announcing.Claimed, Answer]]:
    """A claim whose lease has run out."""
    with scoping.platform():
        number_new_events()
        announcing.write_messages()
    with scoping.platform():
        [claimed] = announcing.claim_due(2)
    let_pass(announcing.LEASE)
    with scoping.platform():
        started_at = WebhookDelivery.objects.get().created_at
    yield claimed, Answer(started_at=started_at, latency_seconds=0.1, status_code=500)


def test_events_that_concern_nobody_are_no_reason_to_look_again_at_once(
    federation: Federation, monkeypatch: pytest.MonkeyPatch
) -> None:
    happens(federation)
    assert not announce({})
    monkeypatch.setattr(announcing, "EVENTS_AT_ONCE", 1)
    happens(federation)
    assert announce({})


def test_gone_disables_at_once_with_an_entry_and_a_reason(
    receiver: Receiver, acme: Tenant, federation: Federation
) -> None:
    webhook(acme, receiver.url)
    receiver.status = 410
    for _ in range(6):
        happens(federation)
    announce_all()
    assert len(receiver.received) == announcing.LETTERS_AT_ONCE_PER_WEBHOOK
    with scoping.platform():
        endpoint = WebhookEndpoint.objects.get()
        assert (endpoint.state, endpoint.state_reason) == (
            WebhookState.DISABLED,
            "The receiver answered 410 Gone.",
        )
        assert set(WebhookDelivery.objects.values_list("state", flat=True)) == {DeliveryState.FAILED}
        entry = AuditEntry.objects.filter(action="webhook.disabled").first()
    assert entry is not None
    assert (entry.tenant_id, entry.actor_kind) == (acme.pk, "platform")
    happens(federation)
    announce_all()
    assert len(receiver.received) == announcing.LETTERS_AT_ONCE_PER_WEBHOOK


def fail_to_the_end(receiver: Receiver) -> None:
    receiver.status = 500
    announce_all()
    for pause in PAUSES:
        let_pass(pause)
        announce_all()


def test_an_endpoint_that_takes_nothing_for_days_is_switched_off(
    receiver: Receiver, acme: Tenant, federation: Federation
) -> None:
    webhook(acme, receiver.url)
    happens(federation)
    fail_to_the_end(receiver)
    assert len(receiver.received) == len(PAUSES) + 1 == 10
    assert {request.headers["webhook-id"] for request in receiver.received} == {the_delivery().public_id}
    delivery = the_delivery()
    assert (delivery.state, delivery.endpoint.state) == (DeliveryState.FAILED, WebhookState.DISABLED)
    assert "10 attempts" in delivery.endpoint.state_reason
    with scoping.platform():
        assert AuditEntry.objects.filter(action="webhook.disabled").count() == 1


def test_an_endpoint_that_takes_other_messages_stays(
    receiver: Receiver, acme: Tenant, federation: Federation
) -> None:
    webhook(acme, receiver.url)
    happens(federation)
    with scoping.platform():
        WebhookEndpoint.objects.update(last_delivered_at=Now() + timedelta(hours=1))
    fail_to_the_end(receiver)
    delivery = the_delivery()
    assert (delivery.state, delivery.endpoint.state) == (DeliveryState.FAILED, WebhookState.ACTIVE)


def test_a_message_is_sent_again_by_hand_under_its_id(
    receiver: Receiver, acme: Tenant, federation: Federation
) -> None:
    webhook(acme, receiver.url)
    happens(federation)
    announce_all()
    with scoping.platform():
        webhooks.resend(delivery=the_delivery())
    announce_all()
    first, second = receiver.received
    assert (first.headers["webhook-id"], first.body) == (second.headers["webhook-id"], second.body)
    assert [attempt.number for attempt in attempts()] == [1, 2]


def test_nothing_is_sent_by_hand_to_a_disabled_webhook(acme: Tenant) -> None:
    endpoint = WebhookEndpointFactory.create(tenant=acme, state=WebhookState.DISABLED)
    with scoping.platform(), pytest.raises(WebhookDisabled):
        webhooks.send_test(endpoint=endpoint)


def test_a_redirect_into_the_network_counts_as_a_failure(
    receiver: Receiver, acme: Tenant, federation: Federation
) -> None:
    with receiving() as inside:
        receiver.status, receiver.headers = 302, {"Location": inside.url}
        webhook(acme, receiver.url)
        happens(federation)
        announce_all()
        assert inside.received == []
    [attempt] = attempts()
    assert attempt.status_code == 302
    assert the_delivery().state == DeliveryState.WAITING


def test_an_address_that_became_private_is_not_reached(
    receiver: Receiver, acme: Tenant, federation: Federation, settings: Settings
) -> None:
    webhook(acme, receiver.url.replace("127.0.0.1", "localhost"))
    happens(federation)
    settings.WEBHOOK_PRIVATE_NETWORKS = ()
    announce_all()
    assert receiver.received == []
    assert "not public" in attempts()[0].error


def test_a_webhook_whose_secrets_cannot_be_read_holds_up_no_other(
    receiver: Receiver, acme: Tenant, federation: Federation
) -> None:
    broken = webhook(acme, f"{receiver.url}/broken")
    webhook(acme, f"{receiver.url}/sound")
    with scoping.platform():
        WebhookSecret.objects.filter(endpoint=broken.endpoint).update(sealed=b"\x00" * 40)
    happens(federation)
    announce_all()
    assert [request.path for request in receiver.received] == ["/hook/sound"]


def test_a_webhook_that_is_deleted_while_a_message_is_on_its_way(
    receiver: Receiver, acme: Tenant, federation: Federation
) -> None:
    made = webhook(acme, receiver.url)
    happens(federation)
    with stale_claim() as (claimed, answer), scoping.platform():
        webhooks.delete_webhook(endpoint=made.endpoint)
        announcing.record(claimed, answer)
    assert attempts() == []


def test_old_messages_are_forgotten(receiver: Receiver, acme: Tenant, federation: Federation) -> None:
    webhook(acme, receiver.url)
    for _ in range(2):
        happens(federation)
    announce_all()
    with scoping.platform():
        first = WebhookDelivery.objects.order_by("id")[:1]
        WebhookDelivery.objects.filter(pk__in=first).update(finished_at=Now() - timedelta(days=31))
        webhooks.purge_old_deliveries()
        assert (WebhookDelivery.objects.count(), WebhookAttempt.objects.count()) == (1, 1)
