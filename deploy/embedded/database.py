"""The database and its roles on an embedded server: `deploy/postgres/roles.sql` plus passwords."""

from pathlib import Path
from typing import Final

import psycopg
from psycopg import sql
from psycopg.conninfo import make_conninfo

ROLES_FILE: Final = Path(__file__).resolve().parents[1] / "postgres" / "roles.sql"
DATABASE: Final = "prelude"
OWNER: Final = "prelude_owner"
APP: Final = "prelude_app"


def set_up_database(superuser_url: str, *, owner_password: str, app_password: str) -> None:
    """Make the database if it is missing, and bring the roles and rights to what they should be."""
    create_database(superuser_url)
    apply_roles(superuser_url, database=DATABASE)
    with psycopg.connect(superuser_url) as connection:
        set_password(connection, role=OWNER, password=owner_password)
        set_password(connection, role=APP, password=app_password)


def create_database(superuser_url: str) -> None:
    """Create the empty database unless it exists."""
    with psycopg.connect(superuser_url, autocommit=True) as connection:
        known = connection.execute("SELECT FROM pg_database WHERE datname = %s", [DATABASE])
        if known.fetchone() is None:
            connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(DATABASE)))


def apply_roles(superuser_url: str, *, database: str) -> None:
    """Run the roles' file inside one database, in one transaction."""
    with psycopg.connect(make_conninfo(superuser_url, dbname=database)) as connection:
        connection.execute(ROLES_FILE.read_bytes())


def set_password(connection: "psycopg.Connection[tuple[object, ...]]", *, role: str, password: str) -> None:
    """Give a role its password. Only the SCRAM verifier travels: no log can show the password."""
    verifier = connection.pgconn.encrypt_password(password.encode(), role.encode(), b"scram-sha-256").decode()
    statement = sql.SQL("ALTER ROLE {} PASSWORD {}").format(sql.Identifier(role), sql.Literal(verifier))
    connection.execute(statement)
