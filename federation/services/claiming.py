"""Who works on what: a training worker takes the next piece of work in the fair order."""

import json
from collections.abc import Mapping
from datetime import timedelta
from typing import Any, Final

from django.conf import settings
from django.db import models

from federation.models import BaseModel, Evaluation, Federation, LocalRun, PersonalPrefix
from tenants import dispatch, scoping
from tenants.leases import Leased
from tenants.models import Dataset

KINDS: Final[Mapping[str, type[Leased]]] = {
    "base_model": BaseModel,
    "dataset": Dataset,
    "evaluation": Evaluation,
    "federation": Federation,
    "local_run": LocalRun,
    "personal_prefix": PersonalPrefix,
}
"""Work of the training side, as the fair order names it."""
_NO_ROWS: Final = {"kind", "row", "parent_score", "waits_more"}


def claim_next(*, owner: str, wakes_next: bool = False) -> Leased | None:
    """Take the work that is next in the fair order (`federation.fair_order`); nothing when none waits.

    That is one message to the database, in the platform's scope whichever is in force, and a transaction of its own
    where none is open. The row comes with the related rows that a worker reads while no scope is in force; its tenant
    is charged for the version that the attempt fetches. With `wakes_next` another worker is waked where there is work
    for it: rows that came at once sent one message.
    """
    lease = timedelta(seconds=settings.LEASE_SECONDS)
    # Where the connection is lost with the answer, what was claimed is found when its lease has run out.
    [(found,)] = scoping.ask_platform("SELECT federation_claim_next(%s, %s)", [owner, lease])
    if found is None:
        return None
    claimed = json.loads(found)
    if claimed["waits_more"] and wakes_next:
        dispatch.wake_any()
    return read_claimed(claimed)


def read_claimed(claimed: Mapping[str, Any]) -> Leased:
    """The row that the database claimed, with those that came with it, each under the path that leads to it."""
    row: Leased = _read(KINDS[claimed["kind"]], claimed["row"])
    for path in sorted(claimed.keys() - _NO_ROWS):  # whatever leads to a row comes before it
        *way, name = path.split("__")
        holder: models.Model = row
        for step in way:
            holder = getattr(holder, step)
        related: Any = holder._meta.get_field(name).related_model
        setattr(holder, name, claimed[path] and _read(related, claimed[path]))
    if isinstance(row, LocalRun):
        row.parent_score = claimed["parent_score"]
    return row


def _read(model: type[Any], columns: Mapping[str, Any]) -> Any:
    fields = model._meta.concrete_fields
    return model.from_db(
        "default",
        [field.attname for field in fields],
        [_value(field, columns[field.column]) for field in fields],
    )


def _value(field: "models.Field[Any, Any]", value: Any) -> Any:
    """What PostgreSQL wrote as JSON, as the field holds it."""
    if isinstance(field, models.BinaryField):
        return bytes.fromhex(value.removeprefix("\\x"))
    return field.to_python(value)
