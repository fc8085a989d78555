from django.db import migrations

MAKE = """
    CREATE TABLE shared_cache (key varchar(255) PRIMARY KEY, value text NOT NULL, expires_at timestamptz NOT NULL);
    CREATE INDEX shared_cache_expires_at ON shared_cache (expires_at);
"""


class Migration(migrations.Migration):
    """The table of `deploy.shared_cache`, which no model stands for."""

    dependencies = [("tenants", "0004_audit")]
    operations = [migrations.RunSQL(MAKE, "DROP TABLE shared_cache")]
