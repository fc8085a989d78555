"""`manage.py verify_audit`: is the audit record what was written?"""

from django.core.management.base import BaseCommand, CommandError

from tenants import scoping
from tenants.errors import AuditChainBroken
from tenants.services import audit


class Command(BaseCommand):
    """Ends with an error at the first entry that was altered, removed, inserted or moved, or cut off at the end."""

    help = "Reads the whole audit record and checks its chain of hashes; prints its length and last hash."

    def handle(self, *_: object, **__: object) -> None:
        """Verify, and print what to keep elsewhere: who can write everything can write a whole new chain."""
        try:
            with scoping.platform():
                chain = audit.verify()
        except AuditChainBroken as broken:
            raise CommandError(str(broken)) from None
        self.stdout.write(f"{chain.n_entries} entries {chain.sha256}")
