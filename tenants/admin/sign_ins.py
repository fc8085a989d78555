"""Who signs in to the console, who tries to, and who signs out: Django's signals, put on record."""

from collections.abc import Mapping
from typing import Any

from django.contrib import admin
from django.contrib.auth.models import AbstractBaseUser, User
from django.contrib.auth.signals import user_logged_in, user_logged_out, user_login_failed
from django.core.exceptions import ValidationError
from django.dispatch import receiver
from django.http import HttpRequest
from unfold.forms import AuthenticationForm

from tenants.services import accounts


class SignInForm(AuthenticationForm):  # type: ignore[misc]  # Unfold has no types
    """The console's sign-in. An account that may not enter is refused after its password was found right."""

    def confirm_login_allowed(self, user: AbstractBaseUser) -> None:
        """Raises ValidationError, on record, unless the account is an active one of staff or of a tenant's member."""
        try:
            super().confirm_login_allowed(user)
        except ValidationError:
            if accounts.is_member(user):
                return
            accounts.record_sign_in_failed(username=user.get_username())
            raise


admin.site.login_form = SignInForm


@receiver(user_logged_in)
def _signed_in(request: HttpRequest, user: User, **_: Any) -> None:
    accounts.record_signed_in(user, session_key=request.session.session_key)


@receiver(user_logged_out)
def _signed_out(request: HttpRequest, user: User | None, **_: Any) -> None:
    if user is not None:  # a page that was open in two windows signs out twice
        accounts.record_signed_out(user, session_key=request.session.session_key)


@receiver(user_login_failed)
def _sign_in_failed(credentials: Mapping[str, str], **_: Any) -> None:
    accounts.record_sign_in_failed(username=credentials.get("username", ""))
