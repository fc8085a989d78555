"""Webhooks: endpoints and their secrets, for their owner: the tenant in force, or the operators.

An endpoint's lock comes before those of its messages, everywhere.
"""

import base64
import json
import secrets
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final, TypedDict

from django.conf import settings
from django.db import connection, transaction
from django.db.models import Q, QuerySet
from django.db.models.functions import Now
from django.utils import timezone

from federation.errors import WebhookDisabled, WebhookKindUnknown, WebhookLimitReached
from federation.models import WebhookDelivery, WebhookEndpoint, WebhookSecret
from federation.outbound.addresses import Reach, target_of
from federation.states import EVENT_KINDS, DeliveryState, WebhookState
from tenants import encryption
from tenants.models import Tenant
from tenants.services import audit
from tenants.services.keys import master_key
from tenants.services.tenants import data_key

MAX_WEBHOOKS: Final = 10
SECRET_BYTES: Final = 32
OVERLAP: Final = timedelta(hours=24)
KEPT_FOR: Final = timedelta(days=30)
PURGED_AT_ONCE: Final = 5_000
TEST_KIND: Final = "webhook.test"
_SCHEME: Final = "whsec_"
_LOCK: Final = 0x50524C02  # of ours alone among advisory locks, beside the owner
_AUDITED: Final = ("url", "kinds", "description", "state", "state_reason")


class WebhookFields(TypedDict):
    """What an owner decides."""

    url: str
    kinds: list[str]
    description: str


@dataclass(frozen=True)
class NewSecret:
    """A secret at the only moment at which its text is told."""

    endpoint: WebhookEndpoint
    text: str


def reach() -> Reach:
    """What this installation's webhooks may reach."""
    return Reach(networks=settings.WEBHOOK_PRIVATE_NETWORKS, allows_http=settings.WEBHOOK_ALLOW_HTTP)


def create_webhook(*, tenant: Tenant | None, fields: WebhookFields) -> NewSecret:
    """An active endpoint and its first secret. Raises WebhookUrlInvalid, WebhookKindUnknown, WebhookLimitReached."""
    _check(fields)
    with transaction.atomic():
        _one_at_a_time(tenant)
        if WebhookEndpoint.objects.filter(tenant=tenant).count() >= MAX_WEBHOOKS:
            raise WebhookLimitReached(limit=MAX_WEBHOOKS)
        endpoint = WebhookEndpoint.objects.create(tenant=tenant, **fields)
        text = _add_secret(endpoint)
        audit.record(
            action="webhook.created", subject=endpoint, after=audit.fields(endpoint, "tenant", *_AUDITED)
        )
    return NewSecret(endpoint=endpoint, text=text)


def change_webhook(*, endpoint: WebhookEndpoint, fields: WebhookFields, state: WebhookState) -> None:
    """Put an owner's decisions in force; disabling ends what waits. Raises WebhookUrlInvalid, WebhookKindUnknown."""
    _check(fields)
    with transaction.atomic():
        endpoint.lock()
        before = audit.fields(endpoint, *_AUDITED)
        for name, value in fields.items():
            setattr(endpoint, name, value)
        endpoint.state, endpoint.state_reason = state, ""
        endpoint.save(update_fields=[*fields, "state", "state_reason"])
        if state == WebhookState.DISABLED:
            _end_waiting(endpoint)
        audit.record(
            action="webhook.changed",
            subject=endpoint,
            before=before,
            after=audit.fields(endpoint, *_AUDITED),
        )


def switch_off(*, endpoint: WebhookEndpoint, reason: str) -> None:
    """Disable a locked endpoint for what became of its messages; its owner reads the reason with it."""
    before = audit.fields(endpoint, "state", "state_reason")
    endpoint.state, endpoint.state_reason = WebhookState.DISABLED, reason
    endpoint.save(update_fields=["state", "state_reason"])
    _end_waiting(endpoint)
    after = audit.fields(endpoint, "state", "state_reason")
    audit.record(action="webhook.disabled", subject=endpoint, before=before, after=after)


def delete_webhook(*, endpoint: WebhookEndpoint) -> None:
    """Remove the endpoint with its secrets, its messages and their log."""
    with transaction.atomic():
        endpoint.lock()
        audit.record(
            action="webhook.deleted", subject=endpoint, before=audit.fields(endpoint, "tenant", *_AUDITED)
        )
        endpoint.delete()


def rotate_secret(*, endpoint: WebhookEndpoint) -> NewSecret:
    """A further secret. The ones before it go on signing for a day, in which receivers change over."""
    with transaction.atomic():
        endpoint.lock()
        _live_secrets(endpoint).filter(expires_at=None).update(expires_at=Now() + OVERLAP)
        text = _add_secret(endpoint)
        after = {"n_valid": _live_secrets(endpoint).count()}
        audit.record(action="webhook.secret_rotated", subject=endpoint, after=after)
    return NewSecret(endpoint=endpoint, text=text)


def live_secrets(*, endpoint: WebhookEndpoint) -> tuple[str, ...]:
    """The texts of those that sign now, the newest first."""
    key = _sealing_key(endpoint)
    return tuple(
        encryption.unseal(key, bytes(row.sealed), context=row.public_id).decode()
        for row in _live_secrets(endpoint).order_by("-created_at", "-id")
    )


def resend(*, delivery: WebhookDelivery) -> None:
    """Let a message wait again from now, under its id, with a new row of attempts. Raises WebhookDisabled."""
    with transaction.atomic():
        endpoint = delivery.endpoint
        endpoint.lock()
        check_active(endpoint)
        delivery.refresh_from_db()
        before = audit.fields(delivery, "state", "n_failures")
        delivery.state, delivery.n_failures, delivery.finished_at = DeliveryState.WAITING, 0, None
        delivery.waiting_since = delivery.due_at = Now()
        delivery.save(update_fields=["state", "n_failures", "finished_at", "waiting_since", "due_at"])
        after = {"state": delivery.state, "n_failures": 0, "webhook": endpoint.public_id}
        audit.record(action="webhook_delivery.resent", subject=delivery, before=before, after=after)


def send_test(*, endpoint: WebhookEndpoint) -> WebhookDelivery:
    """A message that tells of nothing but itself. Raises WebhookDisabled."""
    with transaction.atomic():
        endpoint.lock()
        check_active(endpoint)
        delivery = message(endpoint, TEST_KIND, timezone.now(), {"webhook": endpoint.public_id})
        delivery.save(force_insert=True)
        audit.record(action="webhook.tested", subject=endpoint, after={"delivery": delivery.public_id})
    return delivery


def message(endpoint: WebhookEndpoint, kind: str, at: datetime, data: dict[str, object]) -> WebhookDelivery:
    """A message for the endpoint, as Standard Webhooks has it; to be saved."""
    body = {"type": kind, "timestamp": at.astimezone(UTC).isoformat(), "data": data}
    text = json.dumps(body, ensure_ascii=False, separators=(",", ":"))
    return WebhookDelivery(tenant_id=endpoint.tenant_id, endpoint=endpoint, kind=kind, body=text)


def purge_old_deliveries() -> int:
    """Forget messages that ended long ago, with their attempts, a bounded number; for the platform's scope."""
    old = WebhookDelivery.objects.filter(finished_at__lt=Now() - KEPT_FOR).order_by("finished_at")
    n_purged, _ = WebhookDelivery.objects.filter(pk__in=old.values("pk")[:PURGED_AT_ONCE]).delete()
    return n_purged


def check_active(endpoint: WebhookEndpoint) -> None:
    """Raises WebhookDisabled."""
    if endpoint.state != WebhookState.ACTIVE:
        raise WebhookDisabled(webhook_id=endpoint.public_id)


def _one_at_a_time(owner: Tenant | None) -> None:
    """Wait until no other transaction makes a webhook of this owner: two must not both take the last place."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT pg_advisory_xact_lock(%s, hashtext(%s))", [_LOCK, owner.public_id if owner else ""]
        )


def _check(fields: WebhookFields) -> None:
    target_of(fields["url"], reach())
    for kind in fields["kinds"]:
        if kind not in EVENT_KINDS:
            raise WebhookKindUnknown(field="kinds", kind=kind)


def _end_waiting(endpoint: WebhookEndpoint) -> None:
    waiting = WebhookDelivery.objects.filter(endpoint=endpoint, state=DeliveryState.WAITING)
    waiting.update(state=DeliveryState.FAILED, finished_at=Now(), lease_expires_at=None)


def _add_secret(endpoint: WebhookEndpoint) -> str:
    text = _SCHEME + base64.b64encode(secrets.token_bytes(SECRET_BYTES)).decode()
    row = WebhookSecret(tenant_id=endpoint.tenant_id, endpoint=endpoint)
    row.sealed = encryption.seal(_sealing_key(endpoint), text.encode(), context=row.public_id)
    row.save(force_insert=True)
    return text


def _live_secrets(endpoint: WebhookEndpoint) -> QuerySet[WebhookSecret]:
    alive = Q(expires_at=None) | Q(expires_at__gt=Now())
    return WebhookSecret.objects.filter(alive, endpoint=endpoint)


def _sealing_key(endpoint: WebhookEndpoint) -> bytes:
    """Of the tenant's own data key, so that it is lost with it; the operators' of the master key."""
    key = data_key(endpoint.tenant) if endpoint.tenant is not None else master_key()
    return encryption.derive(key, "webhook secrets v1")
