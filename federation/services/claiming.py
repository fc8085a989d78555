"""Who works on what: a training worker takes the next piece of work in the fair order."""

from collections.abc import Mapping
from typing import Any, Final

from django.db import connection, transaction

from federation import fair_order
from federation.models import BaseModel, Evaluation, Federation, LocalRun
from tenants.leases import Leased
from tenants.models import Dataset
from tenants.services import attempts

KINDS: Final[Mapping[str, type[Leased]]] = {
    "base_model": BaseModel,
    "dataset": Dataset,
    "evaluation": Evaluation,
    "federation": Federation,
    "local_run": LocalRun,
}
"""Work of the training side, as the fair order names it."""


def claim_next(*, owner: str) -> Leased | None:
    """Take the work that is next in the fair order (`federation.fair_order`); nothing when none waits.

    Claims happen one at a time, so that two workers never take the same place in the order.
    """
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute(fair_order.LOCK)
        cursor.execute(fair_order.NEXT)
        found = cursor.fetchone()
        if found is None:
            return None
        names: list[Any] = [column.name for column in cursor.description]
        place = dict(zip(names, found, strict=True))
        claimed = attempts.begin(KINDS[place["kind"]], place["id"], owner=owner)
        cursor.execute(fair_order.ADVANCE, place)
        return claimed
