"""The tenant wall, met as the application's own role: database policies first, managers second."""

from collections.abc import Callable

import psycopg
import pytest
from django.apps import apps
from django.db import OperationalError, ProgrammingError, connection, transaction
from django.test.utils import CaptureQueriesContext

from federation.models import RoundEvent
from tenants import scoping
from tenants.errors import ScopeMissing, ScopeReadOnly
from tenants.models import Dataset, Tenant, TenantOwned
from tests.factories import DatasetFactory, PrefixVersionFactory, RoundEventFactory
from tests.session import SERVERS


def count(table: str) -> int:
    """Rows that PostgreSQL shows to this connection, the managers left out."""
    with connection.cursor() as cursor:
        cursor.execute(f'SELECT count(*) FROM "{table}"')
        row = cursor.fetchone()
        assert row is not None
        return int(row[0])


def tenant_tables() -> list[str]:
    """Every table that holds a tenant's rows, by its models."""
    owned = [model._meta.db_table for model in apps.get_models() if issubclass(model, TenantOwned)]
    return [Tenant._meta.db_table, RoundEvent._meta.db_table, *owned]


def test_the_tests_connect_as_a_role_that_policies_bind(db: None) -> None:
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT current_user, rolsuper, rolbypassrls FROM pg_roles WHERE rolname = current_user"
        )
        assert cursor.fetchone() == (scoping.APPLICATION_ROLE, False, False)


def test_every_tenant_table_forces_row_level_security(db: None) -> None:
    with connection.cursor() as cursor:
        cursor.execute("SELECT relname FROM pg_class WHERE relrowsecurity AND relforcerowsecurity")
        walled = {name for (name,) in cursor.fetchall()}
    assert set(tenant_tables()) <= walled


def test_every_model_with_a_tenant_is_tenant_owned(db: None) -> None:
    with_tenant = {m for m in apps.get_models() if any(f.name == "tenant" for f in m._meta.get_fields())}
    forward = {m for m in with_tenant if m._meta.get_field("tenant").concrete}
    assert {m for m in forward if not issubclass(m, TenantOwned)} == {RoundEvent}


def test_no_tenant_in_force_shows_no_rows(acme: Tenant) -> None:
    DatasetFactory.create(tenant=acme)
    assert [count(table) for table in tenant_tables()] == [0] * len(tenant_tables())
    with pytest.raises(ScopeMissing):
        Dataset.objects.all()


def test_a_tenant_sees_its_own_rows_alone(acme: Tenant, globex: Tenant) -> None:
    dataset = DatasetFactory.create(tenant=acme)
    with scoping.tenant(globex.id):
        assert count("tenants_dataset") == 0
        assert not Dataset.objects.filter(pk=dataset.pk).exists()
        assert Tenant.objects.get() == globex
    with scoping.tenant(acme.id):
        assert Dataset.objects.get() == dataset


def test_writing_a_row_for_another_tenant_is_refused_by_the_database(acme: Tenant, globex: Tenant) -> None:
    dataset = DatasetFactory.build(tenant=acme)
    refused = pytest.raises(ProgrammingError, match="row-level security")
    with scoping.tenant(globex.id), refused, transaction.atomic():
        dataset.save()


def test_the_platform_sees_all_and_only_inside_its_block(acme: Tenant, globex: Tenant) -> None:
    with scoping.platform():
        assert set(Tenant.objects.all()) == {acme, globex}
    assert count("tenants_tenant") == 0


def test_a_scope_within_a_scope_gives_the_outer_one_back(acme: Tenant, globex: Tenant) -> None:
    with scoping.tenant(acme.id):
        with scoping.platform():
            assert count("tenants_tenant") == 2
        assert Tenant.objects.get() == acme
        with scoping.tenant(globex.id):
            assert Tenant.objects.get() == globex
        assert count("tenants_tenant") == 1


def test_a_scope_that_fails_gives_the_outer_one_back(acme: Tenant) -> None:
    with scoping.tenant(acme.id):
        with pytest.raises(RuntimeError), scoping.platform():
            raise RuntimeError
        assert Tenant.objects.get() == acme


def test_a_scope_for_reading_shows_what_the_scope_shows(acme: Tenant, globex: Tenant) -> None:
    dataset = DatasetFactory.create(tenant=acme)
    with scoping.reading(globex.id):
        assert count("tenants_dataset") == 0
        assert Tenant.objects.get() == globex
    with scoping.reading(acme.id):
        assert Dataset.objects.get() == dataset
    with scoping.reading(None):
        assert count("tenants_tenant") == 2


@pytest.mark.django_db(transaction=True)
def test_a_scope_for_reading_leaves_nothing_on_the_connection(acme: Tenant) -> None:
    with scoping.reading(None):
        assert count("tenants_tenant") == 1
        assert not connection.in_atomic_block
    assert count("tenants_tenant") == 0


@pytest.mark.django_db(transaction=True)
def test_a_scope_for_reading_writes_nothing(acme: Tenant) -> None:
    with scoping.reading(acme.id), pytest.raises(ScopeReadOnly):
        Tenant.objects.update(name="Other")
    with scoping.platform():
        assert Tenant.objects.get().name == "Acme"


@pytest.mark.django_db(transaction=True)
def test_a_single_statement_writes_within_its_scope_alone(acme: Tenant, globex: Tenant) -> None:
    with scoping.single(acme.id):
        with connection.cursor() as cursor:
            cursor.execute("UPDATE tenants_tenant SET name = 'Other' RETURNING id")
            assert cursor.fetchall() == [(acme.id,)]
        assert not connection.in_atomic_block
        assert Tenant.objects.get().name == "Other"
        with pytest.raises(ScopeReadOnly):
            Tenant.objects.update(name="Third")
    assert count("tenants_tenant") == 0
    with scoping.platform():
        assert Tenant.objects.get(pk=globex.pk).name == "Globex"


@pytest.mark.django_db(transaction=True)
def test_a_single_statement_finds_a_new_connection_where_the_old_one_was_lost(acme: Tenant) -> None:
    begin_request()
    assert ask_for_one() == 1  # the connection's health has been asked for
    lose_connection()
    with scoping.single(acme.id):
        assert Tenant.objects.filter(pk=acme.pk).update(name="Other") == 1


def test_a_scope_within_one_for_reading_writes(acme: Tenant, globex: Tenant) -> None:
    with scoping.reading(acme.id):
        with scoping.platform():
            assert Tenant.objects.update(name="Other") == 2
        assert Tenant.objects.get() == acme
        assert count("tenants_tenant") == 1


def test_asking_the_platform_gives_the_scope_in_force_back(acme: Tenant, globex: Tenant) -> None:
    names = [("Acme",), ("Globex",)]
    with scoping.tenant(acme.id):
        assert scoping.ask_platform("SELECT name FROM tenants_tenant ORDER BY name", []) == names
        assert count("tenants_tenant") == 1
    assert scoping.ask_platform("SELECT name FROM tenants_tenant ORDER BY name", []) == names
    assert count("tenants_tenant") == 0


def ask_for_one() -> int:
    """As the API asks for a request's key: past the managers, in the platform's scope."""
    [(one,)] = scoping.ask_platform("SELECT 1", [])
    return int(one)


def read_one() -> int:
    """As the API reads for a request whose key it remembers."""
    with scoping.reading(None):
        return count("tenants_tenant")


def read_within_a_transaction() -> int:
    """As a request that counts something before it reads."""
    with scoping.reading(None), scoping.platform():
        return count("tenants_tenant")


def begin_request() -> None:
    """As Django does: the connection was idle since the last request."""
    connection.health_check_enabled = True  # type: ignore[attr-defined]  # not in the stubs
    connection.health_check_done = False  # type: ignore[attr-defined]


def lose_connection() -> None:
    """The server ends it while it is idle, and nobody has noticed."""
    connection.ensure_connection()
    with psycopg.connect(SERVERS.superuser_database_url) as superuser:
        superuser.execute("SELECT pg_terminate_backend(%s, 5000)", [connection.connection.info.backend_pid])


@pytest.mark.parametrize("ask", [ask_for_one, read_one])
@pytest.mark.django_db(transaction=True)
def test_a_requests_first_question_takes_no_other_on_a_connection_that_lives(
    ask: Callable[[], int], acme: Tenant
) -> None:
    begin_request()
    with CaptureQueriesContext(connection) as captured:
        assert ask() == 1
    assert len(captured) == 1


@pytest.mark.parametrize("ask", [ask_for_one, read_one, read_within_a_transaction])
@pytest.mark.django_db(transaction=True)
def test_a_requests_first_question_opens_a_connection_that_was_lost_anew(
    ask: Callable[[], int], acme: Tenant
) -> None:
    lose_connection()
    begin_request()
    assert ask() == 1


@pytest.mark.django_db(transaction=True)
def test_a_scope_for_reading_that_asks_nothing_leaves_the_question_to_who_comes_after(acme: Tenant) -> None:
    lose_connection()
    begin_request()
    with scoping.reading(acme.id):
        pass
    assert count("tenants_tenant") == 0


@pytest.mark.django_db(transaction=True)
def test_only_the_first_question_is_asked_again(acme: Tenant) -> None:
    begin_request()
    with scoping.reading(None):
        assert count("tenants_tenant") == 1
        lose_connection()
        with pytest.raises(OperationalError):
            count("tenants_tenant")


def test_a_connection_that_is_lost_within_a_transaction_is_not_opened_anew(db: None) -> None:
    begin_request()
    with pytest.raises(OperationalError), connection.execute_wrapper(lost):
        ask_for_one()
    assert ask_for_one() == 1


def lost(*_: object) -> None:
    raise OperationalError("the connection is lost")


def test_shared_events_are_read_by_tenants_and_written_by_none(acme: Tenant) -> None:
    RoundEventFactory.create()
    with scoping.tenant(acme.id):
        assert count("federation_roundevent") == 1
        with pytest.raises(ProgrammingError, match="row-level security"), transaction.atomic():
            RoundEvent.objects.create(
                federated_round_id=RoundEvent.objects.get().federated_round_id, kind="x"
            )


@pytest.mark.parametrize("statement", ["UPDATE {} SET id = id", "DELETE FROM {}"])
@pytest.mark.parametrize(
    "table", ["federation_roundevent", "federation_prefixversion", "federation_publishrecord"]
)
def test_append_only_tables_refuse_changes_even_to_the_platform(db: None, table: str, statement: str) -> None:
    PrefixVersionFactory.create()
    refused = pytest.raises(ProgrammingError, match="permission denied")
    with scoping.platform(), refused, transaction.atomic(), connection.cursor() as cursor:
        cursor.execute(statement.format(table))
