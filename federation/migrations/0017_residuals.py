"""What error feedback keeps of a tenant's uploads: rows behind the wall, bytes under the tenant's key."""

from typing import ClassVar

import django.db.models.deletion
from django.db import migrations, models

import tenants.ids
from tenants.wall import key_within_tenant, same_tenant, tenant_wall


class Migration(migrations.Migration):
    dependencies: ClassVar = [("federation", "0016_server_state"), ("tenants", "0012_open_api_key")]
    operations: ClassVar = [
        migrations.CreateModel(
            name="Residual",
            fields=[
                (
                    "id",
                    models.UUIDField(
                        default=tenants.ids.uuid7, editable=False, primary_key=True, serialize=False
                    ),
                ),
                ("blob_name", models.CharField(editable=False, max_length=200)),
                (
                    "local_run",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.PROTECT,
                        related_name="residuals",
                        to="federation.localrun",
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
                "verbose_name": "residual",
                "constraints": [
                    models.UniqueConstraint(fields=("tenant", "local_run"), name="residual_unique")
                ],
            },
        ),
        key_within_tenant("federation_localrun"),
        same_tenant("federation_residual", "local_run_id", target="federation_localrun"),
        tenant_wall("federation_residual"),
    ]
