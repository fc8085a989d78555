"""On whose behalf the database is asked: row-level security, set with the transaction and never with the session.

Entry points (views, tasks, commands, the console) enter a scope; services and selectors only run inside one. With
none in force PostgreSQL shows no tenant's rows and the managers refuse before it is asked: two walls, both failing
closed.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any, TypeVar
from uuid import UUID

from django.db import OperationalError, connection, models, transaction

from tenants.errors import ScopeMissing, ScopeReadOnly

PLATFORM_ROLE = "prelude_platform"
APPLICATION_ROLE = "prelude_app"
SETTING = "app.tenant_id"

M = TypeVar("M", bound=models.Model)


@dataclass(frozen=True)
class Scope:
    """The database role and the tenant in force; `tenant_id` is None for the platform's own work across tenants."""

    role: str
    tenant_id: UUID | None
    is_reading: bool = False  # then there is no transaction: each statement carries its scope, as in `single`


_PLATFORM = Scope(role=PLATFORM_ROLE, tenant_id=None)
_SET = "SELECT set_config('role', %s, true), set_config(%s, %s, true)"
_IN_FORCE: ContextVar[Scope | None] = ContextVar("scope_in_force", default=None)


def in_force() -> Scope | None:
    """The scope that the running code is in, if any."""
    return _IN_FORCE.get()


def is_platform() -> bool:
    """Whether the platform's scope is in force, not a tenant's. Raises ScopeMissing."""
    scope = in_force()
    if scope is None:
        raise ScopeMissing()
    return scope.tenant_id is None


@contextmanager
def tenant(tenant_id: UUID) -> Iterator[None]:
    """A transaction that sees and writes this tenant's rows alone."""
    with _enter(Scope(role="none", tenant_id=tenant_id)):
        yield


@contextmanager
def platform() -> Iterator[None]:
    """A transaction of the platform's own work across tenants, as the database role `prelude_platform`."""
    with _enter(_PLATFORM):
        yield


@contextmanager
def reading(tenant_id: UUID | None) -> Iterator[None]:
    """The tenant's scope, or the platform's without one, for reading and without a transaction of its own.

    Each statement carries its scope: PostgreSQL runs what one message holds as one transaction. Who reads one row waits
    for the database once instead of four times, and in READ COMMITTED a transaction would show nothing else. What is
    not a SELECT raises ScopeReadOnly.
    """
    with _carried(tenant_id, n_writes=0):
        yield


@contextmanager
def single(tenant_id: UUID | None) -> Iterator[None]:
    """The tenant's scope, or the platform's without one, for one statement that writes, a transaction of its own.

    It carries its scope as what `reading` reads does; a second one that writes raises ScopeReadOnly. It is asked again
    where the connection was lost: so it finds nothing left to do when it is said twice.
    """
    with _carried(tenant_id, n_writes=1):
        yield


@contextmanager
def _carried(tenant_id: UUID | None, *, n_writes: int) -> Iterator[None]:
    outer = _IN_FORCE.get()
    role = PLATFORM_ROLE if tenant_id is None else "none"
    token = _IN_FORCE.set(Scope(role=role, tenant_id=tenant_id, is_reading=True))
    # What was worked out for hours is not thrown away because the connection was lost meanwhile.
    is_worth_asking_twice = n_writes > 0 and not connection.in_atomic_block
    carrier = _Carrier(is_first=_take_over_health_check() or is_worth_asking_twice, n_writes=n_writes)
    try:
        with connection.execute_wrapper(carrier):
            yield
    finally:
        _IN_FORCE.reset(token)
        if carrier.is_first:
            _leave_health_check()
        if connection.in_atomic_block and not connection.needs_rollback:
            _apply(outer)  # what was carried into a longer transaction is still set there


class _Carrier:
    """Sends each statement with the scope in force. The first one may find the connection lost, and opens it anew."""

    def __init__(self, *, is_first: bool, n_writes: int) -> None:
        self.is_first = is_first
        self._n_writes = n_writes

    def __call__(
        self,
        execute: Callable[..., Any],
        statement: str,
        parameters: Any,
        many: bool,
        context: dict[str, Any],
    ) -> Any:
        """An execute wrapper of Django's. Raises ScopeReadOnly."""
        scope = _IN_FORCE.get()
        if scope is None or not scope.is_reading:
            return execute(statement, parameters, many, context)  # of a scope within, which has a transaction
        if not statement.startswith("SELECT "):
            if not self._n_writes:
                raise ScopeReadOnly()
            self._n_writes -= 1
        message = f"{_SET}; {statement}", [*_parameters(scope), *(parameters or ())]
        is_first, self.is_first = self.is_first, False
        try:
            answer = execute(*message, many, context)
        except OperationalError:
            if not is_first:
                raise
            connection.close()
            connection.ensure_connection()
            context["cursor"].cursor = connection.create_cursor()
            answer = execute(*message, many, context)
        context["cursor"].nextset()
        return answer


def _take_over_health_check() -> bool:
    """Whether Django would now ask if the connection still lives. It does not any more: the next statement tells."""
    if connection.in_atomic_block or connection.health_check_done:  # type: ignore[attr-defined]  # not in the stubs
        return False
    if connection.connection is not None and connection.connection.closed:
        return False  # known to be lost: Django opens another one
    connection.health_check_done = True  # type: ignore[attr-defined]
    return True


def _leave_health_check() -> None:
    connection.health_check_done = False  # type: ignore[attr-defined]  # not in the stubs


@contextmanager
def _enter(scope: Scope) -> Iterator[None]:
    outer = _IN_FORCE.get()
    if outer is not None and outer.is_reading and not connection.in_atomic_block:
        _leave_health_check()  # a transaction cannot begin anew
    token = _IN_FORCE.set(scope)
    try:
        with transaction.atomic():
            _apply(scope)
            yield
            if connection.savepoint_ids and not connection.needs_rollback:
                # SET LOCAL outlives a savepoint: within a longer transaction the outer scope is put back by hand.
                # (A savepoint that is rolled back puts it back by itself.)
                _apply(outer)
    finally:
        _IN_FORCE.reset(token)


def ask_platform(statement: str, parameters: Sequence[Any]) -> list[tuple[Any, ...]]:
    """The rows that one statement finds in the platform's scope, in one round trip, and in a transaction of its own.

    The scope travels with the statement: PostgreSQL runs what one message holds as one transaction. It goes back to
    what it was for the case that a longer one is open. Where Django would first ask whether the connection still lives,
    it answers that too: one that is lost is opened anew, and asked again. So the statement reads, or what it writes may
    be written twice.
    """
    is_first = _take_over_health_check()
    try:
        return _ask_platform(statement, parameters)
    except OperationalError:
        if not is_first:
            raise
        connection.close()
        return _ask_platform(statement, parameters)


def _ask_platform(statement: str, parameters: Sequence[Any]) -> list[tuple[Any, ...]]:
    enter, leave = _parameters(_PLATFORM), _parameters(_IN_FORCE.get())
    with connection.cursor() as cursor:
        cursor.execute(f"{_SET}; {statement}; {_SET}", [*enter, *parameters, *leave])
        cursor.nextset()
        return list(cursor.fetchall())


def _apply(scope: Scope | None) -> None:
    with connection.cursor() as cursor:
        cursor.execute(_SET, _parameters(scope))


def _parameters(scope: Scope | None) -> list[str]:
    tenant_text = str(scope.tenant_id) if scope and scope.tenant_id else ""
    return [scope.role if scope else "none", SETTING, tenant_text]


class ScopedManager(models.Manager[M]):
    """Fails closed: without a scope it raises, with a tenant's it filters, with the platform's it sees all."""

    tenant_column = "tenant_id"

    def get_queryset(self) -> models.QuerySet[M]:
        scope = in_force()
        if scope is None:
            raise ScopeMissing()
        queryset = super().get_queryset()
        return (
            queryset if scope.tenant_id is None else queryset.filter(**{self.tenant_column: scope.tenant_id})
        )


class TenantTableManager(ScopedManager[M]):
    """The same for the table of tenants itself."""

    tenant_column = "id"
