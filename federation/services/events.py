"""The stream of events: each gets its place after its commit, so that whoever follows the stream misses none.

An id is drawn when the row is written: of two transactions the one that commits last may hold the lower id, and a
reader that went on after the higher one would never see it. So events are committed without a number, and whoever
reads the stream first numbers those that it finds, under one lock. What has a number is committed, all lower numbers
are committed before it, and what commits later gets a higher one. Writers pay nothing for it, wait for nobody, and a
transaction that stays open holds nobody's events back.
"""

from typing import Final

from django.db import connection
from django.db.models import Max

from federation.models import RoundEvent
from tenants import scoping

_LOCK: Final = "SELECT pg_advisory_xact_lock(hashtext('federation_event_numbers'))"
_NUMBER: Final = """
UPDATE federation_roundevent AS event SET number = place.number
FROM (
    SELECT id, nextval('federation_event_numbers') AS number
    FROM (SELECT id FROM federation_roundevent WHERE number IS NULL ORDER BY id) AS unplaced
) AS place
WHERE event.id = place.id
"""


def number_new_events() -> None:
    """Give every event that is committed by now its place. The lock is held until the transaction in force ends."""
    with scoping.platform():
        if not RoundEvent.objects.filter(number=None).exists():
            return
        with connection.cursor() as cursor:
            cursor.execute(_LOCK)
            cursor.execute(
                _NUMBER
            )  # a statement of its own: it sees what was committed while the lock was waited for


def number_up_to_now() -> int:
    """The same. Returns the last place of all, whoever may see that event: what is committed by now has none after it.

    Who goes on from there reads nothing of others' events twice.
    """
    with scoping.platform():
        number_new_events()
        return RoundEvent.objects.aggregate(last=Max("number"))["last"] or 0
