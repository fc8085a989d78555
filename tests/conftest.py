"""What all tests share: the database as the application's role, scopes, tenants, clients, captured messages."""

import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg
import pytest
from django.core.management import call_command
from django.test import TransactionTestCase
from pytest_django import DjangoDbBlocker
from redis import Redis
from rest_framework.test import APIClient

from api import rates
from tenants import dispatch, scoping
from tenants.models import Tenant
from tenants.rights import ROLE_RIGHTS
from tenants.services import api_keys, request_rate
from tenants.services.open_keys import OpenKeys
from tenants.services.request_counts import RequestCounts
from tenants.services.request_leases import Leases
from tenants.states import Role
from tests.factories import TenantFactory
from tests.keys import new_client
from tests.platform import RunningPlatform, running_platform
from tests.session import SERVERS
from tests.standing_clock import StandingClock

_KEPT_TABLES = ("django_migrations", "django_content_type", "auth_permission")


@pytest.fixture(scope="session")
def django_db_setup(django_db_blocker: DjangoDbBlocker) -> None:
    """Migrate as the owner; the tests themselves connect as the application's role."""
    with django_db_blocker.unblock():
        call_command("migrate", database="owner", verbosity=0)


def _truncate_as_owner(_: TransactionTestCase) -> None:
    with psycopg.connect(SERVERS.owner_database_url) as connection:
        rows = connection.execute("SELECT tablename FROM pg_tables WHERE schemaname = 'public'").fetchall()
        names = ", ".join(f'"{name}"' for (name,) in rows if name not in _KEPT_TABLES)
        # The owner may take the audit record's guard away; nobody else may.
        guarded = ("tenants_auditentry", "tenants_audithead")
        for table in guarded:
            connection.execute(f"ALTER TABLE {table} DISABLE TRIGGER USER")
        connection.execute(f"TRUNCATE {names} RESTART IDENTITY CASCADE")
        connection.execute("INSERT INTO tenants_audithead (id, n_entries, sha256) VALUES (1, 0, '')")
        for table in guarded:
            connection.execute(f"ALTER TABLE {table} ENABLE TRIGGER USER")


# The application's role may not truncate, which is how Django cleans up after tests with real transactions.
TransactionTestCase._fixture_teardown = _truncate_as_owner  # type: ignore[attr-defined]


@dataclass(frozen=True)
class Message:
    """A message as it would have gone to the broker."""

    task_name: str
    ids: list[str]
    queue: str


@pytest.fixture(autouse=True)
def sent_messages(monkeypatch: pytest.MonkeyPatch) -> list[Message]:
    """Messages that were sent after a commit, kept from the broker."""
    messages: list[Message] = []
    monkeypatch.setattr(
        dispatch, "_publish", lambda name, ids, queue, _: messages.append(Message(name, ids, queue))
    )
    return messages


@pytest.fixture(autouse=True)
def counted_requests(monkeypatch: pytest.MonkeyPatch) -> RequestCounts:
    """Requests that wait for `write`: the thread that calls it would not see a test's uncommitted tenants."""
    counts = RequestCounts()
    monkeypatch.setattr(counts, "_begin", lambda: None)
    monkeypatch.setattr(rates, "REQUESTS", counts)
    monkeypatch.setattr(api_keys, "REQUESTS", counts)
    return counts


@pytest.fixture(autouse=True)
def standing_clock(monkeypatch: pytest.MonkeyPatch) -> StandingClock:
    """What a process remembers of keys and rates is as of now until the test lets time pass."""
    clock = StandingClock()
    monkeypatch.setattr(api_keys, "OPEN_KEYS", OpenKeys(clock))
    monkeypatch.setattr(request_rate, "LEASES", Leases(clock))
    return clock


@pytest.fixture
def valkey_commands(monkeypatch: pytest.MonkeyPatch) -> list[object]:
    """What Valkey was sent."""
    sent = []
    execute: Any = Redis.execute_command

    def told(client: Redis, *words: object, **options: object) -> object:
        sent.append(words[0])
        return execute(client, *words, **options)

    monkeypatch.setattr(Redis, "execute_command", told)
    return sent


@pytest.fixture
def platform_scope(db: None) -> Iterator[None]:
    """The whole test in the platform's scope."""
    with scoping.platform():
        yield


@pytest.fixture
def acme(db: None) -> Tenant:
    """The tenant whose things are at stake."""
    return TenantFactory.create(name="Acme", slug="acme")


@pytest.fixture
def globex(db: None) -> Tenant:
    """The outsider."""
    return TenantFactory.create(name="Globex", slug="globex")


@pytest.fixture
def acme_client(acme: Tenant) -> APIClient:
    """HTTP with a key of Acme's, which may do what an engineer may."""
    return new_client(acme)


@pytest.fixture
def acme_owner(acme: Tenant) -> APIClient:
    """HTTP with a key of Acme's that may do what an owner may."""
    return new_client(acme, rights=ROLE_RIGHTS[Role.OWNER])


@pytest.fixture
def globex_client(globex: Tenant) -> APIClient:
    """HTTP with a key of the outsider's."""
    return new_client(globex)


@pytest.fixture
def operator_client(db: None) -> APIClient:
    """HTTP with an operator's key."""
    return new_client(None)


@pytest.fixture(scope="session")
def platform() -> Iterator[RunningPlatform]:
    """The platform as real processes; started once, for the tests that are marked `processes`."""
    with (
        tempfile.TemporaryDirectory(prefix="prl") as directory,
        running_platform(Path(directory) / "p") as running,
    ):
        yield running
