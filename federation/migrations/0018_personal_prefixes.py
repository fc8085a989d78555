"""Prefixes that tenants grow for themselves, each behind its tenant's wall."""

from typing import ClassVar

import django.db.models.deletion
import django.db.models.functions.datetime
from django.db import migrations, models

import tenants.ids
from tenants.final_states import final_states
from tenants.wall import same_tenant, tenant_wall


class Migration(migrations.Migration):
    dependencies: ClassVar = [("federation", "0017_residuals"), ("tenants", "0012_open_api_key")]

    operations: ClassVar = [
        migrations.CreateModel(
            name="PersonalPrefix",
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
                ("attempt", models.PositiveIntegerField(default=0)),
                ("lease_owner", models.CharField(blank=True, default="", max_length=200)),
                ("lease_expires_at", models.DateTimeField(blank=True, null=True)),
                (
                    "claimed_at",
                    models.DateTimeField(
                        blank=True, help_text="When the attempt that holds it began.", null=True
                    ),
                ),
                (
                    "stopping_until",
                    models.DateTimeField(
                        blank=True,
                        editable=False,
                        help_text="Called off while a worker held it, which may be busy with it so long; "
                        "none: it has stopped.",
                        null=True,
                    ),
                ),
                ("sent_at", models.DateTimeField(blank=True, null=True)),
                ("n_sent", models.PositiveIntegerField(default=0)),
                (
                    "state",
                    models.CharField(
                        choices=[
                            ("queued", "Queued"),
                            ("running", "Running"),
                            ("completed", "Completed"),
                            ("failed", "Failed"),
                            ("canceled", "Canceled"),
                        ],
                        default="queued",
                        max_length=16,
                    ),
                ),
                (
                    "rule",
                    models.CharField(
                        choices=[
                            ("fine_tune", "Fine Tune"),
                            ("ditto", "Ditto"),
                            ("personal_values", "Personal Values"),
                            ("prior", "Prior"),
                        ],
                        max_length=16,
                    ),
                ),
                (
                    "n_steps",
                    models.PositiveIntegerField(help_text="None: the rule does not train.", null=True),
                ),
                ("learning_rate", models.FloatField(null=True)),
                (
                    "proximal",
                    models.FloatField(
                        help_text="The strength of Ditto's term; none for other rules.", null=True
                    ),
                ),
                ("shared_accuracy", models.FloatField(null=True)),
                ("shared_loss", models.FloatField(null=True)),
                ("accuracy", models.FloatField(null=True)),
                ("loss", models.FloatField(null=True)),
                ("n_rows", models.PositiveIntegerField(null=True)),
                ("blob_name", models.CharField(blank=True, default="", editable=False, max_length=200)),
                ("size_bytes", models.PositiveBigIntegerField(null=True)),
                (
                    "created_at",
                    models.DateTimeField(
                        db_default=django.db.models.functions.datetime.Now(), editable=False
                    ),
                ),
                (
                    "dataset",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.PROTECT,
                        related_name="personal_prefixes",
                        to="tenants.dataset",
                    ),
                ),
                (
                    "enrolment",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.PROTECT,
                        related_name="personal_prefixes",
                        to="federation.enrolment",
                    ),
                ),
                (
                    "federation",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.PROTECT,
                        related_name="personal_prefixes",
                        to="federation.federation",
                    ),
                ),
                (
                    "tenant",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.PROTECT,
                        related_name="%(class)ss",
                        to="tenants.tenant",
                    ),
                ),
                (
                    "version",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.PROTECT,
                        related_name="personal_prefixes",
                        to="federation.prefixversion",
                    ),
                ),
            ],
            options={
                "verbose_name": "personal prefix",
                "verbose_name_plural": "personal prefixes",
                "indexes": [
                    models.Index(
                        condition=models.Q(("state", "queued")),
                        fields=["created_at"],
                        name="personal_prefix_waiting",
                    ),
                    models.Index(
                        condition=models.Q(("state", "running")),
                        fields=["tenant"],
                        name="personal_prefix_held",
                    ),
                ],
                "constraints": [
                    models.CheckConstraint(
                        condition=models.Q(
                            ("state__in", ["queued", "running", "completed", "failed", "canceled"])
                        ),
                        name="personal_prefix_state_known",
                    ),
                    models.CheckConstraint(
                        condition=models.Q(
                            models.Q(
                                ("finished_at__isnull", False),
                                ("state__in", ["completed", "failed", "canceled"]),
                            ),
                            models.Q(
                                models.Q(("state__in", ["completed", "failed", "canceled"]), _negated=True),
                                ("finished_at", None),
                            ),
                            _connector="OR",
                        ),
                        name="personal_prefix_finished_at_iff_terminal",
                    ),
                    models.CheckConstraint(
                        condition=models.Q(
                            models.Q(("state", "completed"), _negated=True),
                            models.Q(
                                ("accuracy__isnull", False),
                                ("loss__isnull", False),
                                ("n_rows__isnull", False),
                                ("shared_accuracy__isnull", False),
                                ("shared_loss__isnull", False),
                                ("size_bytes__isnull", False),
                                models.Q(("blob_name", ""), _negated=True),
                            ),
                            _connector="OR",
                        ),
                        name="personal_prefix_completed_has_scores_and_bytes",
                    ),
                ],
            },
        ),
        tenant_wall("federation_personalprefix"),
        same_tenant("federation_personalprefix", "dataset_id", target="tenants_dataset"),
        same_tenant("federation_personalprefix", "enrolment_id", target="federation_enrolment"),
        final_states("federation_personalprefix", ["completed", "failed", "canceled"]),
    ]
