"""The tenant wall: row-level security on every table that holds a tenant's rows, and keys that stay within a tenant."""

from typing import ClassVar

from django.db import migrations

from tenants.wall import append_only, key_within_tenant, same_tenant, tenant_wall


class Migration(migrations.Migration):
    dependencies: ClassVar = [("tenants", "0001_initial")]
    operations: ClassVar = [
        tenant_wall("tenants_tenant", column="id"),
        tenant_wall("tenants_membership"),
        tenant_wall("tenants_apikey"),
        tenant_wall("tenants_dataset"),
        tenant_wall("tenants_idempotencyrecord"),
        tenant_wall("tenants_tenantlimits"),
        tenant_wall("tenants_usageday"),
        tenant_wall("tenants_auditentry", owner_rows=True),
        append_only("tenants_auditentry"),
        key_within_tenant("tenants_dataset"),
        key_within_tenant("tenants_membership"),
        same_tenant("tenants_apikey", "membership_id", target="tenants_membership"),
    ]
