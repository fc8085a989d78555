"""Reads of the tenants' side, each within the scope in force: a tenant meets its own rows, an operator all."""

from django.db.models import QuerySet

from tenants.models import ApiKey, AuditEntry, Dataset, Membership, Tenant
from tenants.states import TenantState

AUDIT_BATCH = 500


def tenants() -> QuerySet[Tenant]:
    """All tenants that the scope may see."""
    return Tenant.objects.all()


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


def datasets() -> QuerySet[Dataset]:
    """All datasets that the scope may see."""
    return Dataset.objects.all()


def audit_entries() -> QuerySet[AuditEntry]:
    """All entries of the audit record that the scope may see."""
    return AuditEntry.objects.all()


def audit_entries_after(entries: QuerySet[AuditEntry], *, number: int) -> QuerySet[AuditEntry]:
    """The next of `entries` by their place in the chain: a batch, so that nobody holds the whole record.

    Numbers are given at the commit, so that no entry turns up behind one that was read already.
    """
    return entries.filter(number__gt=number).order_by("number")[:AUDIT_BATCH]
