"""Rows as JSON's values, written from a plan that is made once for each serializer.

REST framework copies a serializer's fields for every answer, and goes through several calls for every value; for a page
of fifty rows that took longer than the rest of the request.
"""

from collections.abc import Callable
from datetime import UTC, datetime
from functools import cache
from operator import attrgetter
from typing import Any, ClassVar, NamedTuple, TypeVar

from django.db.models import Model, QuerySet
from rest_framework import serializers

M = TypeVar("M")
R = TypeVar("R", bound=Model)

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

    # The columns that its methods read, and fields that read more than their source. With them said, lists are read as
    # columns alone; without, as whole rows of the model.
    reads: ClassVar[tuple[str, ...] | None] = None

    def to_representation(self, instance: M) -> dict[str, Any]:
        """The row by the names of the fields."""
        written = {}
        for name, method, read, write in _plan(type(self), isinstance(instance, tuple)):
            if method is not None:
                written[name] = method(self, instance)
                continue
            value = read(instance)
            written[name] = value if value is None or write is None else write(value)
        return written


def of_a_list(rows: "QuerySet[R]", serializer: type[serializers.Serializer[R]]) -> "QuerySet[R]":
    """The rows as a list needs them: named tuples of columns where the serializer says what it reads, else models.

    For fifty rows of a wide table, making models takes as long as everything else of the request.
    """
    if not issubclass(serializer, RowSerializer) or serializer.reads is None:
        return rows
    columns: QuerySet[Any] = rows.values_list(*_columns(serializer), named=True)
    return columns


@cache
def _columns(serializer: type[RowSerializer[Any]]) -> tuple[str, ...]:
    own = ["__".join(field.source_attrs) for field in serializer().fields.values() if field.source_attrs]
    return tuple(dict.fromkeys([*own, *(serializer.reads or ())]))


@cache
def _plan(serializer: type[RowSerializer[Any]], is_of_columns: bool) -> tuple[_Part, ...]:
    return tuple(_part(serializer, name, field, is_of_columns) for name, field in serializer().fields.items())


def _part(serializer: type[RowSerializer[Any]], name: str, field: Any, is_of_columns: bool) -> _Part:
    if isinstance(field, serializers.SerializerMethodField):
        return _Part(name, getattr(serializer, field.method_name or ""), field.get_attribute, None)
    if is_of_columns and field.source_attrs:
        return _Part(name, None, attrgetter("__".join(field.source_attrs)), _writing(field))
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
