"""A tenant's limits and its usage by day, walled; and when an attempt at a dataset's validation began."""

from decimal import Decimal
from typing import ClassVar

import django.db.models.deletion
from django.db import migrations, models

import tenants.ids
from tenants.wall import tenant_wall

# The wall binds the owner too, who would meet no tenant: it is opened for as long as this transaction holds the table.
_LIMITS_FOR_THOSE_THERE_ARE = """
ALTER TABLE tenants_tenant NO FORCE ROW LEVEL SECURITY;
INSERT INTO tenants_tenantlimits (
    id, tenant_id, requests_per_minute, rounds_in_flight, dataset_rows, stored_bytes, device_seconds_per_month
)
SELECT gen_random_uuid(), id, 1200, 20, 10000000, 50000000000, 1000000 FROM tenants_tenant;
ALTER TABLE tenants_tenant FORCE ROW LEVEL SECURITY;
"""


class Migration(migrations.Migration):
    dependencies: ClassVar = [("tenants", "0007_api_key_rights")]
    operations: ClassVar = [
        migrations.AddField(
            model_name="dataset",
            name="claimed_at",
            field=models.DateTimeField(
                blank=True, help_text="When the attempt that holds it began.", null=True
            ),
        ),
        migrations.CreateModel(
            name="TenantLimits",
            fields=[
                (
                    "id",
                    models.UUIDField(
                        default=tenants.ids.uuid7, editable=False, primary_key=True, serialize=False
                    ),
                ),
                ("requests_per_minute", models.PositiveIntegerField(default=1_200, null=True)),
                ("rounds_in_flight", models.PositiveIntegerField(default=20, null=True)),
                ("dataset_rows", models.PositiveBigIntegerField(default=10_000_000, null=True)),
                ("stored_bytes", models.PositiveBigIntegerField(default=50 * 10**9, null=True)),
                ("device_seconds_per_month", models.PositiveBigIntegerField(default=1_000_000, null=True)),
                (
                    "tenant",
                    models.OneToOneField(
                        on_delete=django.db.models.deletion.PROTECT,
                        related_name="limits",
                        to="tenants.tenant",
                    ),
                ),
            ],
            options={"verbose_name": "tenant limits", "verbose_name_plural": "tenant limits"},
        ),
        migrations.CreateModel(
            name="UsageDay",
            fields=[
                (
                    "id",
                    models.UUIDField(
                        default=tenants.ids.uuid7, editable=False, primary_key=True, serialize=False
                    ),
                ),
                ("day", models.DateField()),
                ("n_requests", models.PositiveBigIntegerField(default=0)),
                (
                    "device_seconds",
                    models.DecimalField(decimal_places=6, default=Decimal("0"), max_digits=18),
                ),
                (
                    "received_bytes",
                    models.PositiveBigIntegerField(
                        default=0, help_text="Datasets that were uploaded, and updates that were submitted."
                    ),
                ),
                (
                    "sent_bytes",
                    models.PositiveBigIntegerField(
                        default=0,
                        help_text="Archives that were downloaded, and versions that attempts fetched.",
                    ),
                ),
                (
                    "tenant",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.PROTECT,
                        related_name="%(class)ss",
                        to="tenants.tenant",
                    ),
                ),
            ],
            options={
                "verbose_name": "usage of a day",
                "verbose_name_plural": "usage by day",
                "constraints": [models.UniqueConstraint(fields=["tenant", "day"], name="usage_day_unique")],
            },
        ),
        migrations.RunSQL(sql=_LIMITS_FOR_THOSE_THERE_ARE, reverse_sql=migrations.RunSQL.noop),
        tenant_wall("tenants_tenantlimits"),
        tenant_wall("tenants_usageday"),
    ]
