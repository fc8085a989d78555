"""Keys that other tables of the same tenant may name."""

from typing import ClassVar

from django.db import migrations

from tenants.wall import key_within_tenant


class Migration(migrations.Migration):
    dependencies: ClassVar = [("tenants", "0002_wall")]
    operations: ClassVar = [key_within_tenant("tenants_dataset")]
