"""System checks of the federation's side: records that were made append-only still are."""

from collections.abc import Iterator, Sequence
from typing import Any

from django.core import checks
from django.db import DEFAULT_DB_ALIAS, connections
from django.db.backends.utils import CursorWrapper

from federation.models import PrefixVersion, PublishRecord, RoundEvent
from tenants.scoping import APPLICATION_ROLE, PLATFORM_ROLE

APPEND_ONLY = (RoundEvent, PrefixVersion, PublishRecord)


@checks.register(checks.Tags.database)
def check_records(*, databases: Sequence[str] | None = None, **_: Any) -> list[checks.CheckMessage]:
    """Whether what happened can be rewritten by the application."""
    if DEFAULT_DB_ALIAS not in (databases or ()):
        return []
    with connections[DEFAULT_DB_ALIAS].cursor() as cursor:
        return [*record_problems(cursor)]


def record_problems(cursor: CursorWrapper) -> Iterator[checks.Error]:
    """Append-only tables that a role of the application may change."""
    for model in APPEND_ONLY:
        table = model._meta.db_table
        cursor.execute(
            "SELECT rolname::text FROM pg_roles, pg_class WHERE rolname = ANY (%s) AND relname = %s"
            " AND relnamespace = current_schema()::regnamespace"
            " AND has_table_privilege(rolname, pg_class.oid, 'UPDATE, DELETE, TRUNCATE')",
            [[APPLICATION_ROLE, PLATFORM_ROLE], table],
        )
        for (role,) in cursor.fetchall():
            message = f"{table} is append-only, and {role} may change or remove its rows."
            hint = f'Add append_only("{table}") to a migration of {model._meta.app_label}.'
            yield checks.Error(message, hint=hint, obj=model, id="federation.E001")
