"""What a key may do, from where and until when; members' own keys.

Keys that are there get what they would be given by default: the words stand here as they were on that day.
"""

from typing import ClassVar

import django.contrib.postgres.fields
import django.db.models.deletion
from django.db import migrations, models
from django.db.models import Q

from tenants.wall import key_within_tenant, same_tenant

_RESOURCES = (
    "audit",
    "base_models",
    "datasets",
    "enrolments",
    "federations",
    "keys",
    "limits",
    "members",
    "prefix_versions",
    "rounds",
    "schedules",
    "tenants",
    "usage",
    "webhooks",
)
_OPERATORS = [f"{resource}:{action}" for resource in _RESOURCES for action in ("read", "write")]
_ENGINEERS = [
    "base_models:read",
    "datasets:read",
    "datasets:write",
    "enrolments:read",
    "enrolments:write",
    "federations:read",
    "limits:read",
    "prefix_versions:read",
    "rounds:read",
    "tenants:read",
    "usage:read",
    "webhooks:read",
    "webhooks:write",
]


class Migration(migrations.Migration):
    dependencies: ClassVar = [("tenants", "0006_audit")]
    operations: ClassVar = [
        key_within_tenant("tenants_membership"),
        migrations.AddField(
            "apikey",
            "membership",
            models.ForeignKey(
                blank=True,
                null=True,
                on_delete=django.db.models.deletion.CASCADE,
                related_name="api_keys",
                to="tenants.membership",
            ),
        ),
        same_tenant("tenants_apikey", "membership_id", target="tenants_membership"),
        migrations.AddField(
            "apikey",
            "rights",
            django.contrib.postgres.fields.ArrayField(
                base_field=models.CharField(max_length=64), default=_ENGINEERS, size=None
            ),
            preserve_default=False,
        ),
        # Forced row security hides all rows from the tables' owner, who migrates.
        migrations.RunSQL(
            sql=[
                "ALTER TABLE tenants_apikey NO FORCE ROW LEVEL SECURITY",
                ("UPDATE tenants_apikey SET rights = %s WHERE tenant_id IS NULL", [_OPERATORS]),
                "ALTER TABLE tenants_apikey FORCE ROW LEVEL SECURITY",
            ],
            reverse_sql=migrations.RunSQL.noop,
        ),
        migrations.AddField(
            "apikey",
            "allowed_networks",
            django.contrib.postgres.fields.ArrayField(
                base_field=models.CharField(max_length=43),
                blank=True,
                default=list,
                help_text="None: from anywhere.",
                size=None,
            ),
        ),
        migrations.AddField("apikey", "expires_at", models.DateTimeField(blank=True, null=True)),
        migrations.AddField("apikey", "rotated_at", models.DateTimeField(blank=True, null=True)),
        migrations.AddConstraint(
            "apikey",
            models.CheckConstraint(
                condition=Q(("rights__contained_by", _OPERATORS)), name="api_key_rights_known"
            ),
        ),
        migrations.AddConstraint(
            "apikey",
            models.CheckConstraint(
                condition=Q(("membership", None), ("tenant__isnull", False), _connector="OR"),
                name="api_key_personal_within_tenant",
            ),
        ),
        migrations.AlterField(
            "auditentry",
            "address",
            models.CharField(
                help_text="The caller's, as this process or a trusted proxy saw it.", max_length=45
            ),
        ),
    ]
