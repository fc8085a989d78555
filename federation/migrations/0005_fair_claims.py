"""A fair order of waiting work: classes and weights, what each flow has been served, and indexes to find what waits."""

from typing import ClassVar

from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies: ClassVar = [("federation", "0004_final_states")]
    operations: ClassVar = [
        migrations.CreateModel(
            name="ClaimClock",
            fields=[
                ("id", models.SmallIntegerField(primary_key=True, serialize=False)),
                ("tenants", models.FloatField(default=0.0)),
                ("federations", models.FloatField(default=0.0)),
            ],
            options={
                "verbose_name": "claim clock",
                "constraints": [
                    models.CheckConstraint(condition=models.Q(("id", 1)), name="claim_clock_one_row")
                ],
            },
        ),
        migrations.CreateModel(
            name="ClaimShare",
            fields=[
                ("id", models.UUIDField(editable=False, primary_key=True, serialize=False)),
                ("finish_tag", models.FloatField(default=0.0)),
            ],
            options={"verbose_name": "claim share"},
        ),
        # What all tenants have been served is the platform's to know.
        migrations.RunSQL(
            sql="REVOKE ALL ON federation_claimclock, federation_claimshare FROM prelude_app",
            reverse_sql="GRANT ALL ON federation_claimclock, federation_claimshare TO prelude_app",
        ),
        migrations.AddField(
            model_name="federation",
            name="priority",
            field=models.CharField(
                max_length=16,
                choices=[("background", "Background"), ("normal", "Normal"), ("urgent", "Urgent")],
                default="normal",
            ),
        ),
        migrations.AddField(
            model_name="federation",
            name="weight",
            field=models.PositiveSmallIntegerField(
                default=1, help_text="Of its work among the federations' in one class."
            ),
        ),
        migrations.AddConstraint(
            model_name="federation",
            constraint=models.CheckConstraint(
                condition=models.Q(("priority__in", ["background", "normal", "urgent"])),
                name="federation_priority_known",
            ),
        ),
        migrations.AddConstraint(
            model_name="federation",
            constraint=models.CheckConstraint(
                condition=models.Q(("weight__gte", 1), ("weight__lte", 100)),
                name="federation_weight_in_range",
            ),
        ),
        migrations.AddIndex(
            model_name="localrun",
            index=models.Index(
                fields=["created_at"], condition=models.Q(("state", "queued")), name="local_run_waiting"
            ),
        ),
        migrations.AddIndex(
            model_name="evaluation",
            index=models.Index(
                fields=["created_at"], condition=models.Q(("state", "queued")), name="evaluation_waiting"
            ),
        ),
    ]
