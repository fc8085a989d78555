"""Campaigns of rounds, and the version that the gate compares a round's candidate with."""

from typing import Any, ClassVar

import django.db.models.deletion
import django.db.models.functions.datetime
from django.db import migrations, models

import tenants.ids
from tenants.final_states import final_states

# Until now a round began from the version that was published. Its keys are checked at once: a table with checks that
# wait for the commit cannot be altered.
_BEGAN_FROM_THE_PUBLISHED_ONE = """
SET CONSTRAINTS ALL IMMEDIATE;
UPDATE federation_federatedround SET incumbent_version_id = parent_version_id;
"""


def _incumbent(*, null: bool = False) -> "models.ForeignKey[Any, Any]":
    return models.ForeignKey(
        null=null,
        on_delete=django.db.models.deletion.PROTECT,
        related_name="+",
        to="federation.prefixversion",
    )


class Migration(migrations.Migration):
    dependencies: ClassVar = [("federation", "0014_configuration")]
    operations: ClassVar = [
        migrations.CreateModel(
            name="Campaign",
            fields=[
                (
                    "id",
                    models.UUIDField(
                        default=tenants.ids.uuid7, editable=False, primary_key=True, serialize=False
                    ),
                ),
                ("state_reason", models.TextField(blank=True, default="")),
                (
                    "state_changed_at",
                    models.DateTimeField(
                        db_default=django.db.models.functions.datetime.Now(), editable=False
                    ),
                ),
                ("finished_at", models.DateTimeField(blank=True, editable=False, null=True)),
                (
                    "state",
                    models.CharField(
                        choices=[
                            ("running", "Running"),
                            ("completed", "Completed"),
                            ("failed", "Failed"),
                            ("canceled", "Canceled"),
                        ],
                        default="running",
                        max_length=16,
                    ),
                ),
                (
                    "n_rounds",
                    models.PositiveIntegerField(
                        help_text="Rounds that it holds at most, whatever comes of each."
                    ),
                ),
                (
                    "patience",
                    models.PositiveIntegerField(
                        help_text="Evaluated rounds without a better version after which it ends; none: it goes on.",
                        null=True,
                    ),
                ),
                (
                    "evaluate_every",
                    models.PositiveIntegerField(
                        default=1,
                        help_text="Every so many rounds the candidate is scored; the last one's always is.",
                    ),
                ),
                (
                    "started_at",
                    models.DateTimeField(
                        db_default=django.db.models.functions.datetime.Now(), editable=False
                    ),
                ),
                (
                    "federation",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.PROTECT,
                        related_name="campaigns",
                        to="federation.federation",
                    ),
                ),
            ],
            options={"verbose_name": "campaign"},
        ),
        migrations.AddConstraint(
            model_name="campaign",
            constraint=models.CheckConstraint(
                condition=models.Q(("state__in", ["running", "completed", "failed", "canceled"])),
                name="campaign_state_known",
            ),
        ),
        migrations.AddConstraint(
            model_name="campaign",
            constraint=models.CheckConstraint(
                condition=models.Q(
                    models.Q(
                        ("finished_at__isnull", False), ("state__in", ["completed", "failed", "canceled"])
                    ),
                    models.Q(
                        models.Q(("state__in", ["completed", "failed", "canceled"]), _negated=True),
                        ("finished_at", None),
                    ),
                    _connector="OR",
                ),
                name="campaign_finished_at_iff_terminal",
            ),
        ),
        migrations.AddConstraint(
            model_name="campaign",
            constraint=models.CheckConstraint(
                condition=models.Q(
                    ("evaluate_every__gte", 1),
                    ("n_rounds__gte", 1),
                    ("n_rounds__lte", 1000),
                    models.Q(("patience", None), ("patience__gte", 1), _connector="OR"),
                ),
                name="campaign_counts_in_range",
            ),
        ),
        migrations.AddConstraint(
            model_name="campaign",
            constraint=models.UniqueConstraint(
                condition=models.Q(("state__in", ("running",))),
                fields=("federation",),
                name="campaign_one_live_per_federation",
            ),
        ),
        final_states("federation_campaign", ["completed", "failed", "canceled"]),
        migrations.AddField(
            model_name="federatedround",
            name="campaign",
            field=models.ForeignKey(
                null=True,
                on_delete=django.db.models.deletion.PROTECT,
                related_name="rounds",
                to="federation.campaign",
            ),
        ),
        migrations.AddField(
            model_name="federatedround", name="incumbent_version", field=_incumbent(null=True)
        ),
        migrations.RunSQL(sql=_BEGAN_FROM_THE_PUBLISHED_ONE, reverse_sql=migrations.RunSQL.noop),
        migrations.AlterField(model_name="federatedround", name="incumbent_version", field=_incumbent()),
    ]
