"""Tenants over HTTP."""

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from rest_framework.test import APIClient

from tenants import scoping
from tenants.models import AuditEntry, Tenant
from tests.api.problems import assert_same_as_unknown, faults, problem
from tests.factories import TenantFactory
from tests.keys import get_remembered

pytestmark = pytest.mark.django_db


def test_an_operator_makes_and_reads_tenants(operator_client: APIClient) -> None:
    made = operator_client.post("/api/v1/tenants", {"name": "Acme", "slug": "acme"}, format="json")
    assert made.status_code == 201
    body = made.json()
    assert body["id"].startswith("tnt_")
    assert (body["name"], body["slug"], body["state"]) == ("Acme", "acme", "active")
    assert operator_client.get(f"/api/v1/tenants/{body['id']}").json() == body
    assert operator_client.get("/api/v1/tenants").json()["results"] == [body]


def test_a_tenant_sees_itself_alone(acme_client: APIClient, acme: Tenant, globex: Tenant) -> None:
    assert [row["id"] for row in acme_client.get("/api/v1/tenants").json()["results"]] == [acme.public_id]
    assert acme_client.get(f"/api/v1/tenants/{acme.public_id}").status_code == 200
    assert_same_as_unknown(acme_client, "/api/v1/tenants/{}", globex.public_id)


def test_only_operators_make_tenants(acme_client: APIClient, operator_client: APIClient) -> None:
    refused = acme_client.post("/api/v1/tenants", {"name": "Initech", "slug": "initech"}, format="json")
    problem(refused, 403, "operator_only")
    slugs = [row["slug"] for row in operator_client.get("/api/v1/tenants").json()["results"]]
    assert slugs == ["acme"]


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ({}, {("name", "required"), ("slug", "required")}),
        ({"name": "", "slug": "acme"}, {("name", "blank")}),
        ({"name": "Acme", "slug": "Not a slug"}, {("slug", "invalid")}),
        ({"name": "Acme", "slug": "a" * 64}, {("slug", "max_length")}),
        ({"name": "A\x00", "slug": "acme"}, {("name", "null_characters_not_allowed")}),
        ({"name": "Acme", "slug": "acme", "sulg": "x"}, {("sulg", "unknown_field")}),
        ([], {("", "invalid")}),
    ],
)
def test_bad_input_names_field_and_code(
    operator_client: APIClient, body: object, expected: set[tuple[str, str]]
) -> None:
    assert faults(operator_client.post("/api/v1/tenants", body, format="json")) == expected


def test_a_slug_that_is_taken_changes_nothing(operator_client: APIClient, acme: Tenant) -> None:
    taken = operator_client.post("/api/v1/tenants", {"name": "Other", "slug": "acme"}, format="json")
    problem(taken, 409, "tenant_slug_taken")
    assert len(operator_client.get("/api/v1/tenants").json()["results"]) == 1


def test_an_operator_renames_suspends_and_lifts_that(
    operator_client: APIClient, acme_client: APIClient, acme: Tenant
) -> None:
    path = f"/api/v1/tenants/{acme.public_id}"
    before = operator_client.get(path).json()
    for name, state, status in (("Acme Ltd", "suspended", 403), ("Acme", "active", 200)):
        changed = operator_client.put(path, {"name": name, "state": state}, format="json")
        assert changed.status_code == 200
        assert changed.json() == {**before, "name": name, "state": state} == operator_client.get(path).json()
        assert acme_client.get(path).status_code == status
    with scoping.platform():
        entries = AuditEntry.objects.filter(action="tenant.changed").order_by("id")
        told = [(entry.before, entry.after) for entry in entries]
    first, second = {"name": "Acme", "state": "active"}, {"name": "Acme Ltd", "state": "suspended"}
    assert told == [(first, second), (second, first)]


def test_a_change_that_changes_nothing_is_not_on_record(operator_client: APIClient, acme: Tenant) -> None:
    path = f"/api/v1/tenants/{acme.public_id}"
    body = {"name": "Acme", "state": "active"}
    assert operator_client.put(path, body, format="json").status_code == 200
    with scoping.platform():
        assert not AuditEntry.objects.filter(action="tenant.changed").exists()


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ({}, {("name", "required"), ("state", "required")}),
        ({"name": "Acme", "state": "closed"}, {("state", "invalid_choice")}),
        ({"name": "Acme", "state": "active", "slug": "other"}, {("slug", "unknown_field")}),
    ],
)
def test_a_change_that_is_none(
    operator_client: APIClient, acme: Tenant, body: object, expected: set[tuple[str, str]]
) -> None:
    path = f"/api/v1/tenants/{acme.public_id}"
    assert faults(operator_client.put(path, body, format="json")) == expected


def test_a_tenant_changes_neither_itself_nor_another(
    acme_client: APIClient, acme: Tenant, globex: Tenant
) -> None:
    body = {"name": "Mine", "state": "active"}
    refused = acme_client.put(f"/api/v1/tenants/{acme.public_id}", body, format="json")
    problem(refused, 403, "operator_only")
    sent = {"data": body, "format": "json", "method": "put"}
    assert_same_as_unknown(acme_client, "/api/v1/tenants/{}", globex.public_id, **sent)


def test_a_list_takes_as_many_queries_for_many_rows_as_for_one(operator_client: APIClient) -> None:
    TenantFactory.create()
    get_remembered(operator_client, "/api/v1/tenants")
    with CaptureQueriesContext(connection) as few:
        operator_client.get("/api/v1/tenants")
    TenantFactory.create_batch(5)
    with CaptureQueriesContext(connection) as many:
        assert len(operator_client.get("/api/v1/tenants").json()["results"]) == 6
    assert len(many) == len(few)
