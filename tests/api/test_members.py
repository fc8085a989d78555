"""A tenant's people over HTTP."""

import threading
import time

import pytest
from django.contrib.auth.models import User
from django.db import connection
from django.test.utils import CaptureQueriesContext
from rest_framework.test import APIClient

from tenants import scoping
from tenants.errors import LastOwner
from tenants.models import AuditEntry, Membership, Tenant
from tenants.rights import ROLE_RIGHTS
from tenants.services.tenants import remove_member
from tenants.states import Role
from tests.api.problems import assert_same_as_unknown, faults, problem
from tests.factories import MembershipFactory, UserFactory
from tests.keys import get_remembered, new_client
from tests.racing import at_once

pytestmark = pytest.mark.django_db


@pytest.fixture
def members(acme: Tenant) -> str:
    return f"/api/v1/tenants/{acme.public_id}/members"


def test_an_operator_adds_and_removes_people(operator_client: APIClient, members: str) -> None:
    made = operator_client.post(members, {"email": "Ann@Acme.example", "role": "auditor"}, format="json")
    assert made.status_code == 201
    member = made.json()
    assert (member["email"], member["role"]) == ("ann@acme.example", "auditor")
    assert operator_client.get(members).json()["results"] == [member]
    again = operator_client.post(members, {"email": "ann@acme.example", "role": "viewer"}, format="json")
    problem(again, 409, "membership_exists")
    assert operator_client.delete(f"{members}/{member['id']}").status_code == 204
    assert operator_client.get(members).json()["results"] == []
    problem(operator_client.delete(f"{members}/{member['id']}"), 404, "not_found")


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ({"email": "nobody", "role": "owner"}, ("email", "invalid")),
        ({"email": "a@b.example", "role": "king"}, ("role", "invalid_choice")),
        ({"email": f"{'a' * 150}@b.example", "role": "owner"}, ("email", "max_length")),
    ],
)
def test_bad_input(
    operator_client: APIClient, members: str, body: dict[str, str], expected: tuple[str, str]
) -> None:
    assert expected in faults(operator_client.post(members, body, format="json"))


def test_an_owner_adds_changes_and_removes_people(acme_owner: APIClient, members: str) -> None:
    body = {"email": "bob@acme.example", "role": "viewer"}
    member = acme_owner.post(members, body, format="json").json()
    changed = acme_owner.put(f"{members}/{member['id']}", {"role": "auditor"}, format="json")
    assert changed.status_code == 200
    assert changed.json() == {**member, "role": "auditor"}
    assert acme_owner.get(members).json()["results"] == [changed.json()]
    assert acme_owner.delete(f"{members}/{member['id']}").status_code == 204


def test_who_has_an_account_with_the_address_gets_no_second_one(acme_owner: APIClient, members: str) -> None:
    person = UserFactory.create(username="ann", email="Ann@Example.com", is_staff=True)
    body = {"email": "ann@example.com", "role": "viewer"}
    answer = acme_owner.post(members, body, format="json")
    assert (answer.status_code, answer.json()["email"]) == (201, "ann@example.com")
    assert "Ann" not in acme_owner.get(members).content.decode(), (
        "how another one wrote it tells of an account"
    )
    with scoping.platform():
        assert Membership.objects.get().user == person
    assert User.objects.count() == 1
    problem(acme_owner.post(members, body, format="json"), 409, "membership_exists")


def test_of_several_accounts_with_the_address_the_name_decides(acme_owner: APIClient, members: str) -> None:
    named, _ = (
        UserFactory.create(username=name, email="ann@example.com") for name in ("ann@example.com", "ann")
    )
    body = {"email": "ann@example.com", "role": "viewer"}
    assert acme_owner.post(members, body, format="json").status_code == 201
    with scoping.platform():
        assert Membership.objects.get().user == named


def test_a_role_that_it_is_already_is_no_change_on_record(
    acme_owner: APIClient, acme: Tenant, members: str
) -> None:
    member = MembershipFactory.create(tenant=acme, role=Role.VIEWER)
    same = acme_owner.put(f"{members}/{member.public_id}", {"role": "viewer"}, format="json")
    assert same.status_code == 200
    with scoping.platform():
        assert not AuditEntry.objects.filter(action="member.changed").exists()


def test_nobody_gives_a_role_that_may_do_what_it_may_not(acme: Tenant, members: str) -> None:
    client = new_client(acme, rights=[*ROLE_RIGHTS[Role.VIEWER], "members:write"])
    member = MembershipFactory.create(tenant=acme, role=Role.VIEWER)
    body = {"email": "bob@acme.example", "role": "engineer"}
    problem(client.post(members, body, format="json"), 403, "right_not_held")
    path = f"{members}/{member.public_id}"
    problem(client.put(path, {"role": "owner"}, format="json"), 403, "right_not_held")
    assert client.post(members, {**body, "role": "viewer"}, format="json").status_code == 201


def test_a_tenant_keeps_an_owner(operator_client: APIClient, acme: Tenant, members: str) -> None:
    first, second = MembershipFactory.create_batch(2, tenant=acme, role=Role.OWNER)
    path = f"{members}/{second.public_id}"
    viewer = {"role": "viewer"}
    assert operator_client.put(f"{members}/{first.public_id}", viewer, format="json").status_code == 200
    problem(operator_client.put(path, viewer, format="json"), 409, "last_owner")
    problem(operator_client.delete(path), 409, "last_owner")
    assert operator_client.put(path, {"role": "owner"}, format="json").status_code == 200
    assert operator_client.delete(f"{members}/{first.public_id}").status_code == 204


@pytest.mark.django_db(transaction=True)
def test_of_two_owners_who_leave_at_once_one_stays(acme: Tenant) -> None:
    leaving = iter(MembershipFactory.create_batch(2, tenant=acme, role=Role.OWNER))
    lock = threading.Lock()

    def leave() -> str:
        with lock:
            member = next(leaving)
        try:
            with scoping.tenant(acme.id):
                remove_member(membership=member)
                time.sleep(0.3)  # the other one looks meanwhile
        except LastOwner as refusal:
            return refusal.code
        return "left"

    assert sorted(at_once(2, leave)) == ["last_owner", "left"]


def test_an_outsider_does_not_learn_of_the_tenant(globex_client: APIClient, acme: Tenant) -> None:
    member = MembershipFactory.create(tenant=acme)
    assert_same_as_unknown(globex_client, "/api/v1/tenants/{}/members", acme.public_id)
    assert_same_as_unknown(
        globex_client, f"/api/v1/tenants/{{}}/members/{member.public_id}", acme.public_id, method="delete"
    )


def test_a_list_takes_as_many_queries_for_many_rows_as_for_one(
    operator_client: APIClient, acme: Tenant, members: str
) -> None:
    MembershipFactory.create(tenant=acme)
    get_remembered(operator_client, members)
    with CaptureQueriesContext(connection) as few:
        operator_client.get(members)
    MembershipFactory.create_batch(4, tenant=acme)
    with CaptureQueriesContext(connection) as many:
        assert len(operator_client.get(members).json()["results"]) == 5
    assert len(many) == len(few)
