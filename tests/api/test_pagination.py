"""Lists in pages."""

import base64

import pytest
from rest_framework.test import APIClient

from tests.api.problems import faults, problem
from tests.factories import FederatedRoundFactory, RoundEventFactory, TenantFactory

pytestmark = pytest.mark.django_db
TENANTS = "/api/v1/tenants"


def slugs(page: dict[str, list[dict[str, str]]]) -> list[str]:
    return [row["slug"] for row in page["results"]]


def test_pages_follow_one_another_there_and_back(operator_client: APIClient) -> None:
    made = [TenantFactory.create().slug for _ in range(5)][::-1]
    first = operator_client.get(TENANTS, {"page_size": 2}).json()
    assert first["previous"] is None
    second = operator_client.get(first["next"]).json()
    third = operator_client.get(second["next"]).json()
    assert third["next"] is None
    assert slugs(first) + slugs(second) + slugs(third) == made
    assert slugs(operator_client.get(third["previous"]).json()) == slugs(second)


def test_a_row_that_is_added_moves_no_page(operator_client: APIClient) -> None:
    TenantFactory.create_batch(4)
    first = operator_client.get(TENANTS, {"page_size": 2}).json()
    second = slugs(operator_client.get(first["next"]).json())
    TenantFactory.create()
    assert slugs(operator_client.get(first["next"]).json()) == second


def cursor(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


@pytest.mark.parametrize(
    "bad", ["x", "ü", cursor("p=1"), cursor("p=tnt_1"), cursor("o=-1"), cursor("r=x"), "=", cursor("p=%00")]
)
def test_a_cursor_of_nobodys(operator_client: APIClient, bad: str) -> None:
    problem(operator_client.get(TENANTS, {"cursor": bad}), 400, "cursor_invalid")


@pytest.mark.parametrize(
    "bad",
    ["0", "-1", "201", "ten", "", "1e2", "٣", "9" * 5_000, "000000001000000", "000000001" + "9" * 4_500],
)
def test_a_page_of_no_size(operator_client: APIClient, bad: str) -> None:
    assert faults(operator_client.get(TENANTS, {"page_size": bad})) == {("page_size", "out_of_range")}


def test_events_come_oldest_first_and_have_cursors_of_their_own(operator_client: APIClient) -> None:
    federated_round = FederatedRoundFactory.create()
    for kind in ("round.training", "round.aggregating", "round.evaluating"):
        RoundEventFactory.create(federated_round=federated_round, kind=kind)
    events = f"/api/v1/rounds/{federated_round.public_id}/events"
    first = operator_client.get(events, {"page_size": 2}).json()
    assert [event["kind"] for event in first["results"]] == ["round.training", "round.aggregating"]
    rest = operator_client.get(first["next"]).json()
    assert [event["kind"] for event in rest["results"]] == ["round.evaluating"]
    problem(operator_client.get(events, {"cursor": cursor("p=x")}), 400, "cursor_invalid")
    assert operator_client.get(events, {"cursor": cursor("p=" + "9" * 30)}).json()["results"] == []
