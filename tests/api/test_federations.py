"""Federations over HTTP."""

from typing import Any

import pytest
from rest_framework.test import APIClient

from federation.states import BaseModelState, EnrolmentState, FederationState
from tenants.models import Tenant
from tests.api.problems import assert_same_as_unknown, faults, problem
from tests.factories import SPECIFICATION, BaseModelFactory, EnrolmentFactory, FederationFactory

pytestmark = pytest.mark.django_db
PATH = "/api/v1/federations"


def make(client: APIClient, **changes: Any) -> Any:
    base_model = changes.pop("base_model", None) or BaseModelFactory.create().public_id
    body = {"name": "reviews", "base_model": base_model, "specification": SPECIFICATION, **changes}
    return client.post(PATH, body, format="json")


def test_an_operator_makes_a_federation(operator_client: APIClient) -> None:
    made = make(operator_client)
    assert made.status_code == 201, made.content
    body = made.json()
    assert body["id"].startswith("fed_")
    assert body["base_model"].startswith("bmd_")
    assert (body["name"], body["state"], body["refusal"]) == ("reviews", "preparing", None)
    assert body["specification"] == SPECIFICATION
    assert len(body["specification_sha256"]) == 64
    assert operator_client.get(f"{PATH}/{body['id']}").json() == body
    assert operator_client.get(PATH).json()["results"] == [body]


def changed(path: str, value: object) -> dict[str, Any]:
    """The specification with one value changed."""
    section, _, name = path.rpartition(".")
    inner = {**SPECIFICATION[section], name: value} if section else value
    return {**SPECIFICATION, section or name: inner}


@pytest.mark.parametrize(
    ("path", "value", "field"),
    [
        ("training.n_steps", 0, "training.n_steps"),
        ("training.n_steps", "12", "training.n_steps"),
        ("training.n_steps", True, "training.n_steps"),
        ("gate.strange", 1, "gate.strange"),
        ("method.kind", "magic", "method"),
        ("method.start_text", "", "method.prefix.start_text"),
        ("method.start_text", "a\x00b", "method.prefix.start_text"),
        ("task.template", "no mark", "task.label"),
        ("task.label_words", {"positive": " good"}, "task.label.label_words"),
        ("task.label_words", {"a": " x", "b": "\x00"}, "task.label.label_words.b"),
    ],
)
def test_a_faulty_specification_names_its_field(
    operator_client: APIClient, path: str, value: object, field: str
) -> None:
    body = problem(make(operator_client, specification=changed(path, value)), 422, "specification_invalid")
    assert body["field"] == field
    assert operator_client.get(PATH).json()["results"] == []


@pytest.mark.parametrize("specification", [[], "text", 1, {}])
def test_what_is_no_specification_at_all(operator_client: APIClient, specification: object) -> None:
    problem(make(operator_client, specification=specification), 422, "specification_invalid")


def test_bad_input(operator_client: APIClient) -> None:
    refused = operator_client.post(PATH, {"name": ""}, format="json")
    expected = {("name", "blank"), ("base_model", "required"), ("specification", "required")}
    assert faults(refused) == expected


def test_an_unknown_base_model(operator_client: APIClient) -> None:
    problem(make(operator_client, base_model="bmd_" + "0" * 26), 404, "not_found")
    problem(make(operator_client, base_model="nonsense"), 404, "not_found")
    registering = BaseModelFactory.create(state=BaseModelState.REGISTERING)
    problem(make(operator_client, base_model=registering.public_id), 409, "base_model_not_ready")


def test_a_name_is_given_once(operator_client: APIClient) -> None:
    make(operator_client)
    problem(make(operator_client), 409, "federation_name_taken")


def test_a_refusal_is_told(operator_client: APIClient) -> None:
    refused = FederationFactory.create(
        state=FederationState.REFUSED, refusal_code="label_words_clash", state_reason="Two words clash."
    )
    body = operator_client.get(f"{PATH}/{refused.public_id}").json()
    assert body["refusal"] == {"code": "label_words_clash", "detail": "Two words clash."}


@pytest.mark.parametrize(
    ("state", "is_seen"),
    [(EnrolmentState.INVITED, True), (EnrolmentState.ACTIVE, True), (EnrolmentState.LEFT, False)],
)
def test_a_tenant_sees_federations_that_it_takes_part_in(
    acme_client: APIClient, acme: Tenant, state: str, is_seen: bool
) -> None:
    federation = EnrolmentFactory.create(tenant=acme, state=state).federation
    listed = [row["id"] for row in acme_client.get(PATH).json()["results"]]
    assert listed == ([federation.public_id] if is_seen else [])
    read = acme_client.get(f"{PATH}/{federation.public_id}")
    assert read.status_code == (200 if is_seen else 404)


def test_a_tenant_makes_none(acme_client: APIClient) -> None:
    problem(make(acme_client), 403, "operator_only")


def test_an_operator_changes_when_its_work_is_done(operator_client: APIClient) -> None:
    path = f"{PATH}/{FederationFactory.create().public_id}"
    assert (operator_client.get(path).json()["priority"], operator_client.get(path).json()["weight"]) == (
        "normal",
        1,
    )
    answer = operator_client.put(path, {"priority": "urgent", "weight": 3}, format="json")
    assert answer.status_code == 200
    assert (answer.json()["priority"], answer.json()["weight"]) == ("urgent", 3)
    assert operator_client.get(path).json() == answer.json()
    [entry] = operator_client.get("/api/v1/audit-entries?action=federation.changed").json()["results"]
    assert entry["before"] == {"priority": "normal", "weight": 1}
    assert entry["after"] == {"priority": "urgent", "weight": 3}


@pytest.mark.parametrize(("field", "value"), [("priority", "first"), ("weight", 0), ("weight", 101)])
def test_a_place_that_there_is_not(operator_client: APIClient, field: str, value: object) -> None:
    path = f"{PATH}/{FederationFactory.create().public_id}"
    body = {"priority": "normal", "weight": 1, field: value}
    assert {name for name, _ in faults(operator_client.put(path, body, format="json"))} == {field}


def test_a_tenant_changes_none(acme_client: APIClient, acme: Tenant) -> None:
    path = f"{PATH}/{EnrolmentFactory.create(tenant=acme).federation.public_id}"
    problem(acme_client.put(path, {"priority": "urgent", "weight": 3}, format="json"), 403, "operator_only")


def test_an_outsider_sees_none(globex_client: APIClient, acme: Tenant) -> None:
    federation = EnrolmentFactory.create(tenant=acme).federation
    assert globex_client.get(PATH).json()["results"] == []
    assert_same_as_unknown(globex_client, PATH + "/{}", federation.public_id)
