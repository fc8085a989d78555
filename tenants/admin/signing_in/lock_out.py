"""Lock-out after repeated failures, by account and by address. Codes of second factors are counted like passwords.

An account's attempt is counted before its password is looked at, and forgiven when that was right: however many come
at once, no more than the limit are looked at. What is locked out is refused unseen, and right after wrong alike.
"""

from typing import Final

from allauth.core import ratelimit
from django.conf import settings
from django.http import HttpRequest

from tenants.services import accounts

CODE: Final = "too_many_login_attempts"  # of the forms' errors, as allauth names it
_ACCOUNT: Final = "login_failed"
_ADDRESS: Final = "address_failed"


def begin(request: HttpRequest, *, key: str) -> bool:
    """Count an attempt. False: what `key` stands for is locked out, or the address is."""
    return not is_address_locked(request) and ratelimit.consume(request, action=_ACCOUNT, key=key)


def is_address_locked(request: HttpRequest) -> bool:
    """Whether too many attempts have failed from where the request comes from."""
    return not ratelimit.consume(request, action=_ADDRESS, dry_run=True)


def forgive(request: HttpRequest, *, key: str) -> None:
    """It was right: the count begins anew. The address keeps its own, for other accounts' sake."""
    ratelimit.clear(request, action=_ACCOUNT, key=key)


def count_failure(request: HttpRequest, *, key: str, username: str) -> None:
    """An attempt has failed; on record where it was the last one before a lock-out."""
    was_locked = is_address_locked(request)
    ratelimit.consume(request, action=_ADDRESS)
    if not ratelimit.consume(request, action=_ACCOUNT, key=key, dry_run=True):
        _record(username, "account")
    if not was_locked and is_address_locked(request):
        _record(username, "address")


def _record(username: str, limit: str) -> None:
    accounts.record_locked_out(username=username, limit=limit, seconds=settings.SIGN_IN_LOCK_SECONDS)
