"""Rounds over HTTP."""

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from rest_framework.test import APIClient

from federation.models import Evaluation, FederatedRound, Federation, LocalRun
from federation.services import evaluations, local_runs, rounds
from federation.states import FederationState, LocalRunState, RoundState
from tenants import scoping
from tenants.models import Tenant
from tests.api.problems import assert_same_as_unknown, faults, problem
from tests.claims import claim
from tests.factories import (
    EnrolmentFactory,
    FederatedRoundFactory,
    FederationFactory,
    LocalRunFactory,
    PrefixVersionFactory,
    ready_federation,
)
from tests.keys import get_remembered

pytestmark = pytest.mark.django_db


@pytest.fixture
def federation(acme: Tenant) -> Federation:
    """Acme and two others."""
    federation = ready_federation(n_tenants=2)
    EnrolmentFactory.create(federation=federation, tenant=acme)
    return federation


@pytest.fixture
def path(federation: Federation) -> str:
    return f"/api/v1/federations/{federation.public_id}/rounds"


def test_an_operator_starts_watches_and_cancels_a_round(
    operator_client: APIClient, path: str, federation: Federation
) -> None:
    started = operator_client.post(path, {}, format="json")
    assert started.status_code == 201, started.content
    body = started.json()
    assert body["id"].startswith("rnd_")
    assert body["federation"] == federation.public_id
    assert (body["number"], body["state"], body["quorum"]) == (1, "training", 2)
    assert (body["candidate_version"], body["finished_at"], body["due_at"]) == (None, None, None)
    assert body["parent_version"].startswith("pfx_")
    assert body["n_local_runs"] == {"queued": 3}
    assert (body["up_bytes"], body["down_bytes"]) == (0, 0)
    assert set(body["phase_seconds"]) == {"open", "training"}

    problem(operator_client.post(path, {}, format="json"), 409, "round_in_progress")
    one = f"/api/v1/rounds/{body['id']}"
    canceled = operator_client.post(f"{one}/cancel")
    assert canceled.status_code == 200
    key = operator_client.get("/api/v1/me").json()["key"]["id"]
    assert (canceled.json()["state"], canceled.json()["reason"]) == ("canceled", f"Canceled by key {key}.")
    assert canceled.json()["n_local_runs"] == {"canceled": 3}
    assert operator_client.get(one).json() == canceled.json()
    assert operator_client.get(path).json()["results"] == [canceled.json()]
    problem(operator_client.post(f"{one}/cancel"), 409, "round_state_conflict")
    kinds = [event["kind"] for event in operator_client.get(f"{one}/events").json()["results"]]
    assert kinds[0] == "round.training"
    assert sorted(kinds[1:]) == ["local_run.canceled"] * 3 + ["round.canceled"]


def test_a_round_starts_without_a_body_too(operator_client: APIClient, path: str) -> None:
    assert operator_client.post(path).status_code == 201


def test_what_keeps_a_round_from_starting(operator_client: APIClient) -> None:
    short = ready_federation(n_tenants=1, quorum=2)
    refused = operator_client.post(f"/api/v1/federations/{short.public_id}/rounds", {}, format="json")
    problem(refused, 409, "quorum_out_of_reach")
    preparing = FederationFactory.create(state=FederationState.PREPARING)
    refused = operator_client.post(f"/api/v1/federations/{preparing.public_id}/rounds", {}, format="json")
    problem(refused, 409, "federation_not_ready")
    with scoping.platform():
        assert not FederatedRound.objects.exists()


def test_a_start_takes_no_fields(operator_client: APIClient, path: str) -> None:
    assert faults(operator_client.post(path, {"quorum": 1}, format="json")) == {("quorum", "unknown_field")}


def test_bytes_are_those_of_every_attempt(operator_client: APIClient, federation: Federation) -> None:
    with scoping.platform():
        federated_round = rounds.start_round(federation=federation)
        first, second, _ = LocalRun.objects.order_by("id")
        for _ in range(2):  # the second attempt fetches the parent again
            first = claim(LocalRun, first.pk, owner="one")
            if first.attempt == 1:
                first.move_to(LocalRunState.QUEUED, lease_expires_at=None, lease_owner="")
        local_runs.submit_update(local_run=first, update=b"u" * 70, metrics={})
        claim(LocalRun, second.pk, owner="two")
        candidate = PrefixVersionFactory.create(
            federation=federation, number=1, parent=federated_round.parent_version
        )
        FederatedRound.objects.update(candidate_version=candidate)
        place = evaluations.Place(first.dataset_id, first.tenant_id)
        evaluations.request(federation=federation, version=candidate, places=[place])
        evaluation = Evaluation.objects.get(version=candidate, dataset=first.dataset)
        claim(Evaluation, evaluation.pk, owner="one")
    body = operator_client.get(f"/api/v1/rounds/{federated_round.public_id}").json()
    assert body["n_local_runs"] == {"queued": 1, "running": 1, "submitted": 1}
    assert body["up_bytes"] == 70
    assert body["down_bytes"] == 3 * federated_round.parent_version.size_bytes + candidate.size_bytes


def test_a_tenant_watches_and_decides_nothing(
    acme_client: APIClient, operator_client: APIClient, acme: Tenant, path: str
) -> None:
    problem(acme_client.post(path, {}, format="json"), 403, "operator_only")
    started = operator_client.post(path, {}, format="json").json()
    assert acme_client.get(path).json()["results"][0]["n_local_runs"] == {"queued": 1}
    one = f"/api/v1/rounds/{started['id']}"
    problem(acme_client.post(f"{one}/cancel"), 403, "operator_only")
    operator_client.post(f"{one}/cancel")
    events = acme_client.get(f"{one}/events").json()["results"]
    assert sorted((event["kind"], event["tenant"]) for event in events) == [
        ("local_run.canceled", acme.public_id),
        ("round.canceled", None),
        ("round.training", None),
    ]


def test_a_list_takes_as_many_queries_for_many_rounds_as_for_one(operator_client: APIClient) -> None:
    version = PrefixVersionFactory.create()
    path = f"/api/v1/federations/{version.federation.public_id}/rounds"

    def add(number: int) -> None:
        federated_round = FederatedRoundFactory.create(
            parent_version=version, number=number, state=RoundState.FAILED, finished_at=version.created_at
        )
        LocalRunFactory.create(federated_round=federated_round)

    add(1)
    get_remembered(operator_client)
    with CaptureQueriesContext(connection) as few:
        operator_client.get(path)
    for number in range(2, 7):
        add(number)
    with CaptureQueriesContext(connection) as many:
        assert len(operator_client.get(path).json()["results"]) == 6
    assert len(many) == len(few)


def test_an_outsider_sees_none(globex_client: APIClient, federation: Federation) -> None:
    federated_round = FederatedRoundFactory.create(parent_version=_start(federation))
    for one in ("/api/v1/rounds/{}", "/api/v1/rounds/{}/events"):
        assert_same_as_unknown(globex_client, one, federated_round.public_id)
    assert_same_as_unknown(
        globex_client, "/api/v1/rounds/{}/cancel", federated_round.public_id, method="post"
    )
    started = "/api/v1/federations/{}/rounds"
    assert_same_as_unknown(globex_client, started, federation.public_id)
    assert_same_as_unknown(globex_client, started, federation.public_id, method="post")
    with scoping.platform():
        assert FederatedRound.objects.get().state == RoundState.TRAINING


def _start(federation: Federation) -> object:
    with scoping.platform():
        return federation.published.version
