"""What an entry says, when there is one, and who may read it; as the application's own role."""

import json

import pytest
from django.contrib.auth.models import User
from django.db import DatabaseError, ProgrammingError, connection, transaction

from tenants import acting, scoping
from tenants.errors import TenantSlugTaken
from tenants.models import AuditEntry, Dataset, Tenant
from tenants.rights import OPERATOR_RIGHTS
from tenants.services import audit, datasets
from tenants.services.api_keys import revoke_api_key
from tenants.services.tenants import add_member, create_tenant, remove_member
from tenants.states import ActorKind, DatasetState, Role
from tests.factories import DatasetFactory
from tests.keys import new_key

pytestmark = pytest.mark.django_db
ANN = acting.Actor(kind=ActorKind.CONSOLE_USER, id="user_7", name="ann@example.com", credential="session_1f")


def entries(**wanted: object) -> list[AuditEntry]:
    with scoping.platform():
        return list(AuditEntry.objects.filter(**wanted).order_by("happened_at"))


def test_an_entry_says_who_did_what_to_which_object_and_through_which_request() -> None:
    origin = acting.Origin(address="192.0.2.7", request_id="req_1")
    with acting.by(ANN), acting.through(origin), scoping.platform():
        tenant = create_tenant(name="Acme", slug="acme")
    [entry] = entries()
    assert (entry.action, entry.object_kind, entry.object_id) == (
        "tenant.created",
        "tenant",
        tenant.public_id,
    )
    assert (entry.actor_kind, entry.actor_id, entry.actor_name) == (ANN.kind, ANN.id, ANN.name)
    assert (entry.credential, entry.address, entry.request_id) == ("session_1f", "192.0.2.7", "req_1")
    assert entry.tenant_id == tenant.pk
    assert (entry.before, entry.after) == ({}, {"name": "Acme", "slug": "acme", "state": "active"})


def test_where_nobody_is_said_to_act_it_is_the_platform(acme: Tenant) -> None:
    dataset = DatasetFactory.create(
        tenant=acme, state=DatasetState.VALIDATING, attempt=1, lease_expires_at="2100-01-01T00:00Z"
    )
    with scoping.tenant(acme.id):
        datasets.refuse_dataset(dataset=dataset, code="label_empty", reason="Row 17: 'a secret'.", row=17)
    [entry] = entries()
    assert (entry.action, entry.actor_kind, entry.address) == ("dataset.refused", ActorKind.PLATFORM, "")
    assert entry.before == {"state": "validating", "refusal_code": "", "refusal_row": None}
    assert entry.after == {"state": "refused", "refusal_code": "label_empty", "refusal_row": 17}


def test_only_fields_that_differ_are_kept_and_no_difference_is_no_entry(acme: Tenant) -> None:
    with scoping.platform():
        audit.record(action="x.changed", subject=acme, before={"a": 1, "b": 2}, after={"a": 1, "b": 3})
        audit.record(action="x.changed", subject=acme, before={"a": 1.0}, after={"a": 1})
    [entry] = entries()
    assert (entry.before, entry.after) == ({"b": 2}, {"b": 3})


def test_revoking_again_leaves_no_second_entry(acme: Tenant) -> None:
    with scoping.platform():
        key = new_key(tenant=acme, name="nightly").row
        revoke_api_key(key=key)
        revoke_api_key(key=key)
    assert [entry.action for entry in entries()] == ["api_key.created", "api_key.revoked"]
    assert entries(action="api_key.revoked")[0].before == {"revoked_at": None}


def test_what_is_taken_back_leaves_no_entry(acme: Tenant) -> None:
    with pytest.raises(RuntimeError), scoping.platform():
        create_tenant(name="Hooli", slug="hooli")
        raise RuntimeError
    with pytest.raises(TenantSlugTaken), scoping.platform():
        create_tenant(name="Other", slug="acme")
    assert entries() == []


def test_no_secret_is_in_an_entry(acme: Tenant) -> None:
    secrets = {
        "digest": b"\x01\x02",
        "wrapped_data_key": memoryview(b"\x03"),
        "new_password": "hunter2",
        "row": {"text": "a secret sentence", "inner": b"\x04"},
        "prompt_embeddings": b"\x05",
    }
    with scoping.platform():
        key = new_key(tenant=acme, name="nightly")
        audit.record(action="x.changed", subject=acme, after=secrets)
    written = json.dumps([entry.content() for entry in entries()])
    assert key.text.split("_", 2)[2] not in written
    assert bytes(key.row.digest).hex() not in written
    assert "hunter2" not in written
    assert "secret sentence" not in written
    [entry] = entries(action="x.changed")
    assert entry.after == {
        "digest": audit.MASK,
        "wrapped_data_key": audit.MASK,
        "new_password": audit.MASK,
        "row": {"text": audit.MASK, "inner": audit.MASK},
        "prompt_embeddings": audit.MASK,
    }


def test_the_hash_of_an_entry_can_be_taken_anew_after_its_way_through_the_database(acme: Tenant) -> None:
    odd = {"small": 1.5e-7, "large": 1e22, "whole": 2.0, "name": "Zoë “✓”", "many": [1, None, True], "": {}}
    with scoping.platform():
        audit.record(action="x.changed", subject=acme, after=odd)
    [entry] = entries()
    assert entry.digest() == entry.content_sha256


def test_a_member_is_named_by_address_and_no_tenant_learns_whether_the_account_is_new(acme: Tenant) -> None:
    with scoping.tenant(acme.id):
        membership = add_member(
            tenant=acme, email="Bob@example.com", role=Role.VIEWER, giver_rights=OPERATOR_RIGHTS
        )
        remove_member(membership=membership)
    [account] = entries(action="console_user.created")
    assert (account.tenant_id, account.after["email"]) == (None, "bob@example.com")
    with scoping.tenant(acme.id):
        added, removed = AuditEntry.objects.order_by("id")
    assert added.after == {"email": "bob@example.com", "role": "viewer"}
    assert (removed.before, removed.after) == ({"email": "bob@example.com", "role": "viewer"}, {})
    assert added.object_id == removed.object_id
    assert User.objects.filter(username="bob@example.com").exists()


def test_a_tenant_reads_its_own_entries_and_the_platform_all(acme: Tenant, globex: Tenant) -> None:
    with scoping.platform():
        new_key(tenant=acme, name="of Acme")
        new_key(tenant=globex, name="of Globex")
        new_key(tenant=None, name="of an operator")
    for tenant in (acme, globex):
        with scoping.tenant(tenant.id), connection.cursor() as cursor:
            cursor.execute("SELECT tenant_id FROM tenants_auditentry")  # no manager stands before this
            assert cursor.fetchall() == [(tenant.id,)]
    assert len(entries()) == 3
    with connection.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM tenants_auditentry")
        assert cursor.fetchone() == (0,)


def test_no_tenant_writes_an_entry_for_another_or_for_the_platform(acme: Tenant, globex: Tenant) -> None:
    for subject in (globex, None):
        refused = pytest.raises(ProgrammingError, match="row-level security")
        with scoping.tenant(acme.id), refused, transaction.atomic():
            audit.record(action="x.changed", subject=subject)


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE tenants_auditentry SET action = 'x.y'",
        "DELETE FROM tenants_auditentry",
        "TRUNCATE tenants_auditentry",
        "UPDATE tenants_audithead SET n_entries = 0",
        "DELETE FROM tenants_audithead",
        "TRUNCATE tenants_audithead",
        "INSERT INTO tenants_audithead VALUES (2, 0, '')",
        "ALTER TABLE tenants_auditentry DISABLE TRIGGER USER",
        "SELECT audit_seal()",
    ],
)
@pytest.mark.parametrize("is_platform", [True, False])
def test_the_applications_roles_cannot_change_the_record(
    acme: Tenant, statement: str, is_platform: bool
) -> None:
    with scoping.platform():
        new_key(tenant=acme, name="nightly")
    refused = pytest.raises(ProgrammingError, match=r"permission denied|must be owner")
    scope = scoping.platform() if is_platform else scoping.tenant(acme.id)
    with scope, refused, transaction.atomic(), connection.cursor() as cursor:
        cursor.execute(statement)


def test_the_head_of_the_chain_is_not_for_tenants(acme: Tenant) -> None:
    refused = pytest.raises(ProgrammingError, match="permission denied")
    with scoping.tenant(acme.id), refused, transaction.atomic(), connection.cursor() as cursor:
        cursor.execute("SELECT * FROM tenants_audithead")


def test_nobody_chooses_an_entrys_place_in_the_chain(acme: Tenant) -> None:
    with scoping.platform():
        new_key(tenant=acme, name="nightly")
        entry = AuditEntry.objects.get()
        entry.pk, entry.number = Dataset().pk, 1
        with pytest.raises(DatabaseError, match="append-only"), transaction.atomic():
            entry.save(force_insert=True)
