"""Usage: amounts that are added to a tenant's day, each in the transaction of what it tells of."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any
from uuid import UUID

from django.db import connection

from tenants.ids import uuid7


@dataclass(frozen=True, kw_only=True)
class Amount:
    """What is added to a day."""

    n_requests: int = 0
    device_time: timedelta = timedelta()
    received_bytes: int = 0
    sent_bytes: int = 0


_ADD = """
INSERT INTO tenants_usageday AS known
    (id, tenant_id, day, n_requests, device_seconds, received_bytes, sent_bytes)
VALUES (%s, %s, (now() AT TIME ZONE 'UTC')::date, %s, extract(epoch FROM %s::interval), %s, %s)
ON CONFLICT (tenant_id, day) DO UPDATE SET
    n_requests = known.n_requests + excluded.n_requests,
    device_seconds = known.device_seconds + excluded.device_seconds,
    received_bytes = known.received_bytes + excluded.received_bytes,
    sent_bytes = known.sent_bytes + excluded.sent_bytes
"""


def add(amounts: Mapping[UUID, Amount]) -> None:
    """Add to today's rows, by tenant.

    The rows stay locked until the transaction ends. One that adds to several tenants does so once, and here they are
    taken in order: so transactions wait for one another, and never in a circle.
    """
    with connection.cursor() as cursor:
        for tenant_id, amount in sorted(amounts.items()):
            if amount != Amount():
                told: list[Any] = [
                    amount.n_requests,
                    amount.device_time,
                    amount.received_bytes,
                    amount.sent_bytes,
                ]
                cursor.execute(_ADD, [uuid7(), tenant_id, *told])
