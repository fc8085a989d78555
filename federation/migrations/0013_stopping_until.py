"""Until when a worker may be busy with work that was called off."""

from typing import ClassVar

from django.db import migrations, models


def _stopping_until(model_name: str) -> migrations.AddField:
    field = models.DateTimeField(
        blank=True,
        editable=False,
        help_text="Called off while a worker held it, which may be busy with it so long; none: it has stopped.",
        null=True,
    )
    return migrations.AddField(model_name=model_name, name="stopping_until", field=field)


class Migration(migrations.Migration):
    dependencies: ClassVar = [("federation", "0012_held_work")]
    operations: ClassVar = [
        _stopping_until("basemodel"),
        _stopping_until("evaluation"),
        _stopping_until("federation"),
        _stopping_until("localrun"),
    ]
