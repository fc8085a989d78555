"""Whether row-level security stands as `tenants.wall` puts it up, and binds the role that the application has."""

import re
from collections.abc import Iterator

from django.apps import apps
from django.core import checks
from django.db import models
from django.db.backends.utils import CursorWrapper

from tenants.models import Tenant
from tenants.scoping import APPLICATION_ROLE, PLATFORM_ROLE
from tenants.wall import Policy, policies

_COMMANDS = {"*": "ALL", "r": "SELECT", "a": "INSERT", "w": "UPDATE", "d": "DELETE"}


def walled_models() -> dict[type[models.Model], str]:
    """Every model whose table holds tenants' rows, with the column that says whose."""
    found: dict[type[models.Model], str] = {Tenant: "id"}
    for model in apps.get_models(include_auto_created=True):
        fields = [field for field in model._meta.concrete_fields if field.related_model is Tenant]
        if fields and not model._meta.proxy:
            found[model] = str(fields[0].column)
    return found


def role_problems(cursor: CursorWrapper) -> Iterator[checks.Error]:
    """What would let the role that this connection logs in as pass the wall."""
    cursor.execute(
        "SELECT session_user, array_agg(rolname::text) FILTER (WHERE rolsuper OR rolbypassrls)"
        " FROM pg_roles WHERE rolname IN (session_user, %s)",
        [PLATFORM_ROLE],
    )
    login, unbound = cursor.fetchall()[0]
    if login != APPLICATION_ROLE:
        message = f"The application logs in as {login}; the policies bind {APPLICATION_ROLE}."
        yield checks.Error(message, hint="Correct the user in DATABASE_URL.", id="tenants.E001")
    for role in unbound or ():
        message = f"Row-level security does not bind {role}: it is a superuser or has BYPASSRLS."
        yield checks.Error(message, hint="Run deploy/postgres/roles.sql again.", id="tenants.E002")
    cursor.execute(
        "SELECT relname FROM pg_class WHERE relkind IN ('r', 'p') AND relnamespace = current_schema()::regnamespace"
        " AND pg_has_role(session_user, relowner, 'MEMBER') ORDER BY relname"
    )
    if owned := [name for (name,) in cursor.fetchall()]:
        message = (
            f"The application's role {login} owns tables, or is a member of their owner: {', '.join(owned)}."
        )
        hint = "Migrate as the owner (OWNER_DATABASE_URL), and run deploy/postgres/roles.sql again."
        yield checks.Error(message, hint=hint, id="tenants.E003")


def wall_problems(cursor: CursorWrapper) -> Iterator[checks.Error]:
    """Tables of tenants' rows that are not walled as `tenants.wall` walls them. A missing table is the migrations'."""
    cursor.execute(
        "SELECT relname, relrowsecurity, relforcerowsecurity FROM pg_class"
        " WHERE relnamespace = current_schema()::regnamespace"
    )
    tables = {name: (is_on, is_forced) for name, is_on, is_forced in cursor.fetchall()}
    present = _policies_present(cursor)
    for model, column in walled_models().items():
        table = model._meta.db_table
        if table in tables:
            made = policies(
                column=column,
                shared_rows=getattr(model, "has_shared_rows", False),
                owner_rows=getattr(model, "has_owner_rows", False),
            )
            wanted = {name: _plain(policy) for name, policy in made.items()}
            yield from _table_problems(model, *tables[table], wanted, present.get(table, {}))


def _table_problems(
    model: type[models.Model],
    is_on: bool,
    is_forced: bool,
    wanted: dict[str, Policy],
    present: dict[str, Policy],
) -> Iterator[checks.Error]:
    table = model._meta.db_table
    hint = f'Add tenant_wall("{table}") to a migration of {model._meta.app_label}.'
    if not (is_on and is_forced):
        message = f"{table} holds tenants' rows, and row-level security is not both enabled and forced."
        yield checks.Error(message, hint=hint, obj=model, id="tenants.E004")
    for name in sorted(wanted.keys() | present.keys()):
        if wanted.get(name) != present.get(name):
            problem = "is missing" if name not in present else "is not what tenants.wall makes"
            message = f"{table} holds tenants' rows, and its policy {name} {problem}."
            yield checks.Error(message, hint=hint, obj=model, id="tenants.E005")


def _policies_present(cursor: CursorWrapper) -> dict[str, dict[str, Policy]]:
    """The policies that the database has, by table and name. One with several roles, or restrictive, equals none."""
    cursor.execute(
        "SELECT polrelid::regclass::text, polname,"
        " CASE WHEN polpermissive THEN '' ELSE 'restrictive ' END || polcmd::text,"
        " ARRAY(SELECT rolname::text FROM pg_roles WHERE oid = ANY (polroles)),"
        " pg_get_expr(polqual, polrelid), pg_get_expr(polwithcheck, polrelid) FROM pg_policy"
    )
    found: dict[str, dict[str, Policy]] = {}
    for table, name, command, roles, using, check in cursor.fetchall():
        policy = _plain(Policy(", ".join(roles) or "public", using or "", check))
        if _COMMANDS.get(command) != policy.command:
            policy = Policy(f"{policy.role} for {command}", policy.using, policy.check)
        found.setdefault(table.strip('"'), {})[name] = policy
    return found


def _plain(policy: Policy) -> Policy:
    """The same without what PostgreSQL adds to an expression, or leaves out, when it prints it."""
    check = None if policy.check is None else _plain_expression(policy.check)
    return Policy(policy.role, _plain_expression(policy.using), check)


def _plain_expression(expression: str) -> str:
    return re.sub(r'\s|[()]|::\w+|AS "nullif"', "", expression).lower()
