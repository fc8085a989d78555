"""What trainers wrote last before an attempt lost them: the platform's to read, and no tenant's."""

from typing import ClassVar

import django.db.models.functions.datetime
from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies: ClassVar = [("federation", "0010_webhooks")]
    operations: ClassVar = [
        migrations.CreateModel(
            name="TrainerLogTail",
            fields=[
                ("id", models.BigAutoField(primary_key=True, serialize=False)),
                (
                    "subject",
                    models.CharField(help_text="The public id of what was worked on.", max_length=64),
                ),
                ("attempt", models.PositiveIntegerField()),
                ("lines", models.JSONField(default=list)),
                (
                    "happened_at",
                    models.DateTimeField(
                        db_default=django.db.models.functions.datetime.Now(), editable=False
                    ),
                ),
            ],
            options={
                "verbose_name": "end of a trainer's log",
                "verbose_name_plural": "ends of trainers' logs",
                "ordering": ["id"],
                "indexes": [models.Index(fields=["subject"], name="trainer_log_tail_subject")],
            },
        ),
        migrations.RunSQL(
            sql="REVOKE ALL ON federation_trainerlogtail FROM prelude_app",
            reverse_sql="GRANT ALL ON federation_trainerlogtail TO prelude_app",
        ),
    ]
