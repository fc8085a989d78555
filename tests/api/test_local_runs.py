"""Local runs over HTTP: own ones for a tenant, all for an operator."""

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone
from rest_framework.test import APIClient

from federation.models import LocalRun
from federation.services.claiming import claim_next
from federation.states import LocalRunState
from tenants import scoping
from tenants.models import Tenant
from tests.api.problems import assert_same_as_unknown, faults, problem
from tests.factories import EnrolmentFactory, FederatedRoundFactory, LocalRunFactory, ready_federation
from tests.keys import get_remembered

pytestmark = pytest.mark.django_db
PATH = "/api/v1/local-runs"


@pytest.fixture
def own(acme: Tenant) -> LocalRun:
    enrolment = EnrolmentFactory.create(tenant=acme)
    federated_round = FederatedRoundFactory.create(parent_version__federation=enrolment.federation)
    return LocalRunFactory.create(federated_round=federated_round, enrolment=enrolment)


@pytest.fixture
def others(own: LocalRun) -> LocalRun:
    """Another tenant's, in the same round."""
    return LocalRunFactory.create(federated_round=own.federated_round)


def test_a_tenant_reads_its_own(
    acme_client: APIClient, acme: Tenant, own: LocalRun, others: LocalRun
) -> None:
    [body] = acme_client.get(PATH).json()["results"]
    assert acme_client.get(f"{PATH}/{own.public_id}").json() == {
        **body,
        "place_in_queue": 1,
        "estimated_start_seconds": None,
        "log_tails": None,
    }
    assert body["id"] == own.public_id
    assert body["round"] == own.federated_round.public_id
    assert body["federation"] == own.federated_round.federation.public_id
    assert (body["tenant"], body["dataset"]) == (acme.public_id, own.dataset.public_id)
    assert (body["state"], body["attempt"], body["n_examples"]) == ("queued", 0, 80)
    assert (body["progress"], body["history"], body["metrics"]) == ({}, [], {})
    assert (body["update"], body["rejection"], body["finished_at"]) == (None, None, None)
    assert_same_as_unknown(acme_client, PATH + "/{}", others.public_id)


def test_what_a_worker_reported_is_told(operator_client: APIClient) -> None:
    run = LocalRunFactory.create(
        state=LocalRunState.REJECTED,
        finished_at=timezone.now(),
        attempt=2,
        progress={"step": 12, "n_steps": 12, "loss": 0.25},
        history=[[1, 0.75], [12, 0.25]],
        metrics={"tokens_per_second": 812.5},
        update_sha256="d" * 64,
        update_size_bytes=4_096,
        rejection_code="update_not_finite",
        state_reason="It holds a NaN.",
    )
    body = operator_client.get(f"{PATH}/{run.public_id}").json()
    assert (body["progress"]["loss"], body["history"]) == (0.25, [[1, 0.75], [12, 0.25]])
    assert body["metrics"] == {"tokens_per_second": 812.5}
    assert body["update"] == {"sha256": "d" * 64, "size_bytes": 4_096}
    assert body["rejection"] == {"code": "update_not_finite", "detail": "It holds a NaN."}


def test_a_waiting_run_tells_its_place_among_all_tenants(
    globex_client: APIClient, globex: Tenant, own: LocalRun
) -> None:
    later = LocalRunFactory.create(
        federated_round=own.federated_round,
        enrolment=EnrolmentFactory.create(tenant=globex, federation=own.federated_round.federation),
    )
    path = f"{PATH}/{later.public_id}"
    assert globex_client.get(path).json()["place_in_queue"] == 2
    with scoping.platform():
        claim_next(owner="worker")
    assert globex_client.get(path).json()["place_in_queue"] == 1
    with scoping.platform():
        claim_next(owner="worker")
    assert globex_client.get(path).json()["place_in_queue"] is None


def test_filters(operator_client: APIClient, own: LocalRun, others: LocalRun) -> None:
    elsewhere = LocalRunFactory.create()

    def listed(**query: str) -> list[str]:
        return [row["id"] for row in operator_client.get(PATH, query).json()["results"]]

    federated_round = own.federated_round
    assert listed() == [elsewhere.public_id, others.public_id, own.public_id]
    assert listed(round=federated_round.public_id) == [others.public_id, own.public_id]
    assert listed(federation=federated_round.federation.public_id) == [others.public_id, own.public_id]
    assert (
        listed(round=federated_round.public_id, federation=elsewhere.federated_round.federation.public_id)
        == []
    )


def test_bad_filters(acme_client: APIClient, own: LocalRun) -> None:
    assert faults(acme_client.get(PATH, {"tenant": "tnt_1"})) == {("tenant", "unknown_field")}
    assert faults(acme_client.get(PATH, {"round": ""})) == {("round", "blank")}
    problem(acme_client.get(PATH, {"round": own.public_id}), 404, "not_found")


def test_a_list_takes_as_many_queries_for_many_rows_as_for_one(operator_client: APIClient) -> None:
    LocalRunFactory.create()
    get_remembered(operator_client, PATH)
    with CaptureQueriesContext(connection) as few:
        operator_client.get(PATH)
    LocalRunFactory.create_batch(4)
    with CaptureQueriesContext(connection) as many:
        assert len(operator_client.get(PATH).json()["results"]) == 5
    assert len(many) == len(few)


def test_a_tenant_keeps_its_runs_when_it_has_left(acme_client: APIClient, own: LocalRun) -> None:
    federation = own.federated_round.federation.public_id
    enrolment = own.enrolment.public_id
    assert acme_client.delete(f"/api/v1/federations/{federation}/enrolments/{enrolment}").status_code == 200
    assert acme_client.get(f"{PATH}/{own.public_id}").status_code == 200
    problem(acme_client.get(PATH, {"federation": federation}), 404, "not_found")


def test_an_outsider_sees_none(globex_client: APIClient, own: LocalRun) -> None:
    assert globex_client.get(PATH).json()["results"] == []
    assert_same_as_unknown(globex_client, PATH + "/{}", own.public_id)
    assert_same_as_unknown(globex_client, PATH + "?round={}", own.federated_round.public_id)
    federation = own.federated_round.federation
    assert_same_as_unknown(globex_client, PATH + "?federation={}", federation.public_id)


def test_a_list_does_not_change_when_others_add_rows(acme_client: APIClient, own: LocalRun) -> None:
    before = acme_client.get(PATH).json()
    LocalRunFactory.create(federated_round=own.federated_round)
    ready_federation()
    assert acme_client.get(PATH).json() == before
