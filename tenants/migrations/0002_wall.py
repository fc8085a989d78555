"""The tenant wall: row-level security on every table that holds a tenant's rows."""

from typing import ClassVar

from django.db import migrations

from tenants.wall import tenant_wall


class Migration(migrations.Migration):
    dependencies: ClassVar = [("tenants", "0001_initial")]
    operations: ClassVar = [
        tenant_wall("tenants_tenant", column="id"),
        tenant_wall("tenants_membership"),
        tenant_wall("tenants_apikey"),
        tenant_wall("tenants_dataset"),
    ]
