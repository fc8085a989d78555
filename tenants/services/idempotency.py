"""Idempotency keys: a request that is sent again is answered again, not carried out again."""

import hashlib
import hmac
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Final

from django.db import OperationalError, connection, transaction
from django.db.models import QuerySet
from django.db.models.functions import Now
from psycopg.errors import LockNotAvailable

from tenants import encryption
from tenants.errors import IdempotencyInProgress, IdempotencyKeyReused
from tenants.ids import uuid7
from tenants.models import ApiKey, IdempotencyRecord
from tenants.services.keys import master_key

KEPT_FOR: Final = timedelta(hours=24)
PURGED_AT_ONCE: Final = 5_000
# How long a request waits for another with its key; requests take milliseconds, since no upload is received in one.
PATIENCE_SECONDS = 10


def claim(*, api_key: ApiKey, idempotency_key: str, request: bytes) -> IdempotencyRecord:
    """The caller's record for the key: a new one to be answered by `keep_answer`, or the answered one of before.

    `request` tells one request from another. A transaction that has claimed the key and not ended yet is waited for:
    by its commit the record is answered, by its roll-back the key is free.

    Raises IdempotencyKeyReused for another request, IdempotencyInProgress when the wait was in vain.
    """
    named = {
        "tenant": api_key.tenant,
        "caller": api_key.tenant_id or api_key.pk,
        "key": idempotency_key,
    }
    _expired().filter(**named).delete()
    own = IdempotencyRecord(**named, id=uuid7(), request_digest=_digest(request))
    with _bounded_wait(idempotency_key):
        IdempotencyRecord.objects.bulk_create([own], ignore_conflicts=True)
    record = IdempotencyRecord.objects.get(**named)
    if not hmac.compare_digest(bytes(record.request_digest), _digest(request)):
        raise IdempotencyKeyReused(idempotency_key=idempotency_key)
    return record


@contextmanager
def _bounded_wait(idempotency_key: str) -> Iterator[None]:
    try:
        with transaction.atomic(), connection.cursor() as cursor:
            cursor.execute("SELECT set_config('lock_timeout', %s, true)", [f"{PATIENCE_SECONDS}s"])
            yield
            cursor.execute("SET LOCAL lock_timeout TO DEFAULT")
    except OperationalError as error:
        if isinstance(error.__cause__, LockNotAvailable):
            raise IdempotencyInProgress(idempotency_key=idempotency_key) from None
        raise


def keep_answer(*, record: IdempotencyRecord, status: int, body: bytes) -> None:
    """Keep the answer, encrypted: there may be a key's text in it. It commits with what the request has made."""
    record.status, record.sealed_body = (
        status,
        encryption.seal(_answer_key(record), body, context=_context(record)),
    )
    record.save(update_fields=["status", "sealed_body"])


def kept_body(record: IdempotencyRecord) -> bytes:
    """The body that `keep_answer` was given. Raises DecryptionFailed."""
    return encryption.unseal(_answer_key(record), bytes(record.sealed_body), context=_context(record))


def purge_expired() -> int:
    """Forget answers older than `KEPT_FOR`, a bounded number of them; for the platform's scope. Returns how many."""
    batch = _expired().order_by("created_at").select_for_update(skip_locked=True)[:PURGED_AT_ONCE]
    # Found first: within the deletion a plan may look anew for each row, and skip what it has locked itself.
    found = list(batch.values_list("pk", flat=True))
    n_purged, _ = IdempotencyRecord.objects.filter(pk__in=found).delete()
    return n_purged


def _expired() -> "QuerySet[IdempotencyRecord]":
    return IdempotencyRecord.objects.filter(created_at__lt=Now() - KEPT_FOR)


def _digest(request: bytes) -> bytes:
    """Keyed: whoever reads the table cannot check a guess at what was uploaded."""
    key = encryption.derive(master_key(), "idempotent requests v1")
    return hmac.new(key, request, hashlib.sha256).digest()


def _answer_key(record: IdempotencyRecord) -> bytes:
    return encryption.derive(master_key(), f"idempotent answer v1|{record.pk}")


def _context(record: IdempotencyRecord) -> str:
    return f"{record.caller}|{record.key}"
