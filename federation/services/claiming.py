"""Who works on what: a training worker takes the next piece of work in the fair order."""

from collections.abc import Mapping
from typing import Any, Final

from django.db import connection

from federation import fair_order
from federation.models import BaseModel, Evaluation, Federation, LocalRun, PersonalPrefix
from tenants import dispatch
from tenants.leases import Leased
from tenants.models import Dataset
from tenants.services import attempts

KINDS: Final[Mapping[str, type[Leased]]] = {
    "base_model": BaseModel,
    "dataset": Dataset,
    "evaluation": Evaluation,
    "federation": Federation,
    "local_run": LocalRun,
    "personal_prefix": PersonalPrefix,
}
"""Work of the training side, as the fair order names it."""


def claim_next(*, owner: str, wakes_next: bool = False) -> Leased | None:
    """Take the work that is next in the fair order (`federation.fair_order`); nothing when none waits.

    Claims happen one at a time, so that two workers never take the same place in the order. With `wakes_next` another
    worker is waked where there is work for it: rows that came at once sent one message.
    """
    with connection.cursor() as cursor:
        cursor.execute(f"{fair_order.LOCK}; {fair_order.NEXT}")
        cursor.nextset()
        names: list[Any] = [column.name for column in cursor.description]
        found = [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]
        if not found:
            return None
        place, *others = found
        claimed = attempts.begin(KINDS[place["kind"]], place["id"], owner=owner)
        cursor.execute(fair_order.ADVANCE, place)
    if others and wakes_next:
        dispatch.wake_any()
    return claimed
