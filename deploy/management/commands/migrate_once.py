"""`manage.py migrate_once`: migrate as the owner, one process at a time."""

from typing import Any, Final

from django.core.management import call_command
from django.core.management.base import BaseCommand
from django.db import connections

# Any number that nothing else in this database locks; the same in every replica.
MIGRATION_LOCK: Final = 7_765_826_371


class Command(BaseCommand):
    """Replicas that start together queue on an advisory lock; all but the first find nothing to do.

    The lock belongs to the connection: the server releases it when the process ends, however it ends.
    """

    help = "Migrates the database as its owner; safe to start on several replicas at once."

    def handle(self, *_: object, **options: Any) -> None:
        """Take the lock, migrate, give it back."""
        alias = "owner" if "owner" in connections else "default"
        with connections[alias].cursor() as cursor:
            cursor.execute("SELECT pg_advisory_lock(%s)", [MIGRATION_LOCK])
            try:
                call_command("migrate", database=alias, interactive=False, verbosity=options["verbosity"])
            finally:
                cursor.execute("SELECT pg_advisory_unlock(%s)", [MIGRATION_LOCK])
