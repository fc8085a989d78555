"""Rows as JSON's values, written from a plan that is made once for each serializer.

REST framework copies a serializer's fields for every answer, and goes through several calls for every value; for a page
of fifty rows that took longer than the rest of the request.
"""

from collections.abc import Callable
from datetime import UTC, datetime
from functools import cache
from operator import attrgetter
from typing import Any, NamedTuple, TypeVar

from rest_framework import serializers

M = TypeVar("M")

# What these write of a value that comes from a column is the value.
_SAME = (
    serializers.CharField.to_representation,
    serializers.ChoiceField.to_representation,
    serializers.FloatField.to_representation,
    serializers.IntegerField.to_representation,
    serializers.JSONField.to_representation,
)


class _Part(NamedTuple):
    """How one field of an answer comes about: by a method of the serializer, or read from the row and written."""

    name: str
    method: Callable[[Any, Any], Any] | None
    read: Callable[[Any], Any]
    write: Callable[[Any], Any] | None  # none: as it was read


class RowSerializer(serializers.Serializer[M]):
    """Writes rows as its fields and methods say, quicker than its base. Not for what callers send: that is a `Body`."""

    def to_representation(self, instance: M) -> dict[str, Any]:
        """The row by the names of the fields."""
        written = {}
        for name, method, read, write in _plan(type(self)):
            if method is not None:
                written[name] = method(self, instance)
                continue
            value = read(instance)
            written[name] = value if value is None or write is None else write(value)
        return written


@cache
def _plan(serializer: type[RowSerializer[Any]]) -> tuple[_Part, ...]:
    return tuple(_part(serializer, name, field) for name, field in serializer().fields.items())


def _part(serializer: type[RowSerializer[Any]], name: str, field: Any) -> _Part:
    if isinstance(field, serializers.SerializerMethodField):
        return _Part(name, getattr(serializer, field.method_name or ""), field.get_attribute, None)
    # A path over several rows may end early: REST framework knows what that means for the field.
    read = attrgetter(field.source) if len(field.source_attrs) == 1 else field.get_attribute
    return _Part(name, None, read, _writing(field))


def _writing(field: Any) -> Callable[[Any], Any] | None:
    kind = type(field).to_representation
    if kind is serializers.DateTimeField.to_representation:
        return _moment
    return None if kind in _SAME else field.to_representation


def _moment(at: datetime) -> str:
    return at.astimezone(UTC).isoformat().removesuffix("+00:00") + "Z"
