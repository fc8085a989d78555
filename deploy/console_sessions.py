"""Sessions at the console: they end by age and by idleness, and open nothing to staff without a second factor."""

from collections.abc import Callable
from typing import Any, Final

from django.contrib.auth import logout
from django.contrib.auth.models import User
from django.http import HttpRequest, HttpResponseBase
from django.shortcuts import redirect
from django.urls import reverse
from django.utils.http import urlencode

from deploy.console_scope import CONSOLE_PATH
from tenants.admin.signing_in import sessions

# Where a second factor is shown or set up, and the ways in and out. What is done with one (looking at its recovery
# codes, removing it) is not among them.
_OPEN: Final = {
    *("account_login", "account_logout", "admin:logout", "account_reauthenticate", "mfa_reauthenticate"),
    *("mfa_authenticate", "mfa_activate_totp", "openid_connect_login", "openid_connect_callback"),
}


class SessionLimitsMiddleware:
    """Signs out, on record, who has been signed in for too long, or away for too long."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponseBase]) -> None:
        self._get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        """Answer, to nobody in particular where the session has ended."""
        if request.path.startswith(CONSOLE_PATH) and request.user.is_authenticated:
            if sessions.has_ended(request.session):
                logout(request)
            elif not _renews_itself(request):
                sessions.note_presence(request.session)
        return self._get_response(request)


def _renews_itself(request: HttpRequest) -> bool:
    """A page that asks for its newest part, or follows the events, is nobody's presence."""
    return "HX-Request" in request.headers or request.headers.get("Accept") == "text/event-stream"


class SecondFactorMiddleware:
    """Leads staff without a second factor to the page that asks for it, or that sets one up."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponseBase]) -> None:
        self._get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        """Answer; `process_view` stands before the console's views."""
        return self._get_response(request)

    def process_view(
        self, request: HttpRequest, _view: Callable[..., Any], _args: Any, _options: Any
    ) -> HttpResponseBase | None:
        """Another page, where one is due."""
        match, person = request.resolver_match, request.user
        if not (request.path.startswith(CONSOLE_PATH) and isinstance(person, User)):
            return None
        if match is None or match.view_name in _OPEN or not sessions.lacks_second_factor(request, person):
            return None
        page = "mfa_reauthenticate" if sessions.has_totp(person) else "mfa_activate_totp"
        return redirect(f"{reverse(page)}?{urlencode({'next': request.get_full_path()})}")
