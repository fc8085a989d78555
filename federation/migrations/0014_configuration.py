"""The file that makes a version's directory loadable is no adapter's where a whole model is trained."""

from django.db import migrations


class Migration(migrations.Migration):
    dependencies = [("federation", "0013_stopping_until")]

    operations = [
        migrations.RenameField(model_name="federation", old_name="adapter_config", new_name="configuration"),
    ]
