"""How many attempts at a tenant's work may run at once, and its weight among the tenants of a federation."""

from typing import ClassVar

from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies: ClassVar = [("tenants", "0009_shared_cache")]
    operations: ClassVar = [
        migrations.AddField(
            model_name="tenantlimits",
            name="concurrent_runs",
            field=models.PositiveIntegerField(
                help_text="Attempts at validating, training and evaluating that run at once.", null=True
            ),
        ),
        migrations.AddField(
            model_name="tenantlimits",
            name="weight",
            field=models.PositiveSmallIntegerField(
                default=1, help_text="Of its work among the tenants' of a federation."
            ),
        ),
        migrations.AddConstraint(
            model_name="tenantlimits",
            constraint=models.CheckConstraint(
                condition=models.Q(("weight__gte", 1), ("weight__lte", 100)),
                name="tenant_limits_weight_in_range",
            ),
        ),
    ]
