"""The tenant wall and the append-only tables of the federation's side.

No row may name another tenant's row, nor tell by a refused duplicate that there is one.
"""

from typing import ClassVar

from django.db import migrations

from tenants.wall import append_only, key_within_tenant, same_tenant, tenant_wall

_OWN_TABLES = (
    "enrolment",
    "localrun",
    "evaluation",
    "residual",
    "personalprefix",
    "webhookendpoint",
    "webhooksecret",
    "webhookdelivery",
    "webhookattempt",
)
_NAMED_BY_OTHERS = ("enrolment", "localrun", "webhookendpoint", "webhookdelivery")
# What all tenants have been served, and what trainers wrote last, is the platform's to know.
_PLATFORMS = "federation_claimclock, federation_claimshare, federation_trainerlogtail"


class Migration(migrations.Migration):
    dependencies: ClassVar = [("federation", "0001_initial"), ("tenants", "0002_wall")]
    operations: ClassVar = [
        *(tenant_wall(f"federation_{table}") for table in _OWN_TABLES),
        tenant_wall("federation_roundevent", shared_rows=True),
        append_only("federation_roundevent"),
        append_only("federation_prefixversion"),
        append_only("federation_publishrecord"),
        migrations.RunSQL(
            sql=f"REVOKE ALL ON {_PLATFORMS} FROM prelude_app",
            reverse_sql=f"GRANT ALL ON {_PLATFORMS} TO prelude_app",
        ),
        *(key_within_tenant(f"federation_{table}") for table in _NAMED_BY_OTHERS),
        same_tenant("federation_enrolment", "dataset_id", target="tenants_dataset"),
        same_tenant("federation_localrun", "dataset_id", target="tenants_dataset"),
        same_tenant("federation_localrun", "enrolment_id", target="federation_enrolment"),
        same_tenant("federation_evaluation", "dataset_id", target="tenants_dataset"),
        same_tenant("federation_residual", "local_run_id", target="federation_localrun"),
        same_tenant("federation_personalprefix", "dataset_id", target="tenants_dataset"),
        same_tenant("federation_personalprefix", "enrolment_id", target="federation_enrolment"),
        same_tenant("federation_webhooksecret", "endpoint_id", target="federation_webhookendpoint"),
        same_tenant("federation_webhookdelivery", "endpoint_id", target="federation_webhookendpoint"),
        same_tenant("federation_webhookattempt", "delivery_id", target="federation_webhookdelivery"),
    ]
