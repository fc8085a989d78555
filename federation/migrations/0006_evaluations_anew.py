"""A score that was given up may be asked for anew."""

from typing import ClassVar

from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies: ClassVar = [("federation", "0005_fair_claims")]
    operations: ClassVar = [
        migrations.RemoveConstraint(model_name="evaluation", name="evaluation_unique"),
        migrations.AddConstraint(
            model_name="evaluation",
            constraint=models.UniqueConstraint(
                fields=("tenant", "federation", "version", "dataset"),
                condition=models.Q(("state__in", ("failed", "canceled")), _negated=True),
                name="evaluation_unique",
                nulls_distinct=False,
            ),
        ),
    ]
