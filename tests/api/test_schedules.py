"""Schedules over HTTP."""

from datetime import datetime, timedelta
from typing import Any

import pytest
from django.utils import timezone
from rest_framework.test import APIClient

from federation.models import Schedule
from tenants.models import Tenant
from tests.api.problems import assert_same_as_unknown, faults, problem
from tests.factories import EnrolmentFactory, FederationFactory, ScheduleFactory

pytestmark = pytest.mark.django_db


@pytest.fixture
def path(db: None) -> str:
    return f"/api/v1/federations/{FederationFactory.create().public_id}/schedule"


def put(client: APIClient, path: str, **body: Any) -> Any:
    return client.put(path, body, format="json")


def test_a_schedule_is_set_replaced_and_removed(operator_client: APIClient, path: str) -> None:
    problem(operator_client.get(path), 404, "not_found")
    body = put(operator_client, path, every_minutes=10).json()
    assert (body["every_minutes"], body["cron"], body["last_outcome"]) == (10, "", "")
    due_in = datetime.fromisoformat(body["next_due_at"]) - timezone.now()
    assert timedelta(minutes=9) < due_in <= timedelta(minutes=10)
    assert operator_client.get(path).json() == body

    body = put(operator_client, path, cron="30 6 * * 1-5", time_zone="Europe/Berlin").json()
    assert (body["every_minutes"], body["cron"], body["time_zone"]) == (None, "30 6 * * 1-5", "Europe/Berlin")
    assert Schedule.objects.count() == 1
    for _ in range(2):
        assert operator_client.delete(path).status_code == 204
    problem(operator_client.get(path), 404, "not_found")


def test_a_schedule_is_paused_and_resumed(operator_client: APIClient, path: str) -> None:
    body = put(operator_client, path, every_minutes=10).json()
    first = datetime.fromisoformat(body["next_times"][0])
    assert [datetime.fromisoformat(time) - first for time in body["next_times"]] == [
        timedelta(minutes=minutes) for minutes in (0, 10, 20)
    ]
    paused = put(operator_client, path, every_minutes=10, is_paused=True).json()
    assert (paused["is_paused"], paused["next_times"]) == (True, [])
    resumed = put(operator_client, path, every_minutes=10).json()
    assert (resumed["is_paused"], len(resumed["next_times"])) == (False, 3)


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"every_minutes": 10, "cron": "* * * * *"},
        {"cron": "every day"},
        {"cron": "0 0 31 2 *"},
        {"cron": "* * * * *", "time_zone": "Mars/Olympus"},
        {"cron": "* * * * *", "time_zone": "../../etc/passwd"},
    ],
)
def test_a_rule_that_is_none(operator_client: APIClient, path: str, body: dict[str, object]) -> None:
    problem(put(operator_client, path, **body), 422, "schedule_invalid")
    assert not Schedule.objects.exists()


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ({"every_minutes": 0}, ("every_minutes", "min_value")),
        ({"every_minutes": 10**12}, ("every_minutes", "max_value")),
        ({"every_minutes": "soon"}, ("every_minutes", "invalid")),
        ({"cron": "* " * 200}, ("cron", "max_length")),
        ({"minutes": 5}, ("minutes", "unknown_field")),
    ],
)
def test_bad_input(
    operator_client: APIClient, path: str, body: dict[str, object], expected: tuple[str, str]
) -> None:
    assert faults(put(operator_client, path, **body)) == {expected}


def test_a_tenant_has_no_part_in_it(acme_client: APIClient, acme: Tenant) -> None:
    federation = EnrolmentFactory.create(tenant=acme).federation
    path = f"/api/v1/federations/{federation.public_id}/schedule"
    problem(acme_client.get(path), 403, "operator_only")
    problem(put(acme_client, path, every_minutes=1), 403, "operator_only")


def test_an_outsider_does_not_learn_of_the_federation(globex_client: APIClient) -> None:
    schedule = ScheduleFactory.create()
    path = "/api/v1/federations/{}/schedule"
    assert_same_as_unknown(globex_client, path, schedule.federation.public_id)
    assert_same_as_unknown(globex_client, path, schedule.federation.public_id, method="delete")
    sent = {"data": {"every_minutes": 1}, "format": "json", "method": "put"}
    assert_same_as_unknown(globex_client, path, schedule.federation.public_id, **sent)
    assert Schedule.objects.get().every_minutes == 10
