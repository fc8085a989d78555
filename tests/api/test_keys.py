"""A tenant's keys over HTTP."""

import pytest
from rest_framework.test import APIClient

from tenants.models import Tenant
from tests.api.problems import assert_same_as_unknown, faults, problem
from tests.factories import ApiKeyFactory

pytestmark = pytest.mark.django_db


@pytest.fixture
def keys(acme: Tenant) -> str:
    return f"/api/v1/tenants/{acme.public_id}/keys"


def test_a_key_is_shown_once_works_and_is_revoked(operator_client: APIClient, keys: str) -> None:
    made = operator_client.post(keys, {"name": "ci"}, format="json")
    assert made.status_code == 201
    assert made["Cache-Control"] == "no-store"
    key = made.json()
    [listed] = operator_client.get(keys).json()["results"]
    assert "key" not in listed
    assert (listed["id"], listed["name"], listed["revoked_at"]) == (key["id"], "ci", None)
    client = APIClient()
    client.credentials(HTTP_AUTHORIZATION=f"Bearer {key['key']}")
    assert client.get("/api/v1/me").json()["key"]["id"] == key["id"]
    for _ in range(2):
        assert operator_client.delete(f"{keys}/{key['id']}").status_code == 204
    problem(client.get("/api/v1/me"), 401, "api_key_invalid")
    assert operator_client.get(keys).json()["results"][0]["revoked_at"] is not None


def test_a_key_needs_a_name(operator_client: APIClient, keys: str) -> None:
    assert faults(operator_client.post(keys, {}, format="json")) == {("name", "required")}


def test_a_key_is_found_under_its_own_tenant_alone(
    operator_client: APIClient, keys: str, globex: Tenant
) -> None:
    other = ApiKeyFactory.create(tenant=globex)
    problem(operator_client.delete(f"{keys}/{other.public_id}"), 404, "not_found")
    problem(operator_client.delete(f"{keys}/nonsense"), 404, "not_found")


def test_a_tenant_manages_no_keys(acme_client: APIClient, keys: str) -> None:
    problem(acme_client.get(keys), 403, "operator_only")
    assert acme_client.head(keys).status_code == 403
    problem(acme_client.post(keys, {"name": "more"}, format="json"), 403, "operator_only")
    own = acme_client.get("/api/v1/me").json()["key"]["id"]
    problem(acme_client.delete(f"{keys}/{own}"), 403, "operator_only")


def test_an_outsider_does_not_learn_of_the_tenant(globex_client: APIClient, acme: Tenant) -> None:
    path = "/api/v1/tenants/{}/keys"
    assert_same_as_unknown(globex_client, path, acme.public_id)
    assert_same_as_unknown(
        globex_client, path, acme.public_id, method="post", data={"name": "x"}, format="json"
    )
    key = ApiKeyFactory.create(tenant=acme)
    assert_same_as_unknown(
        globex_client, f"/api/v1/tenants/{{}}/keys/{key.public_id}", acme.public_id, method="delete"
    )
