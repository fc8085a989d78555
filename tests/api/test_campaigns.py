"""Campaigns over HTTP."""

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from rest_framework.test import APIClient

from federation import tasks
from federation.models import Campaign, FederatedRound, Federation
from tenants import scoping
from tenants.models import Tenant
from tests.api.problems import assert_same_as_unknown, faults, problem
from tests.factories import (
    CampaignFactory,
    EnrolmentFactory,
    EvaluationFactory,
    FederatedRoundFactory,
    PrefixVersionFactory,
    ready_federation,
)
from tests.federation import rounds as steps
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
    return f"/api/v1/federations/{federation.public_id}/campaigns"


def hold_round(public_id: str, score: float) -> None:
    """The campaign's live round, and the opening of the next one."""
    with scoping.platform():
        federated_round = FederatedRound.objects.get(finished_at=None)
    steps.train_all(federated_round)
    steps.score_all(federated_round, parent=0.5, candidate=score)
    tasks.advance_campaign(public_id)


def test_an_operator_starts_watches_and_cancels_a_campaign(
    operator_client: APIClient, path: str, federation: Federation
) -> None:
    started = operator_client.post(path, {"n_rounds": 4, "patience": 2}, format="json")
    assert started.status_code == 201, started.content
    body = started.json()
    assert body["id"].startswith("cmp_")
    assert body["federation"] == federation.public_id
    assert (body["state"], body["n_rounds"], body["patience"], body["evaluate_every"]) == ("running", 4, 2, 1)
    assert (body["n_ended_rounds"], body["n_rounds_by_state"]) == (0, {"training": 1})
    assert body["live_round"].startswith("rnd_")
    assert (body["best_version"], body["best_score"], body["finished_at"]) == (None, None, None)

    hold_round(body["id"], 0.75)
    hold_round(body["id"], 0.5)
    one = f"/api/v1/campaigns/{body['id']}"
    body = operator_client.get(one).json()
    assert body["n_rounds_by_state"] == {"kept": 1, "published": 1, "training": 1}
    assert (body["n_ended_rounds"], body["best_score"]) == (2, 0.75)
    published = operator_client.get(f"/api/v1/federations/{federation.public_id}/published").json()
    assert body["best_version"] == published["version"]

    live = f"/api/v1/rounds/{body['live_round']}"
    problem(operator_client.post(f"{live}/cancel"), 409, "round_of_campaign")
    problem(operator_client.post(path, {"n_rounds": 1}, format="json"), 409, "campaign_in_progress")
    by_hand = f"/api/v1/federations/{federation.public_id}/rounds"
    problem(operator_client.post(by_hand, {}, format="json"), 409, "campaign_in_progress")

    canceled = operator_client.post(f"{one}/cancel")
    assert canceled.status_code == 200, canceled.content
    assert (canceled.json()["state"], canceled.json()["live_round"]) == ("canceled", None)
    assert operator_client.get(path).json()["results"] == [canceled.json()]
    assert operator_client.get(live).json()["state"] == "canceled"
    problem(operator_client.post(f"{one}/cancel"), 409, "campaign_state_conflict")
    events = operator_client.get(f"/api/v1/events?federation={federation.public_id}").json()["results"]
    of_campaigns = [event["kind"] for event in events if event["kind"].startswith("campaign.")]
    assert of_campaigns == ["campaign.running", "campaign.canceled"]


def test_rounds_tell_their_campaign_and_are_found_by_it(
    operator_client: APIClient, path: str, federation: Federation
) -> None:
    alone = steps.start(federation)
    operator_client.post(f"/api/v1/rounds/{alone.public_id}/cancel")
    campaign = operator_client.post(path, {"n_rounds": 2}, format="json").json()
    hold_round(campaign["id"], 0.4)
    rounds = f"/api/v1/federations/{federation.public_id}/rounds"
    second, first = operator_client.get(f"{rounds}?campaign={campaign['id']}").json()["results"]
    assert (first["campaign"], second["campaign"]) == (campaign["id"], campaign["id"])
    assert second["parent_version"] == first["candidate_version"]
    assert second["incumbent_version"] == first["incumbent_version"] == first["parent_version"]
    everything = operator_client.get(rounds).json()["results"]
    assert [one["campaign"] for one in everything] == [campaign["id"], campaign["id"], None]
    problem(operator_client.get(f"{rounds}?campaign=cmp_{'0' * 26}"), 404, "not_found")


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({}, "n_rounds"),
        ({"n_rounds": 0}, "n_rounds"),
        ({"n_rounds": 1_001}, "n_rounds"),
        ({"n_rounds": 3, "patience": 0}, "patience"),
        ({"n_rounds": 3, "evaluate_every": 0}, "evaluate_every"),
        ({"n_rounds": 3, "quorum": 1}, "quorum"),
    ],
)
def test_what_is_wrong_is_told_by_field(
    operator_client: APIClient, path: str, body: dict[str, int], field: str
) -> None:
    assert {name for name, _ in faults(operator_client.post(path, body, format="json"))} == {field}


def test_what_keeps_a_round_from_starting_keeps_a_campaign_from_it(operator_client: APIClient) -> None:
    short = ready_federation(n_tenants=1, quorum=2)
    path = f"/api/v1/federations/{short.public_id}/campaigns"
    problem(operator_client.post(path, {"n_rounds": 3}, format="json"), 409, "quorum_out_of_reach")
    with scoping.platform():
        assert not Campaign.objects.exists()


def test_a_tenant_watches_with_its_own_scores_and_decides_nothing(
    acme_client: APIClient, operator_client: APIClient, acme: Tenant, federation: Federation, path: str
) -> None:
    problem(acme_client.post(path, {"n_rounds": 3}, format="json"), 403, "operator_only")
    with scoping.platform():
        start = federation.published.version
        place = federation.enrolments.select_related("dataset__tenant").get(tenant=acme)
    campaign = CampaignFactory.create(federation=federation)
    grown = PrefixVersionFactory.create(federation=federation, number=1, parent=start)
    FederatedRoundFactory.create(
        parent_version=start,
        candidate_version=grown,
        campaign=campaign,
        state="published",
        finished_at=grown.created_at,
    )
    EvaluationFactory.create(version=grown, dataset=place.dataset, accuracy=0.5)
    EvaluationFactory.create(version=grown, accuracy=1.0)
    one = f"/api/v1/campaigns/{campaign.public_id}"
    assert acme_client.get(one).json()["best_score"] == 0.5
    assert operator_client.get(one).json()["best_score"] == 0.75
    assert acme_client.get(path).json()["results"] == [acme_client.get(one).json()]
    problem(acme_client.post(f"{one}/cancel"), 403, "operator_only")


def test_a_list_takes_as_many_queries_for_many_campaigns_as_for_one(operator_client: APIClient) -> None:
    start = PrefixVersionFactory.create()
    path = f"/api/v1/federations/{start.federation.public_id}/campaigns"

    def add(number: int) -> None:
        ended = {"finished_at": start.created_at}
        campaign = CampaignFactory.create(federation=start.federation, state="completed", **ended)
        grown = PrefixVersionFactory.create(federation=start.federation, number=number, parent=start)
        FederatedRoundFactory.create(
            parent_version=start,
            candidate_version=grown,
            number=number,
            campaign=campaign,
            state="published",
            **ended,
        )

    add(1)
    get_remembered(operator_client)
    with CaptureQueriesContext(connection) as few:
        operator_client.get(path)
    for number in range(2, 7):
        add(number)
    with CaptureQueriesContext(connection) as many:
        assert len(operator_client.get(path).json()["results"]) == 6
    assert len(many) == len(few)


def test_an_outsider_sees_none(globex_client: APIClient, federation: Federation, path: str) -> None:
    campaign = CampaignFactory.create(federation=federation)
    assert_same_as_unknown(globex_client, "/api/v1/campaigns/{}", campaign.public_id)
    assert_same_as_unknown(globex_client, "/api/v1/campaigns/{}/cancel", campaign.public_id, method="post")
    assert_same_as_unknown(globex_client, "/api/v1/federations/{}/campaigns", federation.public_id)
