"""Reads of the tenants' side, each within the scope in force: a tenant meets its own rows, an operator all."""

from collections.abc import Collection, Mapping
from decimal import Decimal
from typing import Any
from uuid import UUID

from django.contrib.auth.models import User
from django.db.models import BigIntegerField, Max, QuerySet, Sum
from django.db.models.fields.json import KT
from django.db.models.functions import Cast, Now, TruncDate, TruncMonth

from tenants import scoping
from tenants.models import ApiKey, AuditEntry, Dataset, Membership, Tenant, TenantLimits, UsageDay
from tenants.states import DatasetState, TenantState

AUDIT_BATCH = 500


def tenants() -> QuerySet[Tenant]:
    """All tenants that the scope may see."""
    return Tenant.objects.all()


def tenant_in_force() -> Tenant | None:
    """The tenant whose scope this is; None in the platform's."""
    return None if scoping.is_platform() else Tenant.objects.get()


def api_keys(*, tenant: Tenant) -> QuerySet[ApiKey]:
    """A tenant's keys, revoked ones too."""
    return ApiKey.objects.filter(tenant=tenant)


def members(*, tenant: Tenant) -> QuerySet[Membership]:
    """A tenant's people."""
    return Membership.objects.filter(tenant=tenant).select_related("user")


def memberships_in_force(*, user_id: int | None) -> QuerySet[Membership]:
    """What opens the console to a person: places in active tenants, the oldest first; for the platform's scope.

    The platform's own people enter as what they are. A superuser passes every check of Django's, so that it is one.
    """
    people = Membership.objects.filter(user__is_active=True, user__is_staff=False, user__is_superuser=False)
    in_force = people.filter(user=user_id, tenant__state=TenantState.ACTIVE)
    return in_force.select_related("tenant", "user").order_by("id")


def accounts_with(address: str) -> list[User]:
    """The console's accounts that have this e-mail address, whatever they are called."""
    # PostgreSQL holds more letters to be alike than a mail server does.
    near = User.objects.filter(email__iexact=address)
    return [person for person in near if person.email.lower() == address.lower()]


def datasets() -> QuerySet[Dataset]:
    """All datasets that the scope may see."""
    return Dataset.objects.all()


def shown_facts(facts: Mapping[str, Any]) -> dict[str, Any]:
    """A dataset's facts for the scope in force: which labels it has, and how often, is for its tenant alone."""
    is_platform = scoping.is_platform()
    return {name: value for name, value in facts.items() if name != "labels" or not is_platform}


def limits(*, tenant: Tenant) -> TenantLimits:
    """A tenant's limits; every tenant has them."""
    return TenantLimits.objects.select_related("tenant").get(tenant=tenant)


def stored_bytes(*, tenant: Tenant) -> int:
    """Bytes of the tenant's datasets, whatever was found in them."""
    total = Dataset.objects.filter(tenant=tenant).aggregate(total=Sum("size_bytes"))["total"]
    return int(total or 0)


def dataset_rows(*, tenant: Tenant) -> int:
    """Rows of the tenant's datasets that were found sound."""
    sound = Dataset.objects.filter(tenant=tenant, state=DatasetState.READY)
    n_rows = Cast(KT("facts__n_rows"), BigIntegerField())
    return int(sound.aggregate(total=Sum(n_rows))["total"] or 0)


def usage_days(*, tenant: Tenant) -> QuerySet[UsageDay]:
    """A tenant's usage by day; days without any are missing."""
    return UsageDay.objects.filter(tenant=tenant)


def device_seconds_this_month(*, tenant_ids: Collection[UUID]) -> dict[UUID, Decimal]:
    """Device seconds since the month began (UTC), by tenant; tenants without any are missing."""
    spent = UsageDay.objects.filter(tenant__in=tenant_ids, day__gte=TruncDate(TruncMonth(Now())))
    return dict(spent.values_list("tenant").annotate(total=Sum("device_seconds")))


def audit_entries() -> QuerySet[AuditEntry]:
    """All entries of the audit record that the scope may see."""
    return AuditEntry.objects.all()


def last_audit_number() -> int:
    """The place in the chain of the newest entry that the scope may see; 0 without any."""
    return audit_entries().aggregate(last=Max("number"))["last"] or 0


def audit_entries_after(entries: QuerySet[AuditEntry], *, number: int) -> QuerySet[AuditEntry]:
    """The next of `entries` by their place in the chain: a batch, so that nobody holds the whole record.

    Numbers are given at the commit, so that no entry turns up behind one that was read already.
    """
    return entries.filter(number__gt=number).order_by("number")[:AUDIT_BATCH]
