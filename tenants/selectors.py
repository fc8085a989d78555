"""Reads of the tenants' side, each within the scope in force: a tenant meets its own rows, an operator all."""

from django.db.models import QuerySet

from tenants.models import ApiKey, AuditEntry, Dataset, Membership, Tenant

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
