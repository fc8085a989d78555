"""Preconditions: what somebody else has changed in between is not overwritten."""

from typing import Any

import pytest
from django.test import Client
from rest_framework.test import APIClient

from federation.models import Enrolment, Federation, PublishRecord, Schedule
from tenants import scoping
from tenants.models import AuditEntry, Tenant
from tenants.states import Role
from tests.api.problems import problem
from tests.factories import (
    DatasetFactory,
    EnrolmentFactory,
    FederationFactory,
    MembershipFactory,
    PrefixVersionFactory,
    ScheduleFactory,
    ready_federation,
)
from tests.racing import at_once

STALE = '"stale"'
N_RACERS = 8


def schedule_path(federation: Federation) -> str:
    return f"/api/v1/federations/{federation.public_id}/schedule"


@pytest.fixture
def schedule(db: None) -> str:
    return schedule_path(ScheduleFactory.create().federation)


@pytest.fixture
def no_schedule(db: None) -> str:
    return schedule_path(FederationFactory.create())


def put(client: APIClient, path: str, *, minutes: int = 5, **headers: str) -> Any:
    return client.put(path, {"every_minutes": minutes}, format="json", headers=named(headers))


def post(client: APIClient, path: str, body: dict[str, str], **headers: str) -> Any:
    return client.post(path, body, format="json", headers=named(headers))


def named(headers: dict[str, str]) -> dict[str, str]:
    """`if_match` as `If-Match`."""
    return {name.replace("_", "-").title(): value for name, value in headers.items()}


def assert_refused(answer: Any) -> None:
    problem(answer, 412, "precondition_failed")
    assert "ETag" not in answer


@pytest.mark.django_db
def test_a_schedule_is_replaced_by_who_has_seen_it_and_then_no_more(
    operator_client: APIClient, schedule: str
) -> None:
    seen = operator_client.get(schedule)["ETag"]
    assert seen.startswith('"')
    replaced = put(operator_client, schedule, minutes=7, if_match=seen)
    assert replaced.status_code == 200
    assert replaced["ETag"] != seen
    assert replaced["ETag"] == operator_client.get(schedule)["ETag"]
    with scoping.platform():
        n_entries = AuditEntry.objects.count()
    assert_refused(put(operator_client, schedule, minutes=9, if_match=seen))
    assert_refused(operator_client.delete(schedule, headers={"If-Match": seen}))
    with scoping.platform():
        assert Schedule.objects.get().every_minutes == 7
        assert AuditEntry.objects.count() == n_entries
    assert operator_client.delete(schedule, headers={"If-Match": replaced["ETag"]}).status_code == 204
    assert_refused(put(operator_client, schedule, if_match=replaced["ETag"]))


@pytest.mark.django_db
def test_a_precondition_is_looked_at_before_the_body(operator_client: APIClient, schedule: str) -> None:
    assert_refused(operator_client.put(schedule, {}, format="json", headers={"If-Match": STALE}))


@pytest.mark.django_db
def test_the_pointer_is_moved_by_who_has_seen_where_it_points(
    operator_client: APIClient, acme_client: APIClient
) -> None:
    federation = ready_federation()
    with scoping.platform():
        start = federation.published.version
    path = f"/api/v1/federations/{federation.public_id}"
    first, second = (
        PrefixVersionFactory.create(federation=federation, number=n, parent=start) for n in (1, 2)
    )
    seen = operator_client.get(f"{path}/published")["ETag"]
    moved = post(operator_client, f"{path}/roll-back", {"version": first.public_id}, if_match=seen)
    assert moved.status_code == 200
    assert moved["ETag"] == operator_client.get(f"{path}/published")["ETag"] != seen
    back = {"version": second.public_id}
    assert_refused(post(operator_client, f"{path}/roll-back", back, if_match=seen))
    with scoping.platform():
        assert PublishRecord.objects.count() == 1
    unpublished = f"/api/v1/federations/{FederationFactory.create().public_id}/roll-back"
    assert_refused(post(operator_client, unpublished, back, if_match="*"))


@pytest.mark.django_db
@pytest.mark.parametrize("room", ["tenants", "federations"])
def test_a_tenant_or_federation_is_changed_by_who_has_seen_it(
    operator_client: APIClient, acme: Tenant, room: str
) -> None:
    row, body = {
        "tenants": (acme, {"name": "Acme Ltd", "state": "active"}),
        "federations": (FederationFactory.create(), {"priority": "urgent", "weight": 3}),
    }[room]
    path = f"/api/v1/{room}/{row.public_id}"
    seen = operator_client.get(path)["ETag"]
    changed = operator_client.put(path, body, format="json", headers={"If-Match": seen})
    assert changed.status_code == 200
    assert changed["ETag"] == operator_client.get(path)["ETag"] != seen
    assert_refused(operator_client.put(path, body, format="json", headers={"If-Match": seen}))


@pytest.mark.django_db
def test_a_place_is_taken_changed_and_left_by_who_has_seen_it(
    operator_client: APIClient, acme_client: APIClient, acme: Tenant
) -> None:
    federation = ready_federation(n_tenants=0)
    enrolments = f"/api/v1/federations/{federation.public_id}/enrolments"
    invited = post(operator_client, enrolments, {"tenant": acme.public_id}, if_none_match="*")
    assert invited.status_code == 201
    place = f"{enrolments}/{invited.json()['id']}"
    assert acme_client.get(place)["ETag"] == invited["ETag"]
    taken, other = ({"dataset": DatasetFactory.create(tenant=acme).public_id} for _ in range(2))
    accepted = post(acme_client, enrolments, taken, if_match=invited["ETag"])
    assert accepted.status_code == 200
    assert acme_client.get(place)["ETag"] == accepted["ETag"] != invited["ETag"]
    assert_refused(post(acme_client, enrolments, other, if_match=invited["ETag"]))
    assert_refused(acme_client.delete(place, headers={"If-Match": invited["ETag"]}))
    assert_refused(post(operator_client, enrolments, {"tenant": acme.public_id}, if_none_match="*"))
    assert acme_client.get(place).json()["dataset"] == taken["dataset"]
    assert acme_client.delete(place, headers={"If-Match": accepted["ETag"]}).json()["state"] == "left"


@pytest.mark.django_db
def test_a_copy_that_is_current_is_not_sent_again(operator_client: APIClient, schedule: str) -> None:
    seen = operator_client.get(schedule)["ETag"]
    for header in (seen, f"W/{seen}", f'"other", {seen}', "*"):
        answer = operator_client.get(schedule, headers={"If-None-Match": header})
        assert (answer.status_code, answer.content) == (304, b"")
        assert answer["ETag"] == seen
        assert "Content-Type" not in answer
    assert operator_client.get(schedule, headers={"If-None-Match": STALE}).status_code == 200
    assert operator_client.head(schedule, headers={"If-None-Match": seen}).status_code == 304
    assert_refused(operator_client.get(schedule, headers={"If-Match": STALE}))


@pytest.mark.django_db
def test_what_is_not_there_is_not_there_whatever_is_asked(
    operator_client: APIClient, no_schedule: str
) -> None:
    for header in ("If-Match", "If-None-Match"):
        problem(operator_client.get(no_schedule, headers={header: "*"}), 404, "not_found")


@pytest.mark.django_db
def test_a_star_stands_for_anything_that_is_there(operator_client: APIClient, no_schedule: str) -> None:
    assert_refused(put(operator_client, no_schedule, if_match="*"))
    assert put(operator_client, no_schedule, if_none_match="*").status_code == 200
    assert_refused(put(operator_client, no_schedule, minutes=9, if_none_match="*"))
    assert put(operator_client, no_schedule, minutes=7, if_match="*").status_code == 200


@pytest.mark.django_db
def test_of_a_list_one_is_enough_and_a_weak_tag_changes_nothing(
    operator_client: APIClient, schedule: str
) -> None:
    seen = operator_client.get(schedule)["ETag"]
    assert_refused(put(operator_client, schedule, if_match=f"W/{seen}"))
    assert_refused(put(operator_client, schedule, if_none_match=f'"x",W/{seen}'))
    assert put(operator_client, schedule, if_match=f' ,"a,b" ,, {seen}\t').status_code == 200


@pytest.mark.django_db
@pytest.mark.parametrize("header", ["", ",", "abc", '"a', 'a"', '"a" "b"', '"a", b', "*, *", "w/" + STALE])
@pytest.mark.parametrize("name", ["if_match", "if_none_match"])
def test_a_header_that_names_no_tag(
    operator_client: APIClient, schedule: str, name: str, header: str
) -> None:
    sent: dict[str, Any] = {name: header}
    problem(put(operator_client, schedule, **sent), 400, "precondition_invalid")
    with scoping.platform():
        assert Schedule.objects.get().every_minutes == 10


@pytest.mark.django_db
def test_without_a_precondition_the_last_one_wins(operator_client: APIClient, schedule: str) -> None:
    assert [put(operator_client, schedule, minutes=n).status_code for n in (3, 4)] == [200, 200]


@pytest.mark.django_db
def test_an_outsider_learns_nothing_by_a_precondition(globex_client: APIClient, acme: Tenant) -> None:
    place = EnrolmentFactory.create(tenant=acme)
    path = f"/api/v1/federations/{place.federation.public_id}/enrolments/{place.public_id}"
    for headers in ({"If-Match": STALE}, {"If-None-Match": "*"}):
        problem(globex_client.delete(path, headers=headers), 404, "not_found")
        problem(globex_client.get(path, headers=headers), 404, "not_found")


def racing(operator_client: APIClient, path: str, **headers: Any) -> list[int]:
    """The statuses of PUTs of different schedules at once."""
    key = operator_client._credentials["HTTP_AUTHORIZATION"]  # type: ignore[attr-defined]

    def change() -> int:
        client = APIClient()
        client.credentials(HTTP_AUTHORIZATION=key)
        return int(put(client, path, **headers).status_code)

    return sorted(at_once(N_RACERS, change))


@pytest.mark.django_db(transaction=True)
def test_of_many_writers_with_one_etag_one_passes(operator_client: APIClient, schedule: str) -> None:
    seen = operator_client.get(schedule)["ETag"]
    assert racing(operator_client, schedule, if_match=seen) == [200] + [412] * (N_RACERS - 1)


@pytest.mark.django_db(transaction=True)
def test_of_many_who_would_create_one_does(operator_client: APIClient, no_schedule: str) -> None:
    assert racing(operator_client, no_schedule, if_none_match="*") == [200] + [412] * (N_RACERS - 1)


@pytest.mark.django_db(transaction=True)
def test_of_many_who_change_a_tenants_dataset_one_passes(acme: Tenant, acme_client: APIClient) -> None:
    place = EnrolmentFactory.create(tenant=acme, federation=ready_federation(n_tenants=0))
    enrolments = f"/api/v1/federations/{place.federation.public_id}/enrolments"
    seen = acme_client.get(f"{enrolments}/{place.public_id}")["ETag"]
    datasets = iter(DatasetFactory.create_batch(N_RACERS, tenant=acme))
    key = acme_client._credentials["HTTP_AUTHORIZATION"]  # type: ignore[attr-defined]

    def change() -> int:
        client = APIClient()
        client.credentials(HTTP_AUTHORIZATION=key)
        body = {"dataset": next(datasets).public_id}
        return int(post(client, enrolments, body, if_match=seen).status_code)

    assert sorted(at_once(N_RACERS, change)) == [200] + [412] * (N_RACERS - 1)
    with scoping.tenant(acme.id):
        assert Enrolment.objects.get().dataset != place.dataset


@pytest.mark.django_db(transaction=True)
def test_of_many_owners_who_step_down_at_once_one_stays(acme: Tenant, acme_owner: APIClient) -> None:
    owners = MembershipFactory.create_batch(N_RACERS, tenant=acme, role=Role.OWNER)
    paths = [f"/api/v1/tenants/{acme.public_id}/members/{owner.public_id}" for owner in owners]
    seen = iter([(path, acme_owner.get(path)["ETag"]) for path in paths])
    key = acme_owner._credentials["HTTP_AUTHORIZATION"]  # type: ignore[attr-defined]

    def step_down() -> int:
        client = APIClient()
        client.credentials(HTTP_AUTHORIZATION=key)
        path, etag = next(seen)
        return client.put(path, {"role": "viewer"}, format="json", headers={"If-Match": etag}).status_code

    assert sorted(at_once(N_RACERS, step_down)) == [200] * (N_RACERS - 1) + [409]


def test_the_document_tells_of_it(db: None) -> None:
    paths = Client().get("/api/v1/openapi.json").json()["paths"]
    found = {
        operation["operationId"]: operation
        for methods in paths.values()
        for operation in methods.values()
        if "412" in operation["responses"]
    }
    assert set(found) >= {
        *("read_tenant", "change_tenant", "read_federation", "change_federation"),
        *("read_enrolment", "enrol", "leave", "read_published", "roll_back"),
        *("read_schedule", "set_schedule", "remove_schedule"),
    }
    for name, operation in found.items():
        headers = {given["name"] for given in operation["parameters"] if given["in"] == "header"}
        assert headers >= {"If-Match", "If-None-Match"}, name
        assert ("304" in operation["responses"]) == name.startswith("read_"), name
        for status, answer in operation["responses"].items():
            has_etag = status in ("200", "201", "304")
            assert ("ETag" in answer.get("headers", {})) == has_etag, f"{name} {status}"
