"""Usage: amounts that are added to a tenant's day, each in the transaction of what it tells of."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any
from uuid import UUID

from django.db import connection


@dataclass(frozen=True, kw_only=True)
class Amount:
    """What is added to a day."""

    n_requests: int = 0
    device_time: timedelta = timedelta()
    received_bytes: int = 0
    sent_bytes: int = 0


# In the order in which they are given.
_ADD = """
SELECT tenants_charge(tenant_id, n_requests, device_time, received, sent)
FROM unnest(%s::uuid[], %s::bigint[], %s::interval[], %s::bigint[], %s::bigint[])
    AS added (tenant_id, n_requests, device_time, received, sent)
"""
# For an attempt, in the statement that ends it and knows how long it lasted.
ADD_ATTEMPT = "SELECT tenants_charge(%s, 0, lasted, %s, 0)"


def add(amounts: Mapping[UUID, Amount]) -> None:
    """Add to today's rows, by tenant, in one statement.

    The rows stay locked until the transaction ends. One that adds to several tenants does so once, and here they are
    taken in order: so transactions wait for one another, and never in a circle.
    """
    added = [(tenant_id, amount) for tenant_id, amount in sorted(amounts.items()) if amount != Amount()]
    if not added:
        return
    with connection.cursor() as cursor:
        columns: list[list[Any]] = [
            [tenant_id for tenant_id, _ in added],
            [amount.n_requests for _, amount in added],
            [amount.device_time for _, amount in added],
            [amount.received_bytes for _, amount in added],
            [amount.sent_bytes for _, amount in added],
        ]
        cursor.execute(_ADD, columns)
