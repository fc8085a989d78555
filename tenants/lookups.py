"""Lookups that every claim makes: Django writes their SQL once, which takes longer than the answer does."""

from collections.abc import Callable, Sequence
from functools import cached_property
from typing import Any, Generic, TypeVar
from uuid import UUID

from django.db import connection, models
from django.db.models.query import get_related_populators

M = TypeVar("M", bound=models.Model)
_SOME_KEY = UUID(int=0)  # stands for the key among the parameters of the SQL that was written


def _with_key(parameters: Sequence[Any], key: UUID) -> list[Any]:
    return [key if parameter == _SOME_KEY else parameter for parameter in parameters]


class Lookup(Generic[M]):
    """One row by its key, with the related rows that `rows` selects, in one round trip.

    `rows` gives the query for a key. It is asked once: what else the answer depends on, such as the time, is for the
    database to say.
    """

    def __init__(self, rows: Callable[[UUID], "models.QuerySet[M]"]) -> None:
        self._rows = rows

    def find_changed(self, change: str, given: Sequence[Any], key: UUID) -> tuple[int, M | None]:
        """Carry out a statement that changes rows, in the scope in force; how many, and the row as it then is."""
        statement, parameters, make = self._written
        with connection.cursor() as cursor:
            cursor.execute(f"{change}; {statement}", [*given, *_with_key(parameters, key)])
            n_changed = cursor.rowcount
            cursor.nextset()
            found = list(cursor.fetchall())
        return n_changed, make(found) if found else None

    @cached_property
    def _written(self) -> tuple[str, tuple[Any, ...], Callable[[list[tuple[Any, ...]]], M]]:
        # The connection here is the running thread's, whichever thread comes first.
        compiler: Any = self._rows(_SOME_KEY).query.get_compiler(connection=connection)
        statement, parameters = compiler.as_sql()
        columns = compiler.klass_info["select_fields"]
        names = [compiler.select[column][0].target.attname for column in columns]
        related = get_related_populators(  # type: ignore[call-arg]  # the stubs are of a later Django
            compiler.klass_info, compiler.select, "default"
        )

        def make(found: list[tuple[Any, ...]]) -> M:
            values = next(compiler.results_iter([found]))
            row: M = compiler.klass_info["model"].from_db("default", names, values[: len(names)])
            for one in related:
                one.populate(values, row)
            return row

        return statement, parameters, make
