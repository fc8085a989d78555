"""The console works across tenants: an operator's requests to it run in the platform's scope, one transaction each."""

from collections.abc import Callable

from django.http import HttpRequest, HttpResponseBase

from tenants import scoping

CONSOLE_PATH = "/console/"


class ConsoleScopeMiddleware:
    """Enters the platform's scope for staff that is signed in, and for nobody else."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponseBase]) -> None:
        self._get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        """Answer within the scope; a template response is rendered inside of it."""
        if not (request.path.startswith(CONSOLE_PATH) and request.user.is_active and request.user.is_staff):
            return self._get_response(request)
        with scoping.platform():
            return self._get_response(request)
