"""No row may name another tenant's row, nor tell by a refused duplicate that there is one."""

from typing import ClassVar

from django.db import migrations, models

from tenants.wall import key_within_tenant, same_tenant


class Migration(migrations.Migration):
    dependencies: ClassVar = [("federation", "0002_wall"), ("tenants", "0003_keys_within_tenant")]
    operations: ClassVar = [
        key_within_tenant("federation_enrolment"),
        same_tenant("federation_enrolment", "dataset_id", target="tenants_dataset"),
        same_tenant("federation_localrun", "dataset_id", target="tenants_dataset"),
        same_tenant("federation_localrun", "enrolment_id", target="federation_enrolment"),
        same_tenant("federation_evaluation", "dataset_id", target="tenants_dataset"),
        migrations.RemoveConstraint(model_name="evaluation", name="evaluation_unique"),
        migrations.AddConstraint(
            model_name="evaluation",
            constraint=models.UniqueConstraint(
                fields=("tenant", "federation", "version", "dataset"),
                name="evaluation_unique",
                nulls_distinct=False,
            ),
        ),
    ]
