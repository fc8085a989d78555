"""What tenants train from, and what the server goes on from, beside what is published."""

from typing import ClassVar

from django.apps.registry import Apps
from django.db import migrations, models
from django.db.backends.base.schema import BaseDatabaseSchemaEditor


def broadcast_the_version(apps: Apps, schema_editor: BaseDatabaseSchemaEditor) -> None:
    """Tenants trained from every version itself so far."""
    versions = apps.get_model("federation", "PrefixVersion").objects.using(schema_editor.connection.alias)
    versions.update(broadcast_sha256=models.F("sha256"), broadcast_size_bytes=models.F("size_bytes"))


def _add(name: str, field: "models.Field[object, object]", *, keep_default: bool) -> migrations.AddField:
    return migrations.AddField("prefixversion", name, field, preserve_default=keep_default)


class Migration(migrations.Migration):
    dependencies: ClassVar = [("federation", "0015_campaigns")]
    operations: ClassVar = [
        _add("broadcast_sha256", models.CharField(default="", max_length=64), keep_default=False),
        _add("broadcast_size_bytes", models.PositiveBigIntegerField(default=0), keep_default=False),
        _add(
            "server_state_sha256",
            models.CharField(blank=True, default="", max_length=64),
            keep_default=True,
        ),
        _add("server_state_size_bytes", models.PositiveBigIntegerField(default=0), keep_default=True),
        migrations.RunPython(broadcast_the_version, migrations.RunPython.noop),
    ]
