"""A name for each request, in its logs, its answer's header and its problem body."""

import re
from collections.abc import Callable

from django.http import HttpRequest, HttpResponseBase
from structlog.contextvars import bind_contextvars, clear_contextvars, get_contextvars

from api.client_address import client_address
from tenants import acting
from tenants.ids import encode, uuid7

HEADER = "X-Request-ID"
_SAFE = re.compile(r"[A-Za-z0-9._-]{1,64}")


class RequestIdMiddleware:
    """Takes the caller's id where it is harmless in a log, else makes one, and binds it to the log's context."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponseBase]) -> None:
        self._get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        """Answer with the id in force."""
        sent = request.headers.get(HEADER, "")
        request_id = sent if _SAFE.fullmatch(sent) else f"req_{encode(uuid7())}"
        # It stays bound until the thread's next request: Django logs an answer after the last middleware is left.
        clear_contextvars()
        bind_contextvars(request_id=request_id)
        origin = acting.Origin(address=client_address(request.META), request_id=request_id)
        with acting.through(origin):
            response = self._get_response(request)
        response[HEADER] = request_id
        return response


def current_request_id() -> str:
    """The id of the request that is being answered; empty outside of one."""
    return str(get_contextvars().get("request_id", ""))
