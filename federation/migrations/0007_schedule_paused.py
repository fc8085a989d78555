"""Schedules can be paused."""

from typing import ClassVar

from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies: ClassVar = [("federation", "0006_evaluations_anew")]
    operations: ClassVar = [
        migrations.AddField(
            model_name="schedule", name="is_paused", field=models.BooleanField(default=False)
        ),
    ]
