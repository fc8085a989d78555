"""Claims of a row that a test names; workers take what is next in the fair order."""

import json
from datetime import timedelta
from typing import Any, TypeVar, cast
from uuid import UUID

from django.conf import settings
from django.db import connection

from federation.services.claiming import KINDS, read_claimed
from tenants.errors import LeaseLost
from tenants.leases import Leased

Row = TypeVar("Row", bound=Leased)


def claim(model: type[Row], pk: UUID, *, owner: str) -> Row:
    """The row as a worker has it that claims it in the scope in force. Raises LeaseLost."""
    kind = next(kind for kind, known in KINDS.items() if known is model)
    lease: Any = timedelta(seconds=settings.LEASE_SECONDS)  # the stubs know no intervals
    with connection.cursor() as cursor:
        cursor.execute("SELECT federation_claim(%s, %s, %s, %s)", [kind, pk, owner, lease])
        [(found,)] = cursor.fetchall()
    if found is None:
        raise LeaseLost(public_id=model(pk=pk).public_id, attempt=0)
    return cast(Row, read_claimed(json.loads(found)))
