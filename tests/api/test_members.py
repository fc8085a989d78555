"""A tenant's people over HTTP."""

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from rest_framework.test import APIClient

from tenants.models import Tenant
from tests.api.problems import assert_same_as_unknown, faults, problem
from tests.factories import MembershipFactory

pytestmark = pytest.mark.django_db


@pytest.fixture
def members(acme: Tenant) -> str:
    return f"/api/v1/tenants/{acme.public_id}/members"


def test_an_operator_adds_and_removes_people(operator_client: APIClient, members: str) -> None:
    made = operator_client.post(members, {"email": "Ann@Acme.example", "role": "owner"}, format="json")
    assert made.status_code == 201
    member = made.json()
    assert (member["email"], member["role"]) == ("ann@acme.example", "owner")
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


def test_a_tenant_manages_no_people_yet(acme_client: APIClient, members: str) -> None:
    problem(acme_client.get(members), 403, "operator_only")


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
    with CaptureQueriesContext(connection) as few:
        operator_client.get(members)
    MembershipFactory.create_batch(4, tenant=acme)
    with CaptureQueriesContext(connection) as many:
        assert len(operator_client.get(members).json()["results"]) == 5
    assert len(many) == len(few)
