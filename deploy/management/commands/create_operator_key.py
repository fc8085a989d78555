"""`manage.py create_operator_key --name NAME`: a first key, with which the API makes all others."""

from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand

from deploy.system_user import system_user
from tenants import acting, scoping
from tenants.rights import OPERATOR_RIGHTS
from tenants.services.api_keys import create_api_key


class Command(BaseCommand):
    """Prints the key, and nothing else, on standard output: it is stored nowhere in the clear."""

    help = "Makes an operator's API key and prints it, this once."

    def add_arguments(self, parser: ArgumentParser) -> None:
        """The key's name in lists and records."""
        parser.add_argument("--name", required=True)

    def handle(self, *_: object, **options: Any) -> None:
        """Make and print it."""
        with acting.by(system_user()), scoping.platform():
            key = create_api_key(tenant=None, name=options["name"], giver_rights=OPERATOR_RIGHTS)
        self.stdout.write(key.text)
