"""What every row of a tenant has in common."""

from django.db import models

from tenants.ids import Identified
from tenants.scoping import ScopedManager


class TenantOwned(Identified):
    """A row of one tenant. Its table has a forced row-level policy (`tenants.wall`), its manager fails closed."""

    tenant = models.ForeignKey("tenants.Tenant", on_delete=models.PROTECT, related_name="%(class)ss")

    objects = ScopedManager["TenantOwned"]()

    class Meta:
        abstract = True
