"""Tells webhooks of events: writes a message for each webhook that an event concerns, and delivers what is due.

Webhooks follow the stream of events as any other reader does: the messages of a batch of events and the place that was
reached commit together, so that each event is written once for each webhook, and none is left out whatever is killed.
Delivery is at least once: what was sent and not recorded is sent again, under the same id, when its lease has expired.
"""

import random
from collections.abc import Iterable
from concurrent.futures import FIRST_COMPLETED, Future, wait
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final
from uuid import UUID

import structlog
from django.db import connection, transaction
from django.db.models import F, Q, QuerySet
from django.db.models.functions import Now
from django.utils import timezone

from federation.models import (
    Enrolment,
    RoundEvent,
    WebhookAttempt,
    WebhookDelivery,
    WebhookEndpoint,
    WebhookPlace,
)
from federation.outbound.sending import Answer, Letter, send
from federation.services import webhooks
from federation.services.events import number_new_events
from federation.states import DeliveryState, EnrolmentState, WebhookState
from tenants import scoping
from tenants.encryption import DecryptionFailed
from tenants.states import TenantState

log = structlog.get_logger(__name__)

EVENTS_AT_ONCE: Final = 500
LETTERS_AT_ONCE: Final = 128  # of a process; three times what slow receivers of one owner can hold
LETTERS_AT_ONCE_PER_WEBHOOK: Final = 4  # of all processes
ANSWERS_AWAITED_SECONDS: Final = 1.0  # then events that came meanwhile are looked for
LEASE: Final = timedelta(seconds=60)  # longer than a letter may take
HTTP_GONE: Final = 410

# After each failure the next pause, shortened by up to a tenth at random: ten attempts within 72 hours.
PAUSES: Final = tuple(
    timedelta(seconds=seconds) for seconds in (5, 300, 1_800, 7_200, 18_000, 36_000, 50_400, 72_000, 72_000)
)


@dataclass(frozen=True)
class Claimed:
    """A message that this process sends, and which attempt at it this is."""

    delivery_id: UUID
    attempt: int
    letter: Letter


OnTheirWay = dict["Future[Answer]", Claimed]
"""Letters of this process whose answers have not been recorded."""

# Of each webhook the first few that are due: those on their way hold its places, and their owner's turns. What waits
# behind them is not read, so that a look takes as long whatever the backlogs.
_NEXT: Final = """
SELECT id FROM (
    SELECT next.*, row_number() OVER (
        PARTITION BY endpoint.tenant_id ORDER BY next.is_on_its_way DESC, next.place, next.due_at, next.id
    ) AS turn
    FROM federation_webhookendpoint AS endpoint CROSS JOIN LATERAL (
        SELECT id, due_at, row_number() OVER (ORDER BY due_at, id) AS place,
            coalesce(lease_expires_at >= statement_timestamp(), false) AS is_on_its_way
        FROM federation_webhookdelivery
        WHERE endpoint_id = endpoint.id AND state = 'waiting' AND due_at <= statement_timestamp()
        ORDER BY due_at, id LIMIT %s
    ) AS next
    WHERE endpoint.state = 'active'
) AS first
WHERE NOT is_on_its_way ORDER BY turn, due_at, id LIMIT %s
"""


def announce(on_their_way: OnTheirWay) -> bool:
    """Write the messages of new events, begin to send what is due, and record the answers that have come.

    Whoever answers at once is sent more while slow ones are waited for. Returns whether to look again at once. A few
    events are no reason for it: a round in progress would be followed event by event.
    """
    with scoping.platform():
        number_new_events()
    with scoping.platform():
        n_events = write_messages()
    with scoping.platform():
        claimed = claim_due(LETTERS_AT_ONCE - len(on_their_way))
    on_their_way |= {send(one.letter, webhooks.reach()): one for one in claimed}
    is_any = bool(on_their_way)
    # No transaction is open meanwhile.
    answered, _ = wait(on_their_way, ANSWERS_AWAITED_SECONDS, return_when=FIRST_COMPLETED)
    for one in answered:
        claim = on_their_way.pop(one)  # first: what cannot be recorded is sent again, and holds up no other
        with scoping.platform():
            record(claim, one.result())
    return n_events == EVENTS_AT_ONCE or is_any


def write_messages() -> int:
    """For the next events of the stream, in one transaction with the place that was reached. Returns how many events.

    Another process that is at it is not waited for.
    """
    WebhookPlace.objects.get_or_create(pk=1, defaults={"number": 0})
    place = WebhookPlace.objects.select_for_update(skip_locked=True).filter(pk=1).first()
    if place is None:
        return 0
    following = RoundEvent.objects.filter(number__gt=place.number).order_by("number")
    events = list(following.select_related("federated_round__federation", "tenant")[:EVENTS_AT_ONCE])
    if not events:
        return 0
    # Under their locks: who disables or deletes one either ends these messages, or has ended before they are written.
    endpoints = list(_active_endpoints().select_for_update(of=("self",), no_key=True).order_by("pk"))
    joined = _joined_by(endpoints)
    WebhookDelivery.objects.bulk_create(
        webhooks.message(endpoint, event.kind, event.happened_at, event.content())
        for event in events
        for endpoint in endpoints
        if _concerns(event, endpoint, joined)
    )
    assert events[-1].number is not None  # only numbered ones are read
    place.number = events[-1].number
    place.save(update_fields=["number"])
    return len(events)


def claim_due(n_most: int) -> list[Claimed]:
    """Take messages whose time has come, for as long as a lease lasts; in one transaction, before they are sent.

    Owners take turns: the first message of each goes before the second one of any, and what is on its way counts.
    """
    with connection.cursor() as cursor:
        cursor.execute(_NEXT, [LETTERS_AT_ONCE_PER_WEBHOOK, n_most])
        chosen = [key for (key,) in cursor]
    rows = list(_due().filter(pk__in=chosen).select_for_update(of=("self",), skip_locked=True))
    WebhookDelivery.objects.filter(pk__in=[row.pk for row in rows]).update(
        attempt=F("attempt") + 1, lease_expires_at=Now() + LEASE
    )
    owners = WebhookEndpoint.objects.select_related("tenant").in_bulk([row.endpoint_id for row in rows])
    return [claimed for row in rows if (claimed := _claimed(row, owners[row.endpoint_id])) is not None]


def record(claimed: Claimed, answer: Answer) -> None:
    """Log the attempt, and let the message end or wait for its next one, unless another attempt has it by now."""
    with transaction.atomic():
        owners = WebhookEndpoint.objects.select_for_update(of=("self",), no_key=True)
        endpoint = owners.filter(deliveries=claimed.delivery_id).first()
        if endpoint is None:
            return  # it was deleted meanwhile
        delivery = WebhookDelivery.objects.select_for_update().get(pk=claimed.delivery_id)
        WebhookAttempt.objects.create(
            tenant_id=delivery.tenant_id,
            delivery=delivery,
            number=claimed.attempt,
            started_at=answer.started_at,
            latency_seconds=answer.latency_seconds,
            status_code=answer.status_code,
            error=answer.error,
            response_excerpt=answer.excerpt,
        )
        if delivery.attempt == claimed.attempt and delivery.state == DeliveryState.WAITING:
            _conclude(delivery, endpoint, answer)


def _conclude(delivery: WebhookDelivery, endpoint: WebhookEndpoint, answer: Answer) -> None:
    delivery.lease_expires_at = None
    if answer.is_success:
        delivery.state, delivery.finished_at = DeliveryState.DELIVERED, Now()
        WebhookEndpoint.objects.filter(pk=endpoint.pk).update(last_delivered_at=Now())
    elif delivery.n_failures < len(PAUSES):
        delivery.due_at = timezone.now() + PAUSES[delivery.n_failures] * random.uniform(0.9, 1.0)  # noqa: S311
        delivery.n_failures += 1
    else:
        delivery.state, delivery.finished_at = DeliveryState.FAILED, Now()
        delivery.n_failures += 1
    delivery.save(update_fields=["state", "finished_at", "due_at", "n_failures", "lease_expires_at"])
    if answer.status_code == HTTP_GONE:
        webhooks.switch_off(endpoint=endpoint, reason="The receiver answered 410 Gone.")
    elif delivery.state == DeliveryState.FAILED and _took_nothing_since(endpoint, delivery.waiting_since):
        reason = f"A message was not taken in {delivery.n_failures} attempts over days, and no other one was."
        webhooks.switch_off(endpoint=endpoint, reason=reason)


def _took_nothing_since(endpoint: WebhookEndpoint, moment: datetime) -> bool:
    return endpoint.last_delivered_at is None or endpoint.last_delivered_at < moment


def _due() -> QuerySet[WebhookDelivery]:
    free = Q(lease_expires_at=None) | Q(lease_expires_at__lt=Now())
    waiting = WebhookDelivery.objects.filter(free, state=DeliveryState.WAITING, due_at__lte=Now())
    return waiting.filter(endpoint__state=WebhookState.ACTIVE)


def _claimed(row: WebhookDelivery, endpoint: WebhookEndpoint) -> Claimed | None:
    """None, for as long as the lease lasts, where its secrets cannot be read: it holds up no other."""
    try:
        signing = webhooks.live_secrets(endpoint=endpoint)
    except DecryptionFailed:
        log.exception("webhook_not_signed", webhook=endpoint.public_id)
        return None
    letter = Letter(id=row.public_id, url=endpoint.url, body=row.body, secrets=signing)
    return Claimed(delivery_id=row.pk, attempt=row.attempt + 1, letter=letter)


def _active_endpoints() -> QuerySet[WebhookEndpoint]:
    of_active_owner = Q(tenant=None) | Q(tenant__state=TenantState.ACTIVE)
    return WebhookEndpoint.objects.filter(of_active_owner, state=WebhookState.ACTIVE)


def _joined_by(endpoints: Iterable[WebhookEndpoint]) -> set[tuple[UUID, UUID]]:
    """Pairs of tenant and federation."""
    places = Enrolment.objects.filter(
        tenant__in={endpoint.tenant_id for endpoint in endpoints if endpoint.tenant_id},
        state__in=[EnrolmentState.INVITED, EnrolmentState.ACTIVE],
    )
    return set(places.values_list("tenant_id", "federation_id"))


def _concerns(event: RoundEvent, endpoint: WebhookEndpoint, joined: set[tuple[UUID, UUID]]) -> bool:
    """Whether the webhook's owner may see the event, wants its kind, and had the webhook when it happened."""
    if event.happened_at < endpoint.created_at or (endpoint.kinds and event.kind not in endpoint.kinds):
        return False
    if endpoint.tenant_id is None or event.tenant_id is not None:
        return endpoint.tenant_id in (None, event.tenant_id)
    return (endpoint.tenant_id, event.federated_round.federation_id) in joined
