"""Indexes to find the work of a tenant that is held, and the pace at which work begins."""

from typing import ClassVar

from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies: ClassVar = [("federation", "0011_trainer_log_tail")]
    operations: ClassVar = [
        migrations.AddIndex(
            model_name="localrun",
            index=models.Index(
                fields=["tenant"], condition=models.Q(("state", "running")), name="local_run_held"
            ),
        ),
        migrations.AddIndex(
            model_name="evaluation",
            index=models.Index(
                fields=["tenant"], condition=models.Q(("state", "running")), name="evaluation_held"
            ),
        ),
        migrations.AddField(
            model_name="claimclock", name="last_start_at", field=models.DateTimeField(null=True)
        ),
        migrations.AddField(
            model_name="claimclock",
            name="seconds_per_start",
            field=models.FloatField(help_text="A running mean, while work begins.", null=True),
        ),
    ]
