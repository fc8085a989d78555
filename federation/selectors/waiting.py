"""What waits for a training worker, how much of it goes first, and how long that may take."""

from dataclasses import dataclass

from django.db import connection

from federation import fair_order
from federation.models import LocalRun


@dataclass(frozen=True)
class Forecast:
    """When waiting work begins, as things stand; later work may go first."""

    place: int | None  # from 1; None where it does not wait, or a limit of its tenant holds it back
    seconds: float | None  # None where nothing has begun lately that would tell


def forecast(local_run: LocalRun) -> Forecast:
    """A local run's place in the order in which work begins, and the time until then at the pace of the last starts.

    For the platform's scope: the order is over all tenants, and it tells nothing of them but their number.
    """
    with connection.cursor() as cursor:
        cursor.execute(fair_order.PLACE, [local_run.pk])
        place = cursor.fetchone()
        cursor.execute(fair_order.SECONDS_PER_START)
        pace = cursor.fetchone()
    if place is None:
        return Forecast(place=None, seconds=None)
    seconds = None if pace is None or pace[0] is None else round(place[0] * pace[0], 1)
    return Forecast(place=int(place[0]), seconds=seconds)
