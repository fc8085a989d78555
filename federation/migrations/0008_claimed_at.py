"""When the attempt that holds a piece of work began."""

from typing import ClassVar

from django.db import migrations, models


def _claimed_at(model_name: str) -> migrations.AddField:
    field = models.DateTimeField(blank=True, help_text="When the attempt that holds it began.", null=True)
    return migrations.AddField(model_name=model_name, name="claimed_at", field=field)


class Migration(migrations.Migration):
    dependencies: ClassVar = [("federation", "0007_schedule_paused")]
    operations: ClassVar = [
        _claimed_at("basemodel"),
        _claimed_at("evaluation"),
        _claimed_at("federation"),
        _claimed_at("localrun"),
    ]
