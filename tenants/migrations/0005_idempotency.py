"""Idempotency records, behind the tenant wall from their first day."""

from typing import ClassVar

import django.db.models.deletion
import django.db.models.functions.datetime
from django.db import migrations, models

import tenants.ids
from tenants.wall import tenant_wall


class Migration(migrations.Migration):
    dependencies: ClassVar = [("tenants", "0004_final_states")]
    operations: ClassVar = [
        migrations.CreateModel(
            name="IdempotencyRecord",
            fields=[
                (
                    "id",
                    models.UUIDField(
                        default=tenants.ids.uuid7, editable=False, primary_key=True, serialize=False
                    ),
                ),
                ("caller", models.UUIDField()),
                ("key", models.CharField(max_length=255)),
                ("request_digest", models.BinaryField(max_length=32)),
                ("status", models.PositiveSmallIntegerField(null=True)),
                ("sealed_body", models.BinaryField(default=b"")),
                (
                    "created_at",
                    models.DateTimeField(db_default=django.db.models.functions.datetime.Now(), db_index=True),
                ),
                (
                    "tenant",
                    models.ForeignKey(
                        null=True,
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="idempotency_records",
                        to="tenants.tenant",
                    ),
                ),
            ],
            options={
                "verbose_name": "idempotency record",
                "constraints": [
                    models.UniqueConstraint(
                        fields=["tenant", "caller", "key"],
                        nulls_distinct=False,
                        name="idempotency_record_unique",
                    ),
                ],
            },
        ),
        tenant_wall("tenants_idempotencyrecord"),
    ]
