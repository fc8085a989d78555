"""Evaluations over HTTP: own ones for a tenant, all for an operator."""

import pytest
from rest_framework.test import APIClient

from federation.models import Evaluation, Federation
from federation.states import EvaluationState
from tenants import scoping
from tenants.models import Tenant
from tests.api.problems import assert_same_as_unknown, faults, problem
from tests.factories import EnrolmentFactory, EvaluationFactory, ready_federation

pytestmark = pytest.mark.django_db
PATH = "/api/v1/evaluations"


@pytest.fixture
def federation(acme: Tenant) -> Federation:
    federation = ready_federation(n_tenants=1)
    EnrolmentFactory.create(tenant=acme, federation=federation)
    return federation


@pytest.fixture
def own(acme: Tenant, federation: Federation) -> Evaluation:
    """The base model without a prefix, on Acme's rows."""
    return EvaluationFactory.create(federation=federation, version=None, dataset__tenant=acme)


def test_a_tenant_reads_its_own(acme_client: APIClient, acme: Tenant, own: Evaluation) -> None:
    EvaluationFactory.create(federation=own.federation, version=None)
    [body] = acme_client.get(PATH).json()["results"]
    assert body["id"] == own.public_id
    assert (body["version"], body["tenant"]) == (None, acme.public_id)
    assert body["dataset"] == own.dataset.public_id
    assert (body["state"], body["accuracy"], body["loss"], body["n_rows"]) == ("completed", 0.75, 0.5, 20)


def test_filters(operator_client: APIClient, own: Evaluation, federation: Federation) -> None:
    with scoping.platform():
        version = federation.published.version
    scored = EvaluationFactory.create(
        federation=federation,
        version=version,
        state=EvaluationState.QUEUED,
        accuracy=None,
        n_rows=None,
    )
    EvaluationFactory.create()

    def listed(**query: str) -> list[str]:
        return [row["id"] for row in operator_client.get(PATH, query).json()["results"]]

    assert len(listed()) == 3
    assert listed(federation=federation.public_id) == [scored.public_id, own.public_id]
    assert listed(version=version.public_id) == [scored.public_id]


def test_bad_filters(acme_client: APIClient, federation: Federation) -> None:
    assert faults(acme_client.get(PATH, {"versoin": "pfx_1"})) == {("versoin", "unknown_field")}
    problem(acme_client.get(PATH, {"version": "pfx_1"}), 404, "not_found")


def test_an_outsider_sees_none(globex_client: APIClient, own: Evaluation, federation: Federation) -> None:
    assert globex_client.get(PATH).json()["results"] == []
    assert_same_as_unknown(globex_client, PATH + "?federation={}", federation.public_id)
