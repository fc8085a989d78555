"""The chain of entries: sealed at the commit, one after the other, and nothing done to it afterwards stays hidden."""

import hashlib
import re
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from io import StringIO

import psycopg
import pytest
from django.core.management import CommandError, call_command
from django.db import close_old_connections, connection

from tenants import scoping
from tenants.models import AuditEntry, AuditHead, Tenant
from tenants.services import audit
from tenants.services.tenants import create_tenant
from tests.session import SERVERS

pytestmark = pytest.mark.django_db(transaction=True)
N_ENTRIES = 5


def verified() -> str:
    output = StringIO()
    call_command("verify_audit", stdout=output)
    return output.getvalue().strip()


def as_owner(*statements: str, unguarded: bool = False) -> None:
    """Statements of whoever owns the tables; `unguarded`: with their triggers disabled."""
    with psycopg.connect(SERVERS.owner_database_url) as owner:
        for table in ("tenants_auditentry", "tenants_audithead") if unguarded else ():
            owner.execute(f"ALTER TABLE {table} DISABLE TRIGGER USER")
        for statement in statements:
            owner.execute(statement)
        for table in ("tenants_auditentry", "tenants_audithead") if unguarded else ():
            owner.execute(f"ALTER TABLE {table} ENABLE TRIGGER USER")


@pytest.fixture
def recorded() -> list[AuditEntry]:
    """Five entries, each of its own transaction."""
    for number in range(N_ENTRIES):
        with scoping.platform():
            create_tenant(name=f"Tenant {number}", slug=f"tenant-{number}")
    with scoping.platform():
        return list(AuditEntry.objects.order_by("number"))


def test_entries_are_numbered_without_a_gap_and_each_holds_the_hash_before_it(
    recorded: list[AuditEntry],
) -> None:
    assert [entry.number for entry in recorded] == [1, 2, 3, 4, 5]
    before = ""
    for entry in recorded:
        before = hashlib.sha256((before + entry.digest()).encode()).hexdigest()
        assert entry.sha256 == before
    assert verified() == f"5 entries {before}"


def test_an_empty_record_is_sound() -> None:
    assert verified() == "0 entries"


def test_entries_of_one_transaction_are_sealed_in_their_order_and_those_taken_back_leave_no_gap() -> None:
    with pytest.raises(RuntimeError), scoping.platform():
        create_tenant(name="Never", slug="never")
        raise RuntimeError
    with scoping.platform():
        for slug in ("a", "b", "c"):
            create_tenant(name=slug, slug=slug)
        assert not AuditEntry.objects.exclude(number=None).exists(), "sealed at the commit, not before"
    with scoping.platform():
        found = AuditEntry.objects.order_by("number")
        assert [(entry.number, entry.after["slug"]) for entry in found] == [(1, "a"), (2, "b"), (3, "c")]
    assert verified().startswith("3 entries")


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE tenants_auditentry SET action = 'x.y' WHERE number = 3",
        "UPDATE tenants_auditentry SET number = 9 WHERE number = 3",
        "DELETE FROM tenants_auditentry WHERE number = 5",
        "TRUNCATE tenants_auditentry",
        "DELETE FROM tenants_audithead",
        "TRUNCATE tenants_audithead",
    ],
)
def test_the_owner_is_refused_too_while_the_triggers_are_there(
    recorded: list[AuditEntry], statement: str
) -> None:
    with pytest.raises(psycopg.errors.InsufficientPrivilege, match="append-only"):
        as_owner(statement)
    assert verified().startswith("5 entries")


_SWAP = (
    "UPDATE tenants_auditentry SET number = 90 WHERE number = 2",
    "UPDATE tenants_auditentry SET number = 2 WHERE number = 4",
    "UPDATE tenants_auditentry SET number = 4 WHERE number = 90",
)
_COPY = (
    "CREATE TEMPORARY TABLE copied AS SELECT * FROM tenants_auditentry WHERE number = 5",
    "UPDATE copied SET id = gen_random_uuid(), number = 6",
    "INSERT INTO tenants_auditentry SELECT * FROM copied",
)


@pytest.mark.parametrize(
    ("statements", "number", "problem"),
    [
        (["UPDATE tenants_auditentry SET actor_name = 'Eve' WHERE number = 3"], 3, "does not say what"),
        (["UPDATE tenants_auditentry SET tenant_id = NULL WHERE number = 1"], 1, "does not say what"),
        (
            ['UPDATE tenants_auditentry SET after = \'{"slug": "x"}\' WHERE number = 5'],
            5,
            "does not say what",
        ),
        (
            ["UPDATE tenants_auditentry SET content_sha256 = repeat('0', 64) WHERE number = 2"],
            2,
            "does not say what",
        ),
        (["UPDATE tenants_auditentry SET sha256 = repeat('0', 64) WHERE number = 2"], 2, "does not follow"),
        (["DELETE FROM tenants_auditentry WHERE number = 3"], 3, "not there"),
        (["DELETE FROM tenants_auditentry WHERE number = 1"], 1, "not there"),
        (["DELETE FROM tenants_auditentry WHERE number > 3"], 4, "the head counts 5"),
        (["DELETE FROM tenants_auditentry"], 1, "the head counts 5"),
        (_SWAP, 2, "does not follow"),
        (_COPY, 6, "does not say what"),
        (["UPDATE tenants_audithead SET n_entries = 4"], 5, "the head counts 4"),
        (["UPDATE tenants_audithead SET sha256 = repeat('0', 64)"], 5, "another hash"),
        (["DELETE FROM tenants_audithead"], 6, "the head of the chain is not there"),
        (["UPDATE tenants_auditentry SET number = NULL WHERE number = 5"], 5, "the head counts 5"),
    ],
)
def test_whatever_is_done_behind_the_triggers_is_found_at_the_first_broken_entry(
    recorded: list[AuditEntry], statements: list[str], number: int, problem: str
) -> None:
    as_owner(*statements, unguarded=True)
    with pytest.raises(CommandError, match=rf"broken at entry {number}: .*{problem}"):
        verified()


def test_an_entry_that_was_rewritten_with_its_hash_breaks_the_next_one(recorded: list[AuditEntry]) -> None:
    """Who knows the hash function alters an entry and its own two hashes: the next one does not follow any more."""
    entry = recorded[2]
    entry.actor_name = "Eve"
    content = entry.digest()
    sha256 = hashlib.sha256((recorded[1].sha256 + content).encode()).hexdigest()
    as_owner(
        f"UPDATE tenants_auditentry SET actor_name = 'Eve', content_sha256 = '{content}', sha256 = '{sha256}' "
        "WHERE number = 3",
        unguarded=True,
    )
    with pytest.raises(CommandError, match=r"broken at entry 4: .* does not follow"):
        verified()


def test_an_entry_without_a_place_is_found(recorded: list[AuditEntry]) -> None:
    as_owner(
        "CREATE TEMPORARY TABLE copied AS SELECT * FROM tenants_auditentry WHERE number = 5",
        "UPDATE copied SET id = gen_random_uuid(), number = NULL",
        "INSERT INTO tenants_auditentry SELECT * FROM copied",
        unguarded=True,
    )
    with pytest.raises(CommandError, match="without a place in the chain"):
        verified()


def test_a_long_record_is_read_in_batches(
    monkeypatch: pytest.MonkeyPatch, recorded: list[AuditEntry]
) -> None:
    monkeypatch.setattr("tenants.selectors.AUDIT_BATCH", 2)
    assert re.fullmatch(r"5 entries [0-9a-f]{64}", verified())


def in_threads(n_threads: int, work: Callable[[int], None]) -> None:
    """Run `work` in so many threads, each with a connection of its own; raises what one of them raised."""

    def run(number: int) -> None:
        try:
            work(number)
        finally:
            connection.close()

    with ThreadPoolExecutor(n_threads) as pool:
        for done in [pool.submit(run, number) for number in range(n_threads)]:
            done.result(timeout=60)
    close_old_connections()


def test_many_at_once_make_one_chain_while_it_is_being_verified() -> None:
    def work(number: int) -> None:
        for turn in range(10):
            with scoping.platform():
                create_tenant(name="x", slug=f"t-{number}-{turn}")
            if number == 0:
                with scoping.platform():
                    audit.verify()

    in_threads(6, work)
    assert verified().startswith("60 entries")
    with scoping.platform():
        assert AuditHead.objects.get().n_entries == 60


def test_the_heads_lock_closes_no_circle_with_other_locks() -> None:
    """Both record first and lock each other's rows afterwards: the head is waited for at the commit alone."""
    with scoping.platform():
        first, second = (create_tenant(name=slug, slug=slug) for slug in ("a", "b"))
    recorded, barrier = [], threading.Barrier(2)

    def work(number: int) -> None:
        own, other = (first, second) if number == 0 else (second, first)
        with scoping.platform():
            audit.record(action="x.changed", subject=own)
            barrier.wait(timeout=20)  # each has recorded, and neither waits for the other
            Tenant.objects.select_for_update().get(pk=own.pk)
            time.sleep(0.1)
            recorded.append(other.pk)

    in_threads(2, work)
    assert verified().startswith("4 entries")


def test_a_foreign_key_that_is_checked_at_the_commit_is_checked_before_the_head_is_locked() -> None:
    """A row's foreign key wants a lock of the tenant that another transaction holds, which then wants the head."""
    with scoping.platform():
        tenant = create_tenant(name="Acme", slug="acme")
    is_locked, is_recorded = threading.Event(), threading.Event()

    def inserts(_: int) -> None:
        with scoping.platform():
            audit.record(action="x.first", subject=None)  # queued before the foreign key's check
            is_recorded.set()
            assert is_locked.wait(timeout=20)
            with connection.cursor() as cursor:
                cursor.execute(
                    "INSERT INTO tenants_apikey (id, tenant_id, name, digest, rights, allowed_networks)"
                    " VALUES (gen_random_uuid(), %s, 'k', '', '{}', '{}')",
                    [tenant.pk],
                )

    def locks(_: int) -> None:
        assert is_recorded.wait(timeout=20)
        with scoping.platform():
            Tenant.objects.select_for_update().get(pk=tenant.pk)
            is_locked.set()
            time.sleep(0.5)  # the other one commits now, and waits for this lock
            audit.record(action="x.second", subject=tenant)

    in_threads(2, lambda number: inserts(number) if number == 0 else locks(number))
    with scoping.platform():
        actions = AuditEntry.objects.order_by("number").values_list("action", flat=True)
        assert list(actions) == ["tenant.created", "x.second", "x.first"]
    assert verified().startswith("3 entries")
