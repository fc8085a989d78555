"""The console's scope: staff works across tenants, a tenant's people within their own; one transaction a request."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager

from django.contrib.auth import logout
from django.contrib.auth.models import User
from django.db import transaction
from django.http import HttpRequest, HttpResponseBase
from django.shortcuts import render

from deploy import console_membership
from deploy.console_rights import rights_of_staff
from tenants import acting, scoping
from tenants.rights import ROLE_RIGHTS, Right
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
        with entered(request) as is_open:
            return self._answer(request) if is_open else _no_entry(request)

    def _answer(self, request: HttpRequest) -> HttpResponseBase:
        """What a failed request has written is taken back."""
        response = self._get_response(request)
        # An exception has become an answer by now; left alone, half of its work would be committed.
        if response.status_code >= 500:
            transaction.set_rollback(True)
        return response


@contextmanager
def entered(request: HttpRequest) -> Iterator[bool]:
    """Act in the scope of who is signed in; False, in none, for somebody who belongs to no active tenant."""
    if request.user.is_staff:
        assert isinstance(request.user, User)
        with _acting(request, rights_of_staff(request.user)), scoping.platform():
            yield True
        return
    entry = console_membership.entry_of(request)
    if entry is None:
        yield False
        return
    rights = ROLE_RIGHTS[Role(entry.membership.role)]
    with (
        console_membership.using(entry),
        _acting(request, rights),
        scoping.tenant(entry.membership.tenant_id),
    ):
        yield True


def _acting(request: HttpRequest, rights: frozenset[Right]) -> AbstractContextManager[None]:
    assert isinstance(request.user, User)  # active, and so signed in
    return acting.by(console_actor(request.user, session_key=request.session.session_key, rights=rights))


def _no_entry(request: HttpRequest) -> HttpResponseBase:
    """The session ends here: the console's own way out is behind the door that is closed."""
    name = request.user.get_username()
    logout(request)
    return render(request, "console/no_entry.html", {"name": name}, status=403)
