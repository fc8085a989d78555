"""Two tenants' requests and tasks, interleaved over two database connections that they share.

What a tenant is shown is asked past the managers, so that PostgreSQL's answer alone counts.
"""

import threading
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from django.core.files.uploadedfile import SimpleUploadedFile
from django.db import connection, connections
from rest_framework.test import APIClient

from tenants import scoping
from tenants.models import Dataset, Tenant
from tenants.services import datasets
from tenants.states import DatasetState
from tests.claims import claim
from tests.factories import DatasetFactory
from tests.keys import new_key
from tests.pgbouncer import N_SERVER_CONNECTIONS, running_pooler
from training_workers.attempts import Attempt, perform

pytestmark = pytest.mark.django_db(transaction=True)

N_THREADS = 8
N_TURNS = 25
BACKEND_AND_OWNERS = (
    "SELECT pg_backend_pid(), (SELECT array_agg(DISTINCT tenant_id) FROM tenants_dataset),"
    " (SELECT array_agg(id) FROM tenants_tenant)"
)
LEFT_BEHIND = (
    "SELECT current_user, current_setting('role'), coalesce(current_setting(%s, true), ''),"
    " (SELECT count(*) FROM tenants_dataset), (SELECT count(*) FROM tenants_tenant)"
)
NOTHING = (scoping.APPLICATION_ROLE, "none", "", 0, 0)


@dataclass
class Side:
    """A tenant, its key's text, a dataset of its own and one of the other's, and work that waits for it."""

    tenant: Tenant
    key: str
    own: Dataset
    other: Dataset
    waiting: list[Dataset] = field(default_factory=list)

    def client(self) -> APIClient:
        """HTTP with the tenant's key."""
        client = APIClient()
        client.credentials(HTTP_AUTHORIZATION=f"Bearer {self.key}")
        return client


@dataclass
class Seen:
    """Which PostgreSQL processes served which tenant, and how often each kind of turn was taken."""

    tenants_of: dict[int, set[UUID]] = field(default_factory=lambda: defaultdict(set))
    n_turns: Counter[str] = field(default_factory=Counter)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def note(self, backend: int, tenant: Tenant) -> None:
        """This PostgreSQL process has served this tenant."""
        with self.lock:
            self.tenants_of[backend].add(tenant.id)


def read_lists(side: Side, seen: Seen) -> None:
    """The tenant's list holds its own datasets alone."""
    found = side.client().get("/api/v1/datasets").json()["results"]
    assert {row["tenant"] for row in found} == {side.tenant.public_id}


def read_one(side: Side, seen: Seen) -> None:
    """Its own dataset is there, the other's is not."""
    client = side.client()
    assert client.get(f"/api/v1/datasets/{side.own.public_id}").json()["tenant"] == side.tenant.public_id
    assert client.get(f"/api/v1/datasets/{side.other.public_id}").status_code == 404


def write_one(side: Side, seen: Seen) -> None:
    """An upload becomes the tenant's own."""
    file = SimpleUploadedFile("rows.jsonl", b'{"text": "fine", "label": "positive"}\n')
    made = side.client().post("/api/v1/datasets", {"name": "pooled", "file": file}, format="multipart")
    assert (made.status_code, made.json()["tenant"]) == (201, side.tenant.public_id)


def work(side: Side, seen: Seen) -> None:
    """A worker claims a dataset, looks around within a transaction and between two, and gives its verdict."""
    answers = []

    def look_and_accept(attempt: Attempt[Dataset]) -> None:
        with attempt.scope():
            answers.append(ask(BACKEND_AND_OWNERS))
        answers.append(left_behind())
        with attempt.scope():
            datasets.accept_dataset(dataset=attempt.row, facts={"n_rows": 1})

    dataset = side.waiting.pop()
    with scoping.tenant(side.tenant.id):
        claimed = claim(Dataset, dataset.pk, owner="worker")
    perform(Attempt(claimed), look_and_accept)
    (backend, *shown), between = answers
    assert (shown, between) == ([[side.tenant.id], [side.tenant.id]], NOTHING)
    seen.note(backend, side.tenant)
    with scoping.tenant(side.tenant.id):
        assert Dataset.objects.get(pk=dataset.pk).state == DatasetState.READY


TURNS: tuple[Callable[[Side, Seen], None], ...] = (work, read_lists, work, read_one, write_one)


def ask(statement: str, *parameters: str) -> tuple[Any, ...]:
    """PostgreSQL's answer of one row, past the managers."""
    with connection.cursor() as cursor:
        cursor.execute(statement, parameters)
        return tuple(cursor.fetchall()[0])


def left_behind() -> tuple[Any, ...]:
    """What a pooled connection has in force, and shows, while no scope is entered."""
    return ask(LEFT_BEHIND, scoping.SETTING)


def take_turns(sides: list[Side], seen: Seen, *, is_given_back: bool, number: int) -> None:
    """One thread's turns, for one tenant and the other by turns."""
    try:
        for turn in range(N_TURNS):
            act = TURNS[(number + turn) % len(TURNS)]
            act(sides[(number + turn) % 2], seen)
            assert left_behind() == NOTHING
            with seen.lock:
                seen.n_turns[act.__name__] += 1
            if is_given_back:
                connection.close()
    finally:
        connections.close_all()


@pytest.fixture
def sides(acme: Tenant, globex: Tenant) -> list[Side]:
    """Both tenants, made over the direct connection, each with more work than turns for it."""
    own = {tenant: DatasetFactory.create(tenant=tenant) for tenant in (acme, globex)}
    found = []
    for tenant, other in ((acme, globex), (globex, acme)):
        with scoping.platform():
            key = new_key(tenant=tenant, name="pooled").text
        waiting = [
            DatasetFactory.create(tenant=tenant, state=DatasetState.VALIDATING)
            for _ in range(N_THREADS * N_TURNS // 3)
        ]
        found.append(Side(tenant, key, own[tenant], own[other], waiting))
    return found


@pytest.fixture
def through_pgbouncer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """New threads connect through a PgBouncer; this one keeps its direct connection."""
    with running_pooler(connections.settings["default"], directory=tmp_path) as pooler:
        monkeypatch.setitem(connections.settings, "default", pooler.database)
        yield


@pytest.fixture
def through_psycopg_pool(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """New threads take their connections out of psycopg's pool."""
    direct = connections.settings["default"]
    pool = {"min_size": N_SERVER_CONNECTIONS, "max_size": N_SERVER_CONNECTIONS}
    options = {**direct["OPTIONS"], "pool": pool}
    monkeypatch.setitem(connections.settings, "default", {**direct, "CONN_MAX_AGE": 0, "OPTIONS": options})
    yield
    connections.create_connection("default").close_pool()  # type: ignore[attr-defined]  # PostgreSQL's has it


def interleave(sides: list[Side], *, is_given_back: bool) -> Seen:
    """200 turns of both tenants in eight threads."""
    seen = Seen()
    act = partial(take_turns, sides, seen, is_given_back=is_given_back)
    with ThreadPoolExecutor(N_THREADS) as pool:
        for done in [pool.submit(act, number=number) for number in range(N_THREADS)]:
            done.result()
    return seen


def assert_shared(seen: Seen, sides: list[Side]) -> None:
    """All turns were taken, and every connection served both tenants."""
    assert sum(seen.n_turns.values()) == N_THREADS * N_TURNS
    assert 1 <= len(seen.tenants_of) <= N_SERVER_CONNECTIONS
    assert all(tenants == {side.tenant.id for side in sides} for tenants in seen.tenants_of.values())


@pytest.mark.pgbouncer
@pytest.mark.usefixtures("through_pgbouncer")
def test_two_tenants_share_pgbouncers_connections_and_nothing_else(sides: list[Side]) -> None:
    assert_shared(interleave(sides, is_given_back=False), sides)


@pytest.mark.usefixtures("through_psycopg_pool")
def test_two_tenants_share_psycopgs_pool_and_nothing_else(sides: list[Side]) -> None:
    assert_shared(interleave(sides, is_given_back=True), sides)
