"""Who signs in to the console, who tries to, and who signs out: Django's signals, put on record.

allauth's tables have no pages here: who may sign in, and how, is changed by its flows and by operators' commands.
"""

from collections.abc import Mapping
from typing import Any

from allauth.account.models import EmailAddress
from allauth.mfa.models import Authenticator
from allauth.socialaccount.models import SocialAccount, SocialApp, SocialToken
from django.contrib import admin
from django.contrib.auth.models import User
from django.contrib.auth.signals import user_logged_in, user_logged_out, user_login_failed
from django.dispatch import receiver
from django.http import HttpRequest

from tenants.admin.signing_in import sessions
from tenants.services import accounts

admin.site.unregister([EmailAddress, Authenticator, SocialAccount, SocialApp, SocialToken])


@receiver(user_logged_in)
def _signed_in(request: HttpRequest, user: User, **_: Any) -> None:
    sessions.begin(request.session)
    accounts.record_signed_in(user, session_key=request.session.session_key)


@receiver(user_logged_out)
def _signed_out(request: HttpRequest, user: User | None, **_: Any) -> None:
    if user is not None:  # a page that was open in two windows signs out twice
        accounts.record_signed_out(user, session_key=request.session.session_key)


@receiver(user_login_failed)
def _sign_in_failed(credentials: Mapping[str, str], **_: Any) -> None:
    accounts.record_sign_in_failed(username=credentials.get("username", ""))
