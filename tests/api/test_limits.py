"""Limits and usage over HTTP: what is refused, what the headers tell, who may read and set what."""

import time
from datetime import date, timedelta
from typing import Any

import pytest
from django.core.files.uploadedfile import SimpleUploadedFile
from django.utils import timezone
from pydantic import SecretStr
from pytest_django import Settings
from rest_framework.test import APIClient

from federation.models import PrefixVersion
from tenants import scoping
from tenants.models import Tenant, UsageDay
from tenants.services import request_rate, request_windows
from tenants.services.request_counts import RequestCounts
from tenants.services.request_windows import Window
from tests.api.problems import assert_same_as_unknown, faults, problem
from tests.factories import DatasetFactory, EnrolmentFactory, UsageDayFactory, ready_federation
from tests.federation import rounds as steps
from tests.standing_clock import StandingClock
from tests.tenants.test_limits import limit

pytestmark = pytest.mark.django_db
ROWS = b"text,label\nfine,good\n"
NONE: dict[str, int | None] = {
    "requests_per_minute": None,
    "rounds_in_flight": None,
    "dataset_rows": None,
    "stored_bytes": None,
    "device_seconds_per_month": None,
    "concurrent_runs": None,
    "weight": 1,
}


def path(tenant: Tenant, name: str = "limits") -> str:
    return f"/api/v1/tenants/{tenant.public_id}/{name}"


def told(answer: Any) -> tuple[int, int, int]:
    """Limit, remaining and reset of an answer's headers."""
    limit, left, reset = (int(answer[f"RateLimit-{name}"]) for name in ("Limit", "Remaining", "Reset"))
    return limit, left, reset


def upload(client: APIClient, data: bytes = ROWS) -> Any:
    body = {"name": "rows", "file": SimpleUploadedFile("rows.csv", data)}
    return client.post("/api/v1/datasets", body, format="multipart")


def test_answers_tell_what_is_left_errors_too(acme_client: APIClient, acme: Tenant) -> None:
    limit(acme, requests_per_minute=5)
    first, missing = acme_client.get("/api/v1/me"), acme_client.get("/api/v1/rounds/rnd_1")
    limit_told, left, reset = told(first)
    assert (limit_told, left) == (5, 4)
    assert 0 < reset <= 2 * request_windows.WINDOW_SECONDS
    problem(missing, 404, "not_found")
    assert told(missing)[1] == 3


def test_too_many_requests_are_429_until_retry_after(
    acme_client: APIClient, acme: Tenant, globex_client: APIClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(request_windows, "WINDOW_SECONDS", 2)
    limit(acme, requests_per_minute=3)
    assert [acme_client.get("/api/v1/me").status_code for _ in range(3)] == [200] * 3
    refused = acme_client.get("/api/v1/me")
    body = problem(refused, 429, "rate_limited")
    assert (body["limit"], body["used"]) == (3, 3)
    assert told(refused)[:2] == (3, 0)
    assert globex_client.get("/api/v1/me").status_code == 200
    assert 1 <= int(refused["Retry-After"]) <= 3
    time.sleep(int(refused["Retry-After"]))
    assert acme_client.get("/api/v1/me").status_code == 200


@pytest.mark.parametrize(
    ("window", "limit", "seconds"),
    [
        (
            Window(0, 0.0, 10, 80.0),
            10,
            20,
        ),  # when this window has become the last one, a tenth of it is enough
        (Window(10, 30.0, 5, 90.0), 10, 0),  # 10 of the last window weigh 5 by now, and less at once
        (Window(100, 50.0, 0, 0.0), 10, 44),
        (Window(0, 0.0, 100, 120.0), 10, 114),  # the limit was lowered
    ],
)
def test_retry_after_is_when_the_next_request_fits(window: Window, limit: int, seconds: int) -> None:
    assert window.opens_in_seconds(limit) == seconds + 1


def test_operators_are_not_limited(operator_client: APIClient, counted_requests: RequestCounts) -> None:
    answer = operator_client.get("/api/v1/me")
    assert "RateLimit-Limit" not in answer
    counted_requests.write()
    with scoping.platform():
        assert not UsageDay.objects.exists()


def test_a_tenant_without_a_limit_is_told_none(acme_client: APIClient) -> None:
    answer = acme_client.get("/api/v1/me")
    assert (answer.status_code, "RateLimit-Limit" in answer) == (200, False)


def test_while_valkey_is_away_requests_are_let_through_at_once_and_the_log_is_told_once(
    acme_client: APIClient, acme: Tenant, settings: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    limit(acme, requests_per_minute=1)
    settings.BROKER_URL = SecretStr("redis://127.0.0.1:1/0")
    request_rate._script.cache_clear()
    try:
        began_at = time.monotonic()
        answers = [acme_client.get("/api/v1/me") for _ in range(3)]
        assert time.monotonic() - began_at < 3
        standing = acme_client.get(path(acme, "limits/standing")).json()
    finally:
        request_rate._script.cache_clear()
    assert [answer.status_code for answer in answers] == [200] * 3
    assert standing["requests_per_minute"] == {"limit": 1, "used": None}
    assert sum("requests_not_counted" in record.getMessage() for record in caplog.records) == 1


def test_a_changed_limit_holds_within_a_second(
    acme_client: APIClient, acme: Tenant, operator_client: APIClient, standing_clock: StandingClock
) -> None:
    def set_rate(rate: int | None) -> None:
        changed = operator_client.put(path(acme), {**NONE, "requests_per_minute": rate}, format="json")
        assert changed.status_code == 200
        assert changed.json()["requests_per_minute"] == rate
        standing_clock.advance(1)

    set_rate(2)
    assert [acme_client.get("/api/v1/me").status_code for _ in range(3)] == [200, 200, 429]
    set_rate(4)
    assert [acme_client.get("/api/v1/me").status_code for _ in range(3)] == [200, 200, 429]
    set_rate(1)
    problem(acme_client.get("/api/v1/me"), 429, "rate_limited")
    set_rate(None)
    assert acme_client.get("/api/v1/me").status_code == 200


def test_limits_are_read_beside_what_is_used(
    acme_client: APIClient, acme: Tenant, globex_client: APIClient, operator_client: APIClient
) -> None:
    DatasetFactory.create(tenant=acme, size_bytes=70, facts={"n_rows": 7})
    UsageDayFactory.create(tenant=acme, device_seconds="12.5")
    federation = ready_federation(n_tenants=2)
    EnrolmentFactory.create(
        federation=federation,
        tenant=acme,
        dataset=DatasetFactory.create(
            tenant=acme, size_bytes=30, facts={"n_rows": 3, "n_train": 2, "n_held_out": 1}
        ),
    )
    steps.start(federation)
    limit(acme, requests_per_minute=100, stored_bytes=500)
    read = acme_client.get(path(acme, "limits/standing")).json()
    assert read == {
        "requests_per_minute": {"limit": 100, "used": 1},
        "rounds_in_flight": {"limit": None, "used": 1},
        "dataset_rows": {"limit": None, "used": 10},
        "stored_bytes": {"limit": 500, "used": 100},
        "device_seconds_per_month": {"limit": None, "used": 12.5},
        "concurrent_runs": {"limit": None, "used": 0},
    }
    assert operator_client.get(path(acme, "limits/standing")).json() == read
    assert_same_as_unknown(globex_client, "/api/v1/tenants/{}/limits", acme.public_id)


def test_only_operators_set_limits(acme_client: APIClient, acme: Tenant, globex_client: APIClient) -> None:
    problem(acme_client.put(path(acme), NONE, format="json"), 403, "operator_only")
    problem(globex_client.put(path(acme), NONE, format="json"), 404, "not_found")


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"requests_per_minute": 0}, {("requests_per_minute", "min_value")}),
        ({"stored_bytes": -1}, {("stored_bytes", "min_value")}),
        ({"dataset_rows": 2**53 + 1}, {("dataset_rows", "max_value")}),
        ({"concurrent_runs": 0}, {("concurrent_runs", "min_value")}),
        ({"weight": 0}, {("weight", "min_value")}),
        ({"weight": 101}, {("weight", "max_value")}),
        ({"weight": None}, {("weight", "null")}),
        ({"rounds": 1}, {("rounds", "unknown_field")}),
    ],
)
def test_bad_limits_name_field_and_code(
    operator_client: APIClient, acme: Tenant, change: dict[str, int], expected: set[tuple[str, str]]
) -> None:
    assert faults(operator_client.put(path(acme), {**NONE, **change}, format="json")) == expected


def test_limits_are_set_as_a_whole(operator_client: APIClient, acme: Tenant) -> None:
    partial = operator_client.put(path(acme), {"stored_bytes": 5}, format="json")
    assert {code for _, code in faults(partial)} == {"required"}


def test_an_upload_that_does_not_fit_is_refused_with_limit_and_used(
    acme_client: APIClient, acme: Tenant
) -> None:
    limit(acme, stored_bytes=100)
    DatasetFactory.create(tenant=acme, size_bytes=90)
    body = problem(upload(acme_client), 403, "quota_stored_bytes")
    assert (body["limit"], body["used"]) == (100, 90)
    limit(acme, stored_bytes=90 + len(ROWS))
    assert upload(acme_client).status_code == 201
    limit(acme, stored_bytes=10**6, dataset_rows=100)  # the factory's dataset has 100 rows
    assert problem(upload(acme_client), 403, "quota_dataset_rows")["used"] == 100


def test_usage_is_listed_by_day_within_its_tenant(
    acme_client: APIClient, acme: Tenant, globex: Tenant, globex_client: APIClient, operator_client: APIClient
) -> None:
    today = timezone.now().date()
    for days_ago in (2, 0, 1, 40):
        UsageDayFactory.create(tenant=acme, day=today - timedelta(days=days_ago), n_requests=days_ago)
    UsageDayFactory.create(tenant=globex, n_requests=77)

    def days(client: APIClient, query: str = "") -> list[int]:
        return [row["n_requests"] for row in client.get(f"{path(acme, 'usage')}{query}").json()["results"]]

    def ago(n_days: int) -> date:
        return today - timedelta(days=n_days)

    assert days(acme_client) == days(operator_client) == [0, 1, 2, 40]
    assert days(acme_client, f"?since={ago(2)}&until={ago(1)}") == [1, 2]
    assert days(acme_client, f"?until={ago(3)}") == [40]
    page = acme_client.get(f"{path(acme, 'usage')}?page_size=3").json()
    assert [row["n_requests"] for row in acme_client.get(page["next"]).json()["results"]] == [40]
    assert_same_as_unknown(globex_client, "/api/v1/tenants/{}/usage", acme.public_id)
    wrong = acme_client.get(f"{path(acme, 'usage')}?since={ago(1)}&until={ago(2)}")
    assert faults(wrong) == {("until", "out_of_range")}
    assert faults(acme_client.get(f"{path(acme, 'usage')}?since=soon")) == {("since", "invalid")}
    lost = acme_client.get(f"{path(acme, 'usage')}?cursor=cD1zb29u")  # p=soon
    problem(lost, 400, "cursor_invalid")


def test_what_a_tenant_does_is_in_its_usage_and_no_others(
    acme_client: APIClient,
    acme: Tenant,
    globex: Tenant,
    counted_requests: RequestCounts,
    standing_clock: StandingClock,
) -> None:
    federation = ready_federation()
    EnrolmentFactory.create(federation=federation, tenant=acme)
    with scoping.platform():
        version: PrefixVersion = federation.published.version
    archive = f"/api/v1/prefix-versions/{version.public_id}/archive"
    assert upload(acme_client).status_code == 201
    downloaded = acme_client.get(archive)
    size = len(downloaded.getvalue())
    assert acme_client.get(archive, headers={"If-None-Match": downloaded["ETag"]}).status_code == 304
    assert acme_client.head(archive).status_code == 200
    limit(acme, requests_per_minute=1)
    standing_clock.advance(1)
    assert [acme_client.get("/api/v1/me").status_code for _ in range(2)] == [200, 429]
    counted_requests.write()
    limit(acme, requests_per_minute=1_000)
    standing_clock.advance(1)
    [day] = acme_client.get(path(acme, "usage")).json()["results"]
    assert day == {
        "day": str(timezone.now().date()),
        "n_requests": 5,
        "device_seconds": 0.0,
        "received_bytes": len(ROWS),
        "sent_bytes": size,
    }
    with scoping.platform():
        assert not UsageDay.objects.filter(tenant=globex).exists()


def test_an_operators_download_is_nobodys_usage(operator_client: APIClient) -> None:
    federation = ready_federation()
    with scoping.platform():
        version: PrefixVersion = federation.published.version
    answer = operator_client.get(f"/api/v1/prefix-versions/{version.public_id}/archive")
    assert (answer.status_code, len(answer.getvalue())) == (200, int(answer["Content-Length"]))
    with scoping.platform():
        assert not UsageDay.objects.exists()
