"""Enrolments over HTTP: invited by an operator, taken up by the tenant."""

from typing import Any

import pytest
from rest_framework.test import APIClient

from federation.models import Federation
from federation.states import EnrolmentState
from tenants.models import Tenant
from tenants.states import DatasetState
from tests.api.problems import assert_same_as_unknown, faults, problem
from tests.factories import DatasetFactory, EnrolmentFactory, FederationFactory, ready_federation

pytestmark = pytest.mark.django_db


@pytest.fixture
def federation(db: None) -> Federation:
    return ready_federation(n_tenants=2)


@pytest.fixture
def enrolments(federation: Federation) -> str:
    return f"/api/v1/federations/{federation.public_id}/enrolments"


def post(client: APIClient, path: str, **body: str) -> Any:
    return client.post(path, body, format="json")


def test_from_the_invitation_to_the_end(
    operator_client: APIClient, acme_client: APIClient, acme: Tenant, enrolments: str, federation: Federation
) -> None:
    invited = post(operator_client, enrolments, tenant=acme.public_id)
    assert invited.status_code == 201
    enrolment = invited.json()
    assert (enrolment["tenant"], enrolment["dataset"], enrolment["state"]) == (
        acme.public_id,
        None,
        "invited",
    )
    assert enrolment["federation"] == federation.public_id
    problem(post(operator_client, enrolments, tenant=acme.public_id), 409, "already_invited")

    first, second = DatasetFactory.create_batch(2, tenant=acme)
    for dataset in (first, second):
        taken = post(acme_client, enrolments, dataset=dataset.public_id)
        assert taken.status_code == 200
        active = {**enrolment, "dataset": dataset.public_id, "state": "active"}
        assert taken.json() == active
    assert acme_client.get(enrolments).json()["results"] == [active]
    assert len(operator_client.get(enrolments).json()["results"]) == 3
    evaluations = acme_client.get(f"/api/v1/evaluations?federation={federation.public_id}").json()["results"]
    assert len(evaluations) == 4, "base model and published version, on each dataset"

    left = acme_client.delete(f"{enrolments}/{enrolment['id']}")
    assert (left.status_code, left.json()["state"], left.json()["dataset"]) == (200, "left", None)
    problem(acme_client.get(enrolments), 404, "not_found")
    problem(post(acme_client, enrolments, dataset=second.public_id), 404, "not_found")
    assert post(operator_client, enrolments, tenant=acme.public_id).json()["id"] == enrolment["id"]


def test_an_operator_ends_an_enrolment(operator_client: APIClient, enrolments: str) -> None:
    enrolment = operator_client.get(enrolments).json()["results"][0]
    assert operator_client.delete(f"{enrolments}/{enrolment['id']}").json()["state"] == "left"


@pytest.fixture
def invited(acme: Tenant, federation: Federation) -> None:
    EnrolmentFactory.create(tenant=acme, federation=federation, state=EnrolmentState.INVITED, dataset=None)


@pytest.mark.usefixtures("invited")
def test_a_place_needs_a_dataset_that_is_ready_and_fits(
    acme_client: APIClient, acme: Tenant, enrolments: str
) -> None:
    validating = DatasetFactory.create(tenant=acme, state=DatasetState.VALIDATING, facts={})
    problem(post(acme_client, enrolments, dataset=validating.public_id), 409, "dataset_not_ready")
    other_kind = DatasetFactory.create(tenant=acme, facts={"kind": "completion", "n_train": 10})
    problem(post(acme_client, enrolments, dataset=other_kind.public_id), 422, "dataset_does_not_fit")
    facts = {"kind": "label", "n_train": 10, "labels": {"positive": 1, "angry": 2}}
    other_label = DatasetFactory.create(tenant=acme, facts=facts)
    body = problem(post(acme_client, enrolments, dataset=other_label.public_id), 422, "dataset_does_not_fit")
    assert "angry" in body["detail"]
    assert acme_client.get(enrolments).json()["results"][0]["state"] == "invited"


@pytest.mark.usefixtures("invited")
def test_each_side_sends_its_own_body(
    operator_client: APIClient, acme_client: APIClient, enrolments: str
) -> None:
    assert faults(post(operator_client, enrolments, dataset="dst_1")) == {("dataset", "unknown_field")}
    assert faults(post(acme_client, enrolments, tenant="tnt_1")) == {("tenant", "unknown_field")}
    assert faults(post(acme_client, enrolments)) == {("dataset", "required")}
    problem(post(operator_client, enrolments, tenant="tnt_1"), 404, "not_found")


@pytest.mark.usefixtures("invited")
def test_another_tenants_dataset_is_not_there(
    acme_client: APIClient, globex: Tenant, enrolments: str
) -> None:
    theirs = DatasetFactory.create(tenant=globex)
    hidden = problem(post(acme_client, enrolments, dataset=theirs.public_id), 404, "not_found")
    assert hidden["detail"] == f"There is no dataset {theirs.public_id!r}."


@pytest.mark.usefixtures("invited")
def test_a_tenant_sees_and_ends_its_own_place_alone(
    acme_client: APIClient, acme: Tenant, operator_client: APIClient, enrolments: str
) -> None:
    [own] = acme_client.get(enrolments).json()["results"]
    assert own["tenant"] == acme.public_id
    others = [row for row in operator_client.get(enrolments).json()["results"] if row["id"] != own["id"]]
    assert_same_as_unknown(acme_client, enrolments + "/{}", others[0]["id"], method="delete")
    assert others[0] in operator_client.get(enrolments).json()["results"]


def test_an_enrolment_is_found_under_its_own_federation_alone(operator_client: APIClient) -> None:
    enrolment = EnrolmentFactory.create()
    other = FederationFactory.create()
    path = f"/api/v1/federations/{other.public_id}/enrolments/{enrolment.public_id}"
    problem(operator_client.delete(path), 404, "not_found")


def test_an_outsider_does_not_learn_of_the_federation(
    globex_client: APIClient, globex: Tenant, federation: Federation
) -> None:
    path = "/api/v1/federations/{}/enrolments"
    dataset = DatasetFactory.create(tenant=globex).public_id
    assert_same_as_unknown(globex_client, path, federation.public_id)
    assert_same_as_unknown(
        globex_client, path, federation.public_id, method="post", data={"dataset": dataset}, format="json"
    )
