"""Where tenants stand against their limits."""

from collections.abc import Collection
from dataclasses import dataclass
from uuid import UUID

from django.db.models import Count

from federation.models import Evaluation, LocalRun, PersonalPrefix
from federation.states import ROUND_LIVE
from tenants import selectors
from tenants.models import Dataset, Tenant, TenantLimits
from tenants.services import request_rate

_WORK = (LocalRun, Evaluation, PersonalPrefix, Dataset)


@dataclass(frozen=True)
class Standing:
    """One limit (None: there is none) and what is used of it now (None: it cannot be told)."""

    limit: int | None
    used: float | None


def rounds_in_flight(*, tenant_ids: Collection[UUID]) -> dict[UUID, int]:
    """Live rounds that have a local run of the tenant, by tenant; tenants without any are missing."""
    live = LocalRun.objects.filter(tenant__in=tenant_ids, federated_round__state__in=ROUND_LIVE)
    return dict(live.values_list("tenant").annotate(n=Count("federated_round")))


def _n_held(tenant: Tenant) -> int:
    """Attempts at the tenant's work that are under way."""
    held = (model.objects.filter(tenant=tenant, lease_expires_at__isnull=False) for model in _WORK)
    return sum(rows.count() for rows in held)


def standing(*, limits: TenantLimits) -> dict[str, Standing]:
    """Every limit of a tenant beside what is used, by the limit's name."""
    tenant = limits.tenant
    spent = selectors.device_seconds_this_month(tenant_ids=[tenant.pk]).get(tenant.pk, 0)
    used: dict[str, float | None] = {
        "requests_per_minute": request_rate.n_used(tenant),
        "rounds_in_flight": rounds_in_flight(tenant_ids=[tenant.pk]).get(tenant.pk, 0),
        "dataset_rows": selectors.dataset_rows(tenant=tenant),
        "stored_bytes": selectors.stored_bytes(tenant=tenant),
        "device_seconds_per_month": round(float(spent), 3),
        "concurrent_runs": _n_held(tenant),
    }
    return {name: Standing(limit=getattr(limits, name), used=amount) for name, amount in used.items()}
