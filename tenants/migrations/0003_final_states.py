"""A dataset's verdict stands."""

from typing import ClassVar

from django.db import migrations

from tenants.final_states import final_state_function, final_states


class Migration(migrations.Migration):
    dependencies: ClassVar = [("tenants", "0002_wall")]
    operations: ClassVar = [
        final_state_function(),
        final_states("tenants_dataset", ["ready", "refused"]),
    ]
