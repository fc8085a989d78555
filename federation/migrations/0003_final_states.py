"""What has ended stays ended."""

from typing import ClassVar

from django.db import migrations

from tenants.final_states import final_states


class Migration(migrations.Migration):
    dependencies: ClassVar = [("federation", "0002_wall"), ("tenants", "0003_final_states")]
    operations: ClassVar = [
        final_states("federation_basemodel", ["ready", "refused"]),
        final_states("federation_federation", ["ready", "refused"]),
        final_states("federation_campaign", ["completed", "failed", "canceled"]),
        final_states("federation_federatedround", ["published", "kept", "failed", "canceled"]),
        final_states("federation_localrun", ["accepted", "rejected", "failed", "canceled"]),
        final_states("federation_evaluation", ["completed", "failed", "canceled"]),
        final_states("federation_personalprefix", ["completed", "failed", "canceled"]),
    ]
