"""What waits for a training worker, and how much of it goes first."""

from django.db import connection

from federation import fair_order
from federation.models import LocalRun


def place_of(local_run: LocalRun) -> int | None:
    """Its place in the order in which work begins, from 1, if it waits: as things stand, later work may go first.

    For the platform's scope: the order is over all tenants, and the place tells nothing of them but their number.
    """
    with connection.cursor() as cursor:
        cursor.execute(fair_order.PLACE, [local_run.pk])
        found = cursor.fetchone()
    return None if found is None else int(found[0])
