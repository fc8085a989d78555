"""The console works across tenants: an operator's requests to it run in the platform's scope, one transaction each."""

from collections.abc import Callable

from django.db import transaction
from django.http import HttpRequest, HttpResponseBase

from tenants import acting, scoping
from tenants.services.accounts import console_actor

CONSOLE_PATH = "/console/"


class ConsoleScopeMiddleware:
    """Enters the platform's scope for staff that is signed in, and for nobody else.

    It has to be the innermost middleware: templates are rendered before it leaves the scope, and nothing that only the
    platform may see is left to be read afterwards.
    """

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponseBase]) -> None:
        self._get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        """Answer within the scope. What a failed request has written is taken back."""
        if not (request.path.startswith(CONSOLE_PATH) and request.user.is_active and request.user.is_staff):
            return self._get_response(request)
        actor = console_actor(request.user, session_key=request.session.session_key)
        with acting.by(actor), scoping.platform():
            response = self._get_response(request)
            # An exception has become an answer by now; left alone, half of its work would be committed.
            if response.status_code >= 500:
                transaction.set_rollback(True)
            return response
