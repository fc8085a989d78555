"""System checks of the tenant wall and of final states: what migrations are to have made, read from the database.

They need a connection, so `manage.py check` leaves them out unless it is told: `manage.py check --database default`.
`/readyz` runs them too. Only the application's connection is judged: the owner's is not bound by the wall, and a
check on it would stop the very migration that puts the wall up.
"""

from collections.abc import Sequence
from typing import Any

from django.conf import settings
from django.core import checks
from django.db import DEFAULT_DB_ALIAS, connections

from tenants.checks.final_states import final_state_problems
from tenants.checks.keys import foreign_key_problems, unique_problems
from tenants.checks.wall import role_problems, wall_problems


@checks.register(checks.Tags.database)
def check_wall(*, databases: Sequence[str] | None = None, **_: Any) -> list[checks.CheckMessage]:
    """Whether the wall between tenants stands in the application's database."""
    if DEFAULT_DB_ALIAS not in (databases or ()):
        return []
    with connections[DEFAULT_DB_ALIAS].cursor() as cursor:
        return [*role_problems(cursor), *wall_problems(cursor), *foreign_key_problems(cursor)]


@checks.register(checks.Tags.database)
def check_final_states(*, databases: Sequence[str] | None = None, **_: Any) -> list[checks.CheckMessage]:
    """Whether what has ended can begin again in the application's database."""
    if DEFAULT_DB_ALIAS not in (databases or ()):
        return []
    with connections[DEFAULT_DB_ALIAS].cursor() as cursor:
        return list(final_state_problems(cursor))


@checks.register(checks.Tags.models)
def check_uniqueness(**_: Any) -> list[checks.CheckMessage]:
    """Whether a refused duplicate could tell that another tenant has a row."""
    return list(unique_problems())


@checks.register()
def check_leases(**_: Any) -> list[checks.CheckMessage]:
    """Whether a worker that lives can keep its lease."""
    if settings.BEAT_SECONDS * 2 <= settings.LEASE_SECONDS:
        return []
    message = f"A lease of {settings.LEASE_SECONDS} s outlives no beat missed of {settings.BEAT_SECONDS} s."
    hint = "Set PRELUDE_BEAT_SECONDS to at most half of PRELUDE_LEASE_SECONDS."
    return [checks.Error(message, hint=hint, id="tenants.E010")]
