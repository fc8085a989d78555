"""One coordinator at a time aggregates a round."""

from typing import ClassVar

from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies: ClassVar = [("federation", "0018_personal_prefixes")]
    operations: ClassVar = [
        migrations.AddField(
            model_name="federatedround", name="attempt", field=models.PositiveIntegerField(default=0)
        ),
        migrations.AddField(
            model_name="federatedround",
            name="lease_owner",
            field=models.CharField(blank=True, default="", max_length=200),
        ),
        migrations.AddField(
            model_name="federatedround",
            name="lease_expires_at",
            field=models.DateTimeField(blank=True, null=True),
        ),
    ]
