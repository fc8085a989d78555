"""PostgreSQL and Valkey out of their packages: who may do what on them, and how they take a kill -9."""

import os
import signal
from pathlib import Path

import psycopg
import pytest
from psycopg import errors
from redis import Redis
from redis.exceptions import AuthenticationError

from deploy.embedded.database import set_up_database
from deploy.embedded.errors import DataFromAnotherRelease
from deploy.embedded.ports import HeldPorts
from deploy.embedded.postgres import PostgresServer
from deploy.embedded.secrets import load_or_create
from deploy.embedded.servers import Servers, wait_until_ready
from deploy.embedded.supervisor import Supervisor
from deploy.embedded.valkey import ONE_TRY, program

TABLE = "CREATE TABLE walls (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, words text)"


@pytest.fixture
def table(embedded_servers: Servers) -> None:
    """A table that a migration of the owner could have made, with one row."""
    with psycopg.connect(embedded_servers.owner_database_url) as owner:
        owner.execute("DROP TABLE IF EXISTS walls")
        owner.execute(TABLE)
        owner.execute("INSERT INTO walls (words) VALUES ('by the owner')")


def attributes(servers: Servers, role: str) -> dict[str, bool]:
    """What a role is, as the server sees it."""
    names = (
        "rolcanlogin",
        "rolinherit",
        "rolsuper",
        "rolbypassrls",
        "rolcreatedb",
        "rolcreaterole",
        "rolreplication",
    )
    with psycopg.connect(servers.owner_database_url) as connection:
        query = "SELECT to_jsonb(r) FROM pg_roles r WHERE rolname = %s"
        row = connection.execute(query, [role]).fetchone()
    assert row is not None
    return {name: row[0][name] for name in names}


@pytest.mark.parametrize(
    ("role", "granted"),
    [
        ("prelude_owner", {"rolcanlogin", "rolinherit"}),
        ("prelude_app", {"rolcanlogin"}),
        ("prelude_platform", {"rolinherit"}),
    ],
)
def test_each_role_is_no_more_than_it_has_to_be(
    embedded_servers: Servers, role: str, granted: set[str]
) -> None:
    found = attributes(embedded_servers, role)
    assert {name for name, is_set in found.items() if is_set} == granted


def test_a_client_that_falls_silent_within_a_transaction_is_cut_off(embedded_servers: Servers) -> None:
    with psycopg.connect(embedded_servers.database_url) as connection:
        found = connection.execute("SHOW idle_in_transaction_session_timeout").fetchone()
    assert found == ("5min",)


def test_the_servers_log_holds_no_values_of_a_refused_statement(embedded_servers: Servers) -> None:
    with psycopg.connect(embedded_servers.database_url, autocommit=True) as connection:
        for name, value in (("log_min_error_statement", "panic"), ("log_error_verbosity", "terse")):
            assert connection.execute(f"SHOW {name}").fetchone() == (value,)
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                connection.execute(f"SET {name} = DEFAULT")


@pytest.mark.parametrize(
    "statement",
    [
        "CREATE TABLE mine (id int)",
        "CREATE SCHEMA mine",
        "CREATE TEMPORARY TABLE mine (id int)",
        "CREATE DATABASE mine",
        "CREATE ROLE mine",
        "DROP TABLE walls",
        "TRUNCATE walls",
        "ALTER TABLE walls DISABLE ROW LEVEL SECURITY",
        "SET ROLE prelude_owner",
        "SET ROLE postgres",
    ],
)
@pytest.mark.usefixtures("table")
def test_the_application_may_not(embedded_servers: Servers, statement: str) -> None:
    with (
        psycopg.connect(embedded_servers.database_url, autocommit=True) as app,
        pytest.raises(errors.InsufficientPrivilege),
    ):
        app.execute(statement.encode())


@pytest.mark.usefixtures("table")
def test_the_application_reads_and_writes_rows(embedded_servers: Servers) -> None:
    with psycopg.connect(embedded_servers.database_url) as app:
        app.execute("INSERT INTO walls (words) VALUES ('by the application')")
        app.execute("UPDATE walls SET words = upper(words)")
        app.execute("DELETE FROM walls WHERE words = 'BY THE OWNER'")
        assert app.execute("SELECT words FROM walls").fetchall() == [("BY THE APPLICATION",)]


@pytest.mark.usefixtures("table")
def test_the_platform_role_is_entered_for_one_transaction_and_not_inherited(
    embedded_servers: Servers,
) -> None:
    with psycopg.connect(embedded_servers.owner_database_url) as owner:
        owner.execute("REVOKE ALL ON walls FROM prelude_app")
    with psycopg.connect(embedded_servers.database_url) as app:
        with pytest.raises(errors.InsufficientPrivilege):
            app.execute("SELECT * FROM walls")
        app.rollback()
        app.execute("SET LOCAL ROLE prelude_platform")
        assert app.execute("SELECT count(*) FROM walls").fetchone() == (1,)
        app.commit()
        assert app.execute("SELECT current_user").fetchone() == ("prelude_app",)


def test_nobody_gets_in_without_the_password(embedded_servers: Servers) -> None:
    url = embedded_servers.postgres.url(user="prelude_app", password="guessed", database="prelude")
    with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
        psycopg.connect(url)


def test_the_platform_role_cannot_log_in(embedded_servers: Servers) -> None:
    with psycopg.connect(embedded_servers.postgres.superuser_url) as superuser:
        superuser.execute("ALTER ROLE prelude_platform PASSWORD 'known'")
    url = embedded_servers.postgres.url(user="prelude_platform", password="known", database="prelude")
    with pytest.raises(psycopg.OperationalError, match="not permitted to log in"):
        psycopg.connect(url)


def test_a_role_that_was_given_too_much_loses_it_again(embedded_servers: Servers) -> None:
    superuser_url = embedded_servers.postgres.superuser_url
    with psycopg.connect(superuser_url) as superuser:
        superuser.execute("ALTER ROLE prelude_app SUPERUSER BYPASSRLS CREATEDB INHERIT")
    secrets = embedded_servers.secrets
    set_up_database(superuser_url, owner_password=secrets.owner_password, app_password=secrets.app_password)
    assert {name for name, is_set in attributes(embedded_servers, "prelude_app").items() if is_set} == {
        "rolcanlogin"
    }


def test_the_databases_pages_have_checksums_and_its_text_is_utf8(embedded_servers: Servers) -> None:
    with psycopg.connect(embedded_servers.database_url) as app:
        settings = [
            app.execute(f"SHOW {name}".encode()).fetchone() for name in ("data_checksums", "server_encoding")
        ]
    assert settings == [("on",), ("UTF8",)]


def test_postgres_comes_back_with_its_data_after_kill_9(
    embedded_servers: Servers, module_supervisor: Supervisor
) -> None:
    server = embedded_servers.postgres
    with psycopg.connect(embedded_servers.owner_database_url) as owner:
        owner.execute("CREATE TABLE IF NOT EXISTS kept AS SELECT 7 AS n")
    [before] = module_supervisor.pids("postgres")
    os.kill(before, signal.SIGKILL)
    wait_until_ready(server.name, server.problem, log=module_supervisor.log("postgres"), seconds=20)
    assert module_supervisor.pids("postgres") != [before]
    with psycopg.connect(embedded_servers.owner_database_url) as owner:
        assert owner.execute("SELECT n FROM kept").fetchone() == (7,)


def test_a_pid_file_that_names_a_living_stranger_does_not_keep_postgres_down(
    embedded_servers: Servers, module_supervisor: Supervisor
) -> None:
    server = embedded_servers.postgres
    module_supervisor.stop("postgres")
    stale = f"{os.getppid()}\n{server.data}\n1\n{server.port}\n\n127.0.0.1\n"
    (server.data / "postmaster.pid").write_text(stale)
    module_supervisor.resume("postgres")
    wait_until_ready(server.name, server.problem, log=module_supervisor.log("postgres"), seconds=20)


def test_an_orphan_of_an_earlier_supervisor_makes_room(
    embedded_servers: Servers, module_supervisor: Supervisor
) -> None:
    server = embedded_servers.postgres
    [orphan] = module_supervisor.pids("postgres")
    server.clear_leftovers()
    wait_until_ready(server.name, server.problem, log=module_supervisor.log("postgres"), seconds=20)
    assert orphan not in module_supervisor.pids("postgres")


def test_data_of_another_release_is_refused(tmp_path: Path) -> None:
    server = PostgresServer(place=tmp_path, port=1, password="unused")
    server.data.mkdir()
    (server.data / "PG_VERSION").write_text("15\n")
    with pytest.raises(DataFromAnotherRelease, match="made by PostgreSQL 15; the installed one is 18"):
        server.create_data()


def test_an_interrupted_initdb_leaves_nothing_that_would_be_taken_for_data(
    tmp_path: Path, module_ports: HeldPorts
) -> None:
    server = PostgresServer.inside(tmp_path, ports=module_ports, password="long enough to be one")
    draft = server.data.with_suffix(".draft")
    draft.mkdir()
    (draft / "half").touch()
    server.create_data()
    assert (server.data / "PG_VERSION").exists()
    assert not draft.exists()
    assert list(tmp_path.glob("password-*")) == []


def test_valkey_wants_its_password(embedded_servers: Servers) -> None:
    port = embedded_servers.valkey.port
    with Redis(port=port, retry=ONE_TRY) as stranger, pytest.raises(AuthenticationError):
        stranger.ping()
    with Redis.from_url(embedded_servers.broker_url) as client:
        assert client.config_get("appendonly") == {"appendonly": "yes"}
        assert client.config_get("maxmemory-policy") == {"maxmemory-policy": "noeviction"}


def test_valkey_keeps_a_queue_over_kill_9(embedded_servers: Servers, module_supervisor: Supervisor) -> None:
    server = embedded_servers.valkey
    with Redis.from_url(server.url) as client:
        client.rpush("queue", *range(20))
        client.waitaof(1, 0, 5_000)
        os.kill(module_supervisor.pids("valkey")[0], signal.SIGKILL)
    wait_until_ready(server.name, server.problem, log=module_supervisor.log("valkey"), seconds=20)
    with Redis.from_url(server.url) as client:
        assert client.llen("queue") == 20


@pytest.mark.usefixtures("embedded_servers")
def test_no_secret_shows_in_any_command_line(embedded_servers: Servers) -> None:
    secrets = load_or_create(embedded_servers.valkey.directory / "secrets.json")
    values = [value.encode() for value in vars(secrets).values()]
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            line = path.read_bytes()
        except OSError:
            continue
        assert not any(value in line for value in values), path


def test_the_valkey_package_still_has_its_program_where_we_look() -> None:
    assert program().is_file()
    assert os.access(program(), os.X_OK)
