"""`manage.py create_operator --email ADDRESS`: somebody who may log in to the console."""

import os
import secrets
from argparse import ArgumentParser
from typing import Any, Final

from django.contrib.auth import get_user_model
from django.contrib.auth.password_validation import validate_password
from django.core.exceptions import ValidationError
from django.core.management.base import BaseCommand, CommandError
from django.core.validators import validate_email

from deploy.system_user import system_user
from tenants import acting, scoping
from tenants.services import accounts

PASSWORD_VARIABLE: Final = "PRELUDE_OPERATOR_PASSWORD"  # noqa: S105 - a variable's name


class Command(BaseCommand):
    """The password comes from the environment, since arguments show in the list of processes, or is made here."""

    help = f"Makes an operator's login; its password is read from {PASSWORD_VARIABLE}, or made and printed, this once."

    def add_arguments(self, parser: ArgumentParser) -> None:
        """The operator's address, which is the login's name too."""
        parser.add_argument("--email", required=True)

    def handle(self, *_: object, **options: Any) -> None:
        """Check both, make the login, print the password where it was made here."""
        address = options["email"].lower()
        given = os.environ.get(PASSWORD_VARIABLE, "")
        password = given or secrets.token_urlsafe(18)
        try:
            validate_email(address)
            validate_password(password)
        except ValidationError as error:
            raise CommandError(" ".join(error.messages)) from None
        with acting.by(system_user()), scoping.platform():
            self._create(address, password)
        if not given:
            self.stdout.write(password)

    def _create(self, address: str, password: str) -> None:
        users = get_user_model().objects
        if users.filter(username=address).exists():
            raise CommandError(f"{address} has a login already; change its password in the console.")
        user = users.create_superuser(username=address, email=address, password=password)
        accounts.record_saved(user, before=None)
