"""Until when a worker may be busy with a dataset that was called off."""

from typing import ClassVar

from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies: ClassVar = [("tenants", "0010_concurrent_runs_and_weight")]
    operations: ClassVar = [
        migrations.AddField(
            model_name="dataset",
            name="stopping_until",
            field=models.DateTimeField(
                blank=True,
                editable=False,
                help_text="Called off while a worker held it, which may be busy with it so long; none: it has stopped.",
                null=True,
            ),
        )
    ]
