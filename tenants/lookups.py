"""One row by its key, asked for so often that Django writes the SQL once: that takes longer than the answer does."""

from collections.abc import Callable
from functools import cache
from typing import Any, Generic, NamedTuple, TypeVar
from uuid import UUID

from django.db import connection, models
from django.db.models.query import get_related_populators

from tenants import scoping
from tenants.errors import NotFound
from tenants.ids import Identified

M = TypeVar("M", bound=models.Model)
N = TypeVar("N", bound=Identified)
_SOME_KEY, _SOME_TENANT = (
    UUID(int=0),
    UUID(int=1),
)  # stand for both among the parameters of the SQL that was written


class _Written(NamedTuple, Generic[M]):
    """SQL for any key and tenant, and how a row is made of what it finds."""

    statement: str
    parameters: tuple[Any, ...]
    make: Callable[[list[tuple[Any, ...]]], M]

    def parameters_for(self, key: UUID) -> list[Any]:
        """With the key, and the tenant in force."""
        scope = scoping.in_force()
        known = {_SOME_KEY: key, _SOME_TENANT: scope and scope.tenant_id}
        return [known.get(one, one) if isinstance(one, UUID) else one for one in self.parameters]


class Lookup(Generic[M]):
    """One row by its key, with the related rows that `rows` selects, in one round trip.

    `rows` gives the query for a key. It is asked once in a tenant's scope, and once in the platform's: what else the
    answer depends on, such as the time, is for the database to say.
    """

    def __init__(self, rows: Callable[[UUID], "models.QuerySet[M]"]) -> None:
        self._rows = rows
        self._written: dict[bool, _Written[M]] = {}

    def find(self, key: UUID) -> M | None:
        """The row, if the scope in force shows it."""
        written = self._in_scope()
        with connection.cursor() as cursor:
            cursor.execute(written.statement, written.parameters_for(key))
            found = list(cursor.fetchall())
        return written.make(found) if found else None

    def _in_scope(self) -> _Written[M]:
        is_platform = scoping.is_platform()
        if is_platform not in self._written:
            self._written[is_platform] = _write(self._rows(_SOME_KEY))
        return self._written[is_platform]


def _write(rows: "models.QuerySet[M]") -> _Written[M]:
    # The connection here is the running thread's, whichever thread comes first.
    compiler: Any = rows.query.get_compiler(connection=connection)
    statement, parameters = compiler.as_sql()
    scope = scoping.in_force()
    tenant_id = scope and scope.tenant_id
    converters = compiler.get_converters([column for column, *_ in compiler.select])
    columns = compiler.klass_info["select_fields"]
    names = [compiler.select[column][0].target.attname for column in columns]
    related = get_related_populators(  # type: ignore[call-arg]  # the stubs are of a later Django
        compiler.klass_info, compiler.select, "default"
    )

    def make(found: list[tuple[Any, ...]]) -> M:
        [values] = compiler.apply_converters(found, converters)
        row: M = compiler.klass_info["model"].from_db("default", names, values[: len(names)])
        for one in related:
            one.populate(values, row)
        return row

    general = (_SOME_TENANT if tenant_id and one == tenant_id else one for one in parameters)
    return _Written(statement, tuple(general), make)


def pick(rows: "Callable[[], models.QuerySet[N]]", public_id: str) -> N:
    """The row of that name among those that a selector gives in the scope in force. Raises NotFound."""
    model, lookup = _lookup_among(rows)
    found: N | None = lookup.find(model.key_from(public_id))
    if found is None:
        raise NotFound(kind=str(model._meta.verbose_name), public_id=public_id)
    return found


@cache
def _lookup_among(rows: "Callable[[], models.QuerySet[N]]") -> tuple[type[N], Lookup[N]]:
    return rows().model, Lookup(lambda key: rows().filter(pk=key))
