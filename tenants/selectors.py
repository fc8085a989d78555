"""Reads of the tenants' side, each within the scope in force: a tenant meets its own rows, an operator all."""

from django.db.models import QuerySet

from tenants.models import ApiKey, Dataset, Membership, Tenant


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
