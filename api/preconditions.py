"""`ETag`, `If-Match` and `If-None-Match` (RFC 9110, 13): nobody overwrites what somebody else has just changed."""

import hashlib
import re
from collections.abc import Callable
from functools import wraps
from http import HTTPStatus
from typing import Any, Final, Protocol, TypeVar

from rest_framework.renderers import JSONRenderer
from rest_framework.request import Request
from rest_framework.response import Response

from api.refusals import PreconditionFailed, PreconditionInvalid
from tenants.errors import NotFound

ETAG: Final = "ETag"
IF_MATCH: Final = "If-Match"
IF_NONE_MATCH: Final = "If-None-Match"
_ANY: Final = "*"
_TAG: Final = r'(?:W/)?"[\x21\x23-\x7e\x80-\xff]*"'
# Possessive, so that no header takes long. Empty elements of a list are borne, as RFC 9110, 5.6.1.2 asks.
_LIST: Final = rf"[ \t]*+(?:{_TAG})?+(?:[ \t]*+,[ \t]*+(?:{_TAG})?+)*+[ \t]*+"


class Changeable(Protocol):
    """A view of what two people may change at once."""

    def hold(self) -> None:
        """Lock what the request would change until the transaction ends. Raises NotFound."""

    def representation(self) -> Any:
        """What a GET would answer now. Raises NotFound."""


_V = TypeVar("_V", bound=Changeable)


def conditional(handler: Callable[[_V, Request], Response]) -> Callable[[_V, Request], Response]:
    """Answer with an ETag, and heed what the request says about it.

    A write is compared under the row's lock: of several with one ETag the first passes, the others find another one.
    The handler answers with the view's representation, or with nothing. Its view's transaction is open.
    """

    @wraps(handler)
    def answer(view: _V, request: Request) -> Response:
        asked = {header: _tags(request, header) for header in (IF_MATCH, IF_NONE_MATCH)}
        if request.method in ("GET", "HEAD"):
            return _read(request, asked, handler(view, request))
        if any(asked.values()):
            _require(request, asked, _held(view))
        return _tagged(handler(view, request))

    answer.is_conditional = True  # type: ignore[attr-defined]  # for the OpenAPI document
    return answer


def etag_of(representation: Any) -> str:
    """A strong entity tag: the digest of the bytes that are sent."""
    return f'"{hashlib.sha256(JSONRenderer().render(representation)).hexdigest()}"'


def _read(request: Request, asked: dict[str, list[str]], response: Response) -> Response:
    etag = etag_of(response.data)
    if not _is_matched(asked[IF_MATCH], etag):
        raise PreconditionFailed(header=IF_MATCH, path=request.path)
    if not _is_unmatched(asked[IF_NONE_MATCH], etag):
        response = Response(status=HTTPStatus.NOT_MODIFIED)
    response[ETAG] = etag
    response["Cache-Control"] = "private, no-cache"  # may be kept, and is asked for again: access may end
    return response


def _held(view: Changeable) -> str | None:
    try:
        view.hold()
        return etag_of(view.representation())
    except NotFound:
        return None


def _require(request: Request, asked: dict[str, list[str]], etag: str | None) -> None:
    if not _is_matched(asked[IF_MATCH], etag):
        raise PreconditionFailed(header=IF_MATCH, path=request.path)
    if not _is_unmatched(asked[IF_NONE_MATCH], etag):
        raise PreconditionFailed(header=IF_NONE_MATCH, path=request.path)


def _tagged(response: Response) -> Response:
    if response.data is not None:
        response[ETAG] = etag_of(response.data)
    return response


def _is_matched(tags: list[str], etag: str | None) -> bool:
    """Strong comparison: a weak tag matches nothing."""
    return not tags or (etag is not None and (tags == [_ANY] or etag in tags))


def _is_unmatched(tags: list[str], etag: str | None) -> bool:
    """Weak comparison."""
    return etag is None or (tags != [_ANY] and etag not in [tag.removeprefix("W/") for tag in tags])


def _tags(request: Request, header: str) -> list[str]:
    """The header's entity tags, or `*`; none when it is not there. Raises PreconditionInvalid."""
    text = request.headers.get(header)
    if text is None:
        return []
    if text.strip() == _ANY:
        return [_ANY]
    tags: list[str] = re.findall(_TAG, text) if re.fullmatch(_LIST, text) else []
    if not tags:
        raise PreconditionInvalid(header=header)
    return tags
