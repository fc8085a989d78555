"""Where allauth asks what holds here: who may sign in, how often one may fail, and what is encrypted."""

import time
from typing import Any, Final

import structlog
from allauth.account.adapter import DefaultAccountAdapter
from allauth.core.exceptions import ImmediateHttpResponse
from allauth.mfa.adapter import DefaultMFAAdapter
from allauth.socialaccount.adapter import DefaultSocialAccountAdapter
from allauth.socialaccount.models import SocialAccount, SocialLogin
from django.contrib.auth import authenticate
from django.contrib.auth.models import User
from django.db import transaction
from django.http import HttpRequest

from tenants import acting, selectors
from tenants.admin.signing_in import lock_out, sessions
from tenants.admin.signing_in.pages import refused
from tenants.services import accounts

_FRESH_SECONDS: Final = 300
_log = structlog.get_logger(__name__)


class AccountAdapter(DefaultAccountAdapter):  # type: ignore[misc]  # allauth has no types
    """Accounts are made by operators, known by their names, and locked out after repeated failures."""

    error_messages = {
        **DefaultAccountAdapter.error_messages,
        lock_out.CODE: "Too many attempts have failed. Try again in a few minutes.",
    }

    def is_open_for_signup(self, request: HttpRequest) -> bool:
        """Nobody makes an account for themselves."""
        return False

    def get_client_ip(self, request: HttpRequest) -> str:
        """The address that the audit record tells."""
        return acting.origin().address

    def is_reauthentication_required(self, *, app: str, **_: Any) -> bool:
        """Who has just signed in need not say so again, to set up a second factor for one."""
        signed_in_at = sessions.signed_in_at(self.request.session)
        return signed_in_at is None or time.time() - signed_in_at > _FRESH_SECONDS

    def authenticate(self, request: HttpRequest, **credentials: Any) -> User | None:
        """The account that these open. Raises ValidationError when it or the address is locked out.

        One that may not enter is refused like a wrong password: nothing tells that the password was right.
        """
        username = credentials["username"]
        key = f"password of {username}"
        if not lock_out.begin(request, key=key):
            raise self.validation_error(lock_out.CODE)
        user = authenticate(request, **credentials)
        if user is not None and accounts.may_enter(user):
            lock_out.forgive(request, key=key)
            return user
        if user is not None:  # Django has told of the others
            accounts.record_sign_in_failed(username=username)
        lock_out.count_failure(request, key=key, username=username)
        return None


class SecondFactorAdapter(DefaultMFAAdapter):  # type: ignore[misc]  # allauth has no types
    """What codes are made of is stored encrypted."""

    def encrypt(self, text: str) -> str:
        """For the database."""
        return accounts.seal_second_factor(text)

    def decrypt(self, encrypted_text: str) -> str:
        """From the database. Raises DecryptionFailed."""
        return accounts.unseal_second_factor(encrypted_text)


class ProviderAdapter(DefaultSocialAccountAdapter):  # type: ignore[misc]  # allauth has no types
    """The OpenID provider's word opens accounts that are there; it makes none.

    The first sign-in needs the address of exactly one account, verified by the provider, and pins the provider's
    subject to it. From then on the subject alone counts: the address may change, and who gets it next is refused.
    """

    def pre_social_login(self, request: HttpRequest, sociallogin: SocialLogin) -> None:
        """Raises ImmediateHttpResponse, on record, unless the sign-in opens an account."""
        if sociallogin.state.get("process") != "login":
            raise self._refusal(request, sociallogin, reason="not_a_sign_in")
        if not sociallogin.is_existing:
            self._connect(request, sociallogin)
        if not accounts.may_enter(sociallogin.user):
            raise self._refusal(request, sociallogin, reason="may_not_enter")

    def on_authentication_error(self, request: HttpRequest, provider: Any, **details: Any) -> None:
        """The provider, or a browser in its name, said what cannot be used: show our page, and log why."""
        problem = details.get("exception") or details.get("error")
        _log.warning("openid_sign_in_failed", problem=type(problem).__name__, detail=str(problem)[:300])
        raise ImmediateHttpResponse(refused(request, status=401))

    def _connect(self, request: HttpRequest, sociallogin: SocialLogin) -> None:
        found = [address for address in sociallogin.email_addresses if _is_verified(address.verified)]
        if not found:
            raise self._refusal(request, sociallogin, reason="address_unverified")
        people = selectors.accounts_with(found[0].email)
        if len(people) != 1:
            raise self._refusal(request, sociallogin, reason="address_unknown")
        [person] = people
        if SocialAccount.objects.filter(user=person, provider=sociallogin.account.provider).exists():
            raise self._refusal(request, sociallogin, reason="subject_changed")
        if not accounts.may_enter(person):
            raise self._refusal(request, sociallogin, reason="may_not_enter")
        with transaction.atomic():
            sociallogin.connect(request, person)
            accounts.record_second_factor(
                person, change="oidc_connected", session_key=request.session.session_key
            )

    def _refusal(
        self, request: HttpRequest, sociallogin: SocialLogin, *, reason: str
    ) -> ImmediateHttpResponse:
        addresses = [address.email for address in sociallogin.email_addresses]
        people = selectors.accounts_with(addresses[0]) if addresses else []
        username = people[0].get_username() if len(people) == 1 else ""
        accounts.record_sign_in_failed(username=username, reason=reason)
        return ImmediateHttpResponse(refused(request, status=403))


def _is_verified(claim: object) -> bool:
    # Some providers say it in a text; `bool("false")` would be true.
    return claim is True or claim == "true"
