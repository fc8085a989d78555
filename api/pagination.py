"""Lists in pages: a cursor names the key at which a page begins, so that rows which are added move nothing."""

from base64 import b64decode, b64encode
from typing import Any, TypeVar
from urllib.parse import parse_qs, urlencode

from django.core.exceptions import ValidationError as FieldInvalid
from django.db.models import Field, Model, QuerySet
from rest_framework.exceptions import NotFound, ValidationError
from rest_framework.pagination import Cursor, CursorPagination
from rest_framework.request import Request
from rest_framework.views import APIView

from api.refusals import CursorInvalid

M = TypeVar("M", bound=Model)


class NewestFirst(CursorPagination):
    """Pages by descending key: keys are time-ordered."""

    ordering = "-id"
    page_size = 50
    page_size_query_param = "page_size"
    max_page_size = 200

    _key: "Field[Any, Any]"

    def paginate_queryset(  # type: ignore[override]  # sequences have no keys to begin at
        self, queryset: QuerySet[M], request: Request, view: APIView | None = None
    ) -> list[M]:
        """The page that the request asks for. Raises CursorInvalid, and ValidationError for the page's size."""
        self._key = queryset.model._meta.get_field(self.ordering.removeprefix("-"))
        return super().paginate_queryset(queryset, request, view) or []

    def get_page_size(self, request: Request) -> int:
        """As asked for, within bounds."""
        asked = request.query_params.get("page_size")
        if asked is None:
            return self.page_size
        # Python refuses to read numbers of thousands of digits.
        size = int(asked) if asked.isascii() and asked.isdigit() and len(asked) <= 9 else 0
        if not 1 <= size <= self.max_page_size:
            problem = f"A page has 1 to {self.max_page_size} rows."
            raise ValidationError({"page_size": problem}, code="out_of_range")
        return size

    def decode_cursor(self, request: Request) -> Cursor | None:
        """The cursor of the request, if it is one of this list. Raises CursorInvalid."""
        try:
            cursor = super().decode_cursor(request)
        except NotFound:
            raise CursorInvalid() from None
        if cursor is not None:
            self._check(cursor)
        return cursor

    def _check(self, cursor: Cursor) -> None:
        """Keys are unique, so that every cursor of ours has a position and no offset."""
        try:
            key = self._key.to_python(cursor.position)
        except FieldInvalid:
            key = None
        if key is None or cursor.offset:
            raise CursorInvalid()


class NewestDayFirst(NewestFirst):
    """Pages by descending day, of rows of which each has a day of its own."""

    ordering = "-day"


class InOrder(NewestFirst):
    """Pages of what has a place in a stream, by that place: for what is followed as it happens."""

    ordering = "number"


def cursor_after(number: int) -> str:
    """The cursor of the page, and of the stream, that goes on after this place."""
    return b64encode(urlencode({"p": number}).encode()).decode()


def place_of(cursor: str) -> int:
    """The number that `cursor_after` made the cursor of. Raises CursorInvalid."""
    try:
        [text] = parse_qs(b64decode(cursor, validate=True).decode(), strict_parsing=True)["p"]
        number = int(text)
    except (ValueError, KeyError):
        raise CursorInvalid() from None
    if cursor_after(number) != cursor:
        raise CursorInvalid()
    return number
