"""`manage.py reset_sign_in --email ADDRESS`: for somebody who has lost the phone, or has a new account elsewhere."""

from argparse import ArgumentParser
from typing import Any

from allauth.mfa.models import Authenticator
from allauth.socialaccount.models import SocialAccount
from django.contrib.auth.models import User
from django.core.management.base import BaseCommand, CommandError

from deploy.system_user import system_user
from tenants import acting, scoping
from tenants.services import accounts


class Command(BaseCommand):
    """The password stays: whoever asks for this has to know it, and is led to set up a new second factor."""

    help = "Removes an account's authenticator app, recovery codes and connection to the OpenID provider."

    def add_arguments(self, parser: ArgumentParser) -> None:
        """The address, which is the account's name."""
        parser.add_argument("--email", required=True)

    def handle(self, *_: object, **options: Any) -> None:
        """Remove them, on record. Raises CommandError."""
        address = options["email"].lower()
        with acting.by(system_user()), scoping.platform():
            user = User.objects.filter(username=address).first()
            if user is None:
                raise CommandError(f"{address} has no login.")
            changes = {"totp_removed": Authenticator.objects, "oidc_disconnected": SocialAccount.objects}
            n_removed = {change: rows.filter(user=user).delete()[0] for change, rows in changes.items()}
            accounts.record_sign_in_reset(user, changes=[change for change, n in n_removed.items() if n])
