"""A tenant's limits: set by operators, and asked before something more is taken in."""

from dataclasses import dataclass

from django.db import transaction

from tenants import dispatch, selectors
from tenants.errors import QuotaDatasetRows, QuotaExceeded, QuotaStoredBytes
from tenants.models import Tenant, TenantLimits
from tenants.services import audit

FIELDS = (
    "requests_per_minute",
    "rounds_in_flight",
    "dataset_rows",
    "stored_bytes",
    "device_seconds_per_month",
    "concurrent_runs",
    "weight",
)
_N_WOKEN = 16


@dataclass(frozen=True, kw_only=True)
class Quota:
    """One limit (None: there is none), how much of it is used, and the refusal of more."""

    tenant_id: str
    limit: int | None
    used: int
    refusal: type[QuotaExceeded]

    def check(self, more: int) -> None:
        """Raises the refusal when `more` does not fit."""
        if self.limit is not None and self.used + more > self.limit:
            raise self.refusal(tenant_id=self.tenant_id, limit=self.limit, used=self.used)


@dataclass(frozen=True)
class DatasetQuotas:
    """What bounds a tenant's datasets."""

    stored_bytes: Quota
    rows: Quota


def set_limits(
    *,
    limits: TenantLimits,
    requests_per_minute: int | None,
    rounds_in_flight: int | None,
    dataset_rows: int | None,
    stored_bytes: int | None,
    device_seconds_per_month: int | None,
    concurrent_runs: int | None,
    weight: int,
) -> TenantLimits:
    """Replace a tenant's limits. What is beyond a lower limit already stays; only more of it is refused."""
    with transaction.atomic():
        limits.refresh_from_db(from_queryset=TenantLimits.objects.select_for_update())
        before = audit.fields(limits, *FIELDS)
        limits.requests_per_minute = requests_per_minute
        limits.rounds_in_flight = rounds_in_flight
        limits.dataset_rows = dataset_rows
        limits.stored_bytes = stored_bytes
        limits.device_seconds_per_month = device_seconds_per_month
        limits.concurrent_runs = concurrent_runs
        limits.weight = weight
        limits.save(update_fields=FIELDS)
        audit.record(action="limits.set", subject=limits, before=before, after=audit.fields(limits, *FIELDS))
        # What a limit held back may begin now: a piece of work for each message, the reconciler repeats the others'.
        for _ in range(_N_WOKEN):
            dispatch.wake_any()
    return limits


def dataset_quotas(*, tenant: Tenant, is_held: bool = False) -> DatasetQuotas:
    """The quotas as they stand. Held, nobody else's dataset can come in between until the transaction ends."""
    rows = TenantLimits.objects.select_for_update() if is_held else TenantLimits.objects.all()
    limits = rows.get(tenant=tenant)
    return DatasetQuotas(
        stored_bytes=Quota(
            tenant_id=tenant.public_id,
            limit=limits.stored_bytes,
            used=selectors.stored_bytes(tenant=tenant),
            refusal=QuotaStoredBytes,
        ),
        rows=Quota(
            tenant_id=tenant.public_id,
            limit=limits.dataset_rows,
            used=selectors.dataset_rows(tenant=tenant),
            refusal=QuotaDatasetRows,
        ),
    )
