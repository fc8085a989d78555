"""Attempts at the training side's work, ended; what they took is charged to the tenant that they were for."""

from collections.abc import Iterable
from datetime import timedelta
from uuid import UUID

from django.db import transaction

from tenants import dispatch
from tenants.leases import NOTHING, Leased
from tenants.models import TenantLimits, TenantOwned
from tenants.services import usage
from tenants.services.usage import Amount


def end(row: Leased, target: str, *, reason: str = "", received_bytes: int = 0, **changes: object) -> None:
    """End the attempt as the worker that holds it: move the row, charge the time and what came. Raises LeaseLost.

    Whoever ends an attempt looks for other work next: a place that this one held under a limit needs no message.
    """
    charge = NOTHING  # for the platform's own work
    if isinstance(row, TenantOwned):
        charge = (usage.ADD_ATTEMPT, [row.tenant_id, received_bytes])
    row.end_held(target, reason=reason, charge=charge, **changes)


def hand_back(row: Leased, *, reason: str) -> None:
    """Let the work wait again after an attempt that came to nothing, whose time is charged. Raises LeaseLost."""
    with transaction.atomic():
        row.lock_held()
        if row.waiting_state == row.running_state:
            lasted = row.free_lease()
        else:
            lasted = row.end_attempt(row.waiting_state, reason=reason)
        _charge([(row, lasted)])


def interrupt(rows: Iterable[tuple[Leased, str]], *, reason: str) -> None:
    """Move rows to their targets, whoever holds them, and charge the time until now; no worker can end them any more.

    A row that its worker was quicker to end stays as it ended. Rows come in the order of their keys, in which they are
    locked wherever several are.

    A worker that holds one learns it with its next beat, and acknowledges it; until then, but no longer than its lease
    would have lasted, it is known to be busy.

    All that a transaction interrupts goes into one call: see `usage.add`.
    """
    with transaction.atomic():
        called_off = ((row, row.call_off(target, reason=reason)) for row, target in rows)
        ended = [(row, lasted) for row, lasted in called_off if lasted is not None]
        _charge(ended)
        _give_places_on([row for row, lasted in ended if lasted])


def _give_places_on(rows: Iterable[Leased]) -> None:
    """Wake a worker for each attempt of a tenant whose attempts are limited: other work may have waited for that."""
    tenant_ids = [row.tenant_id for row in rows if isinstance(row, TenantOwned)]
    limited = TenantLimits.objects.filter(tenant__in=set(tenant_ids), concurrent_runs__isnull=False)
    known = set(limited.values_list("tenant_id", flat=True)) if tenant_ids else set()
    for tenant_id in tenant_ids:
        if tenant_id in known:
            dispatch.wake_any()


def _charge(ended: Iterable[tuple[Leased, timedelta]]) -> None:
    """The platform's own work (base models, start prefixes) is charged to nobody."""
    spent: dict[UUID, timedelta] = {}
    for row, lasted in ended:
        if isinstance(row, TenantOwned):
            spent[row.tenant_id] = spent.get(row.tenant_id, timedelta()) + lasted
    usage.add({tenant_id: Amount(device_time=lasted) for tenant_id, lasted in spent.items()})
