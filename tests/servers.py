"""A PostgreSQL and a Valkey for one test session: the ones that the environment names, or two of its own."""

import os
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import psycopg
import pytest
from psycopg import sql
from psycopg.conninfo import make_conninfo

from deploy.embedded.database import DATABASE, OWNER, apply_roles
from deploy.embedded.ports import HeldPorts
from deploy.embedded.secrets import load_or_create
from deploy.embedded.servers import Servers as EmbeddedServers
from deploy.embedded.supervisor import Supervisor

TEMPLATE: Final = "template1"


@dataclass(frozen=True, kw_only=True)
class Servers:
    """Where a test session finds its servers, and how it stops those that it started."""

    database_url: str = field(repr=False)
    owner_database_url: str = field(repr=False)
    superuser_database_url: str = field(repr=False)  # for what looks at everything, or at what roles may be
    broker_url: str = field(repr=False)
    stop: Callable[[], None] = lambda: None


def start_servers(directory: Path, *, named: bool = True) -> Servers:
    """Start PostgreSQL and Valkey in an empty directory, each unless the environment names one already.

    Named ones: `DATABASE_URL` with `OWNER_DATABASE_URL` (its role has to be allowed to create databases) and
    `SUPERUSER_DATABASE_URL`, and `BROKER_URL`; `named=False` looks at none of them. A PostgreSQL that happens to be
    installed on this machine is never used.
    """
    environment = os.environ if named else {}
    database_url, broker_url = environment.get("DATABASE_URL"), environment.get("BROKER_URL")
    owner_database_url = environment.get("OWNER_DATABASE_URL") if database_url else None
    superuser_database_url = environment.get("SUPERUSER_DATABASE_URL") if database_url else None
    if database_url and not (owner_database_url and superuser_database_url):
        raise pytest.UsageError(
            "DATABASE_URL names a PostgreSQL to test on, which takes OWNER_DATABASE_URL and SUPERUSER_DATABASE_URL, "
            "too. Unset it: then the tests start one of their own."
        )
    if database_url and owner_database_url and superuser_database_url and broker_url:
        return Servers(
            database_url=database_url,
            owner_database_url=owner_database_url,
            superuser_database_url=superuser_database_url,
            broker_url=broker_url,
        )
    resources = ExitStack()
    ports = resources.enter_context(HeldPorts())
    supervisor = resources.enter_context(Supervisor(logs=directory / "logs"))
    secrets = load_or_create(directory / "secrets.json")
    own = EmbeddedServers.start(
        directory, supervisor=supervisor, ports=ports, secrets=secrets, test_mode=True
    )
    let_owner_create_databases(own.postgres.superuser_url)
    return Servers(
        database_url=database_url or own.database_url,
        owner_database_url=owner_database_url or own.owner_database_url,
        superuser_database_url=superuser_database_url
        or make_conninfo(own.postgres.superuser_url, dbname=DATABASE),
        broker_url=broker_url or own.broker_url,
        stop=resources.close,
    )


def let_owner_create_databases(superuser_url: str) -> None:
    """Let the owner make test databases, and give each the schema's owner and rights that production's has.

    Those are kept per database, and a new database copies them from the template.
    """
    apply_roles(superuser_url, database=TEMPLATE)
    with psycopg.connect(superuser_url) as connection:
        connection.execute(sql.SQL("ALTER ROLE {} CREATEDB").format(sql.Identifier(OWNER)))
