"""What a session at the console remembers of its sign-in: when that was, and whether a second factor was shown."""

import time
from typing import Final

from allauth.account.authentication import get_authentication_records
from allauth.mfa.models import Authenticator
from django.conf import settings
from django.contrib.auth.models import User
from django.contrib.sessions.backends.base import SessionBase
from django.http import HttpRequest

_SIGNED_IN_AT: Final = "signed_in_at"
_SEEN_AT: Final = "seen_at"
_SEEN_EVERY_SECONDS: Final = 60
_SHOWN: Final = "second_factor_shown"


def begin(session: SessionBase) -> None:
    """Somebody has signed in."""
    session[_SIGNED_IN_AT] = session[_SEEN_AT] = time.time()


def signed_in_at(session: SessionBase) -> float | None:
    """When, as seconds since 1970; None for a session without a sign-in."""
    at: float | None = session.get(_SIGNED_IN_AT)
    return at


def has_ended(session: SessionBase) -> bool:
    """Whether it is too old, or nobody was there for too long."""
    now, began_at = time.time(), signed_in_at(session)
    if began_at is None or now - began_at >= settings.SESSION_LIFETIME_SECONDS:
        return True
    return bool(now - session[_SEEN_AT] >= settings.SESSION_IDLE_SECONDS)


def note_presence(session: SessionBase) -> None:
    """Somebody is there. Written once a minute at most, or ten times within a short idle time."""
    now = time.time()
    if now - session[_SEEN_AT] >= min(_SEEN_EVERY_SECONDS, settings.SESSION_IDLE_SECONDS / 10):
        session[_SEEN_AT] = now


def note_second_factor(session: SessionBase) -> None:
    """A code of the authenticator that is being set up was right."""
    session[_SHOWN] = True


def has_totp(user: User) -> bool:
    """Whether the account has an authenticator app."""
    return bool(Authenticator.objects.filter(user=user, type=Authenticator.Type.TOTP).exists())


def lacks_second_factor(request: HttpRequest, user: User) -> bool:
    """Whether the account has to show one, and has not done so in this session."""
    if not (settings.REQUIRE_TOTP and user.is_staff):
        return False
    methods = {record["method"] for record in get_authentication_records(request, user)}
    if settings.OIDC_TRUSTED_FOR_MFA and "socialaccount" in methods:
        return False
    is_shown = "mfa" in methods or request.session.get(_SHOWN, False)
    return not (is_shown and has_totp(user))
