"""The console's scope: staff works across tenants, a tenant's people within their own; one transaction a request."""

from collections.abc import Callable
from contextlib import AbstractContextManager

from django.contrib.auth import logout
from django.contrib.auth.models import User
from django.db import transaction
from django.http import HttpRequest, HttpResponseBase
from django.shortcuts import render

from deploy import console_membership
from tenants import acting, scoping
from tenants.rights import OPERATOR_RIGHTS, ROLE_RIGHTS, Right
from tenants.services.accounts import console_actor
from tenants.states import Role

CONSOLE_PATH = "/console/"


class ConsoleScopeMiddleware:
    """Enters the platform's scope for staff that is signed in, a tenant's for its members, and none for nobody.

    It has to be the innermost middleware: templates are rendered before it leaves the scope, and nothing that only the
    scope may see is left to be read afterwards.
    """

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponseBase]) -> None:
        self._get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        """Answer within the scope. Memberships are read with each request: one that ended opens nothing any more."""
        if not (request.path.startswith(CONSOLE_PATH) and request.user.is_active):
            return self._get_response(request)
        if request.user.is_staff:
            return self._answer(request, OPERATOR_RIGHTS, scoping.platform())
        entry = console_membership.entry_of(request)
        if entry is None:
            return _no_entry(request)
        with console_membership.using(entry):
            rights = ROLE_RIGHTS[Role(entry.membership.role)]
            return self._answer(request, rights, scoping.tenant(entry.membership.tenant_id))

    def _answer(
        self, request: HttpRequest, rights: frozenset[Right], scope: AbstractContextManager[None]
    ) -> HttpResponseBase:
        """What a failed request has written is taken back."""
        assert isinstance(request.user, User)  # active, and so signed in
        actor = console_actor(request.user, session_key=request.session.session_key, rights=rights)
        with acting.by(actor), scope:
            response = self._get_response(request)
            # An exception has become an answer by now; left alone, half of its work would be committed.
            if response.status_code >= 500:
                transaction.set_rollback(True)
            return response


def _no_entry(request: HttpRequest) -> HttpResponseBase:
    """The session ends here: the console's own way out is behind the door that is closed."""
    name = request.user.get_username()
    logout(request)
    return render(request, "console/no_entry.html", {"name": name}, status=403)
