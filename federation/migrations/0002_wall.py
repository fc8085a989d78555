"""The tenant wall and the append-only tables of the federation's side."""

from typing import ClassVar

from django.db import migrations

from tenants.wall import append_only, tenant_wall


class Migration(migrations.Migration):
    dependencies: ClassVar = [("federation", "0001_initial"), ("tenants", "0002_wall")]
    operations: ClassVar = [
        tenant_wall("federation_enrolment"),
        tenant_wall("federation_localrun"),
        tenant_wall("federation_evaluation"),
        tenant_wall("federation_roundevent", shared_rows=True),
        append_only("federation_roundevent"),
        append_only("federation_prefixversion"),
        append_only("federation_publishrecord"),
    ]
