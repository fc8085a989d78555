"""`Idempotency-Key`: a POST that is sent again with its key gets the answer of the first time."""

import hashlib
import re
from collections.abc import Callable
from functools import wraps
from typing import Any, Final, TypeVar

from django.http import HttpResponse
from django.http.response import HttpResponseBase
from rest_framework.renderers import JSONRenderer
from rest_framework.request import Request
from rest_framework.response import Response

from api.authentication import Principal
from api.refusals import IdempotencyKeyInvalid
from tenants.services import idempotency

HEADER: Final = "Idempotency-Key"
REPLAYED: Final = "Idempotent-Replayed"
MAX_LENGTH: Final = 255
PATTERN: Final = "^[!-~]([ -~]{0,253}[!-~])?$"  # printable ASCII; HTTP takes spaces off both ends

_F = TypeVar("_F", bound=Callable[..., HttpResponseBase])


def takes_idempotency_key(handler: _F) -> _F:
    """Say in the OpenAPI document that the handler answers a key's second request with the first one's answer."""
    handler.takes_idempotency_key = True  # type: ignore[attr-defined]
    return handler


def idempotent(handler: Callable[[Any, Request], Response]) -> Callable[[Any, Request], HttpResponseBase]:
    """Carry out the handler of a POST once a key. The view's transaction is open, and its body is not an upload."""

    @wraps(handler)
    def answer(view: Any, request: Request) -> HttpResponseBase:
        key = key_of(request)
        if key is None:
            return handler(view, request)
        # An answer may hold a new key's text: only who may do as much as the first caller is given it again.
        rights = ",".join(sorted(view.principal.rights)).encode()
        told = told_by(request, request._request.body, rights)
        return answer_once(view.principal, key, told, lambda: handler(view, request))

    return takes_idempotency_key(answer)


def key_of(request: Request) -> str | None:
    """The request's key, if it has one. Raises IdempotencyKeyInvalid."""
    key = request.headers.get(HEADER)
    if key is not None and not re.fullmatch(PATTERN, key):
        raise IdempotencyKeyInvalid(header=HEADER, max_length=MAX_LENGTH)
    return key


def told_by(request: Request, *parts: bytes) -> bytes:
    """What tells a request from others: its method, its path, and what else is given."""
    addressed = f"{request.method} {request.get_full_path()}".encode()
    return b"".join(hashlib.sha256(part).digest() for part in (addressed, *parts))


def answer_once(
    principal: Principal, key: str | None, told: bytes, answer: Callable[[], Response]
) -> HttpResponseBase:
    """`answer`'s answer, or the key's of before. An error rolls the transaction back, and with it the key's use.

    Raises IdempotencyKeyReused and IdempotencyInProgress.
    """
    if key is None:
        return answer()
    record = idempotency.claim(api_key=principal.key, idempotency_key=key, request=told)
    if record.status is not None:
        return HttpResponse(
            idempotency.kept_body(record),
            status=record.status,
            content_type=JSONRenderer.media_type,
            headers={REPLAYED: "true", "Cache-Control": "no-store"},
        )
    response = answer()
    idempotency.keep_answer(
        record=record, status=response.status_code, body=JSONRenderer().render(response.data)
    )
    return response
