"""Whether keys keep tenants apart: foreign keys that cannot cross the wall, duplicates that tell nothing across it.

PostgreSQL checks both kinds past row-level security.
"""

from collections.abc import Iterator

from django.core import checks
from django.db import models
from django.db.backends.utils import CursorWrapper

from tenants.checks.wall import walled_models
from tenants.models import Tenant

Key = tuple[str, str, frozenset[tuple[str, str]]]  # table, target, pairs of columns


def foreign_key_problems(cursor: CursorWrapper) -> Iterator[checks.Error]:
    """Foreign keys between two tables of tenants' rows that could name another tenant's row."""
    present = _foreign_keys_present(cursor)
    tables = {table for table, _, _ in present}  # every migrated one is here: its key to the tenant's table
    walled = walled_models()
    for model, column in walled.items():
        for field in model._meta.concrete_fields:
            target = field.related_model
            if not isinstance(target, type) or target is Tenant or target not in walled:
                continue
            table, target_table = model._meta.db_table, target._meta.db_table
            pairs = frozenset({(column, walled[target]), (str(field.column), str(target._meta.pk.column))})
            if table in tables and (table, target_table, pairs) not in present:
                message = f"{table}.{field.column} may name a row of {target_table} that another tenant owns."
                hint = (
                    f'Add same_tenant("{table}", "{field.column}", target="{target_table}") to a migration.'
                )
                yield checks.Error(message, hint=hint, obj=model, id="tenants.E006")


def unique_problems() -> Iterator[checks.Error]:
    """Unique rules over several tenants' rows. Primary keys are left out: they are random, and cannot be guessed."""
    for model in walled_models():
        if model is Tenant:  # only the platform makes tenants
            continue
        unique = [[field.name] for field in model._meta.fields if field.unique and not field.primary_key]
        unique += [list(fields) for fields in model._meta.unique_together]
        for constraint in model._meta.constraints:
            if isinstance(constraint, models.UniqueConstraint):
                unique.append(list(constraint.fields))
        for fields in unique:
            if "tenant" not in fields:
                named = ", ".join(fields) or "an expression"
                message = f"{model._meta.db_table} is unique by {named} over all tenants' rows."
                hint = "Add the tenant to the rule: else a refusal tells that another tenant has such a row."
                yield checks.Error(message, hint=hint, obj=model, id="tenants.E007")


def _foreign_keys_present(cursor: CursorWrapper) -> set[Key]:
    cursor.execute(
        "SELECT source.relname, target.relname, array_agg(ARRAY[own.attname::text, other.attname::text])"
        " FROM pg_constraint AS foreign_key"
        " JOIN pg_class AS source ON source.oid = conrelid JOIN pg_class AS target ON target.oid = confrelid"
        " CROSS JOIN unnest(conkey, confkey) AS pair (own_number, other_number)"
        " JOIN pg_attribute AS own ON own.attrelid = conrelid AND own.attnum = own_number"
        " JOIN pg_attribute AS other ON other.attrelid = confrelid AND other.attnum = other_number"
        " WHERE contype = 'f' AND connamespace = current_schema()::regnamespace"
        " GROUP BY foreign_key.oid, source.relname, target.relname"
    )
    return {
        (table, target, frozenset((own, other) for own, other in pairs))
        for table, target, pairs in cursor.fetchall()
    }
