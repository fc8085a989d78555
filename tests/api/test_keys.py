"""A tenant's keys over HTTP: what they may do, from where and until when. All of it holds within a second."""

import threading
from datetime import timedelta
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.db import IntegrityError, transaction
from django.utils import timezone
from rest_framework.test import APIClient

from tenants import scoping
from tenants.models import ApiKey, AuditEntry, Membership, Tenant
from tenants.rights import OPERATOR_RIGHTS, ROLE_RIGHTS
from tenants.services.tenants import remove_member
from tenants.states import Role
from tests.api.problems import assert_same_as_unknown, faults, problem
from tests.factories import ApiKeyFactory, MembershipFactory
from tests.keys import client_with, get_remembered, new_client
from tests.racing import beside, until_it_waits
from tests.standing_clock import StandingClock

pytestmark = pytest.mark.django_db
ME = "/api/v1/me"


@pytest.fixture
def keys(acme: Tenant) -> str:
    return f"/api/v1/tenants/{acme.public_id}/keys"


def post(client: APIClient, path: str, **body: object) -> Any:
    return client.post(path, body, format="json")


def made(client: APIClient, path: str, **body: object) -> dict[str, Any]:
    """A new key."""
    return shown(post(client, path, **{"name": "ci", **body}))


def rotated(client: APIClient, keys: str, key: dict[str, Any], **body: object) -> dict[str, Any]:
    """A key's successor."""
    return shown(post(client, f"{keys}/{key['id']}/rotate", **body))


def shown(answer: Any) -> dict[str, Any]:
    """A key with its text."""
    assert answer.status_code == 201, answer.content
    assert answer["Cache-Control"] == "no-store"
    found: dict[str, Any] = answer.json()
    return found


def change(key_id: str, **values: object) -> None:
    """Another process changes the key's row."""
    with scoping.platform():
        assert ApiKey.objects.filter(pk=ApiKey.key_from(key_id)).update(**values) == 1


def test_a_key_is_shown_once_works_and_is_revoked(
    operator_client: APIClient, keys: str, standing_clock: StandingClock
) -> None:
    key = made(operator_client, keys)
    [listed] = operator_client.get(keys).json()["results"]
    assert "key" not in listed
    assert (listed["id"], listed["name"], listed["revoked_at"]) == (key["id"], "ci", None)
    client = client_with(key["key"])
    assert client.get(ME).json()["key"]["id"] == key["id"]
    assert get_remembered(client).status_code == 200
    for _ in range(2):
        assert operator_client.delete(f"{keys}/{key['id']}").status_code == 204
    standing_clock.advance(1)
    problem(client.get(ME), 401, "api_key_invalid")
    assert operator_client.get(keys).json()["results"][0]["revoked_at"] is not None


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ({}, ("name", "required")),
        ({"name": "k", "rights": []}, ("rights", "min_length")),
        ({"name": "k", "rights": ["datasets:burn"]}, ("rights.0", "invalid_choice")),
        ({"name": "k", "allowed_networks": ["10.0.0.1"] * 51}, ("allowed_networks", "max_length")),
        ({"name": "k", "expires_at": "tomorrow"}, ("expires_at", "invalid")),
    ],
)
def test_bad_input(
    operator_client: APIClient, keys: str, body: dict[str, object], expected: tuple[str, str]
) -> None:
    assert {(name.split(".")[0], code) for name, code in faults(post(operator_client, keys, **body))} == {
        (expected[0].split(".")[0], expected[1])
    }


def test_a_key_is_found_under_its_own_tenant_alone(
    operator_client: APIClient, keys: str, globex: Tenant
) -> None:
    other = ApiKeyFactory.create(tenant=globex)
    problem(operator_client.delete(f"{keys}/{other.public_id}"), 404, "not_found")
    problem(post(operator_client, f"{keys}/{other.public_id}/rotate"), 404, "not_found")
    problem(operator_client.delete(f"{keys}/nonsense"), 404, "not_found")


def test_an_outsider_does_not_learn_of_the_tenant(globex_client: APIClient, acme: Tenant) -> None:
    path = "/api/v1/tenants/{}/keys"
    assert_same_as_unknown(globex_client, path, acme.public_id)
    assert_same_as_unknown(
        globex_client, path, acme.public_id, method="post", data={"name": "x"}, format="json"
    )
    key = ApiKeyFactory.create(tenant=acme)
    assert_same_as_unknown(
        globex_client, f"/api/v1/tenants/{{}}/keys/{key.public_id}", acme.public_id, method="delete"
    )


# Rights


def test_a_tenants_key_gets_an_engineers_rights_unless_others_are_asked_for(
    operator_client: APIClient, keys: str
) -> None:
    assert made(operator_client, keys)["rights"] == sorted(ROLE_RIGHTS[Role.ENGINEER])
    key = made(operator_client, keys, rights=["keys:read", "audit:read", "audit:read"])
    assert key["rights"] == ["audit:read", "keys:read"]
    client = client_with(key["key"])
    assert client.get("/api/v1/audit-entries").status_code == 200
    problem(client.get("/api/v1/datasets"), 403, "right_missing")


def test_no_key_of_a_tenants_holds_more_than_its_owner(operator_client: APIClient, keys: str) -> None:
    refused = problem(
        post(operator_client, keys, name="k", rights=["rounds:write"]), 422, "right_out_of_reach"
    )
    assert refused["field"] == "rights"
    key = made(operator_client, keys)
    change(key["id"], rights=sorted(OPERATOR_RIGHTS))
    assert client_with(key["key"]).get(ME).json()["rights"] == sorted(ROLE_RIGHTS[Role.OWNER])


def test_nobody_gives_rights_that_it_does_not_hold(acme: Tenant, keys: str) -> None:
    client = new_client(acme, rights=["keys:write", "datasets:read"])
    assert made(client, keys, rights=["datasets:read"])["rights"] == ["datasets:read"]
    problem(post(client, keys, name="k", rights=["datasets:write"]), 403, "right_not_held")
    problem(post(client, keys, name="k"), 403, "right_not_held")
    better = ApiKeyFactory.create(tenant=acme)
    problem(post(client, f"{keys}/{better.public_id}/rotate"), 403, "right_not_held")
    with scoping.platform():
        assert ApiKey.objects.count() == 3


def test_an_operators_key_that_may_only_make_keys_gives_nothing_else(keys: str) -> None:
    client = new_client(None, rights=["keys:write", "tenants:read"])
    problem(post(client, keys, name="k", rights=["datasets:read"]), 403, "right_not_held")


def test_the_database_knows_the_words_and_keeps_personal_keys_within_their_tenant(
    acme: Tenant, globex: Tenant
) -> None:
    own = MembershipFactory.create(tenant=acme)
    with pytest.raises(IntegrityError, match="api_key_rights_known"), transaction.atomic():
        ApiKeyFactory.create(rights=["datasets:burn"])
    with pytest.raises(IntegrityError, match="api_key_personal_within_tenant"), transaction.atomic():
        ApiKeyFactory.create(tenant=None, membership=own)
    with pytest.raises(IntegrityError, match="same_tenant"), transaction.atomic():
        ApiKeyFactory.create(tenant=globex, membership=own)


# A member's own key


def test_a_members_own_key_follows_its_role_and_ends_with_the_membership(
    acme: Tenant, acme_owner: APIClient, keys: str, standing_clock: StandingClock
) -> None:
    member = MembershipFactory.create(tenant=acme, role=Role.ENGINEER)
    key = made(acme_owner, keys, member=member.public_id)
    assert (key["member"], key["rights"]) == (member.public_id, sorted(ROLE_RIGHTS[Role.ENGINEER]))
    client = client_with(key["key"])
    path = f"/api/v1/tenants/{acme.public_id}/members/{member.public_id}"
    assert get_remembered(client).json()["rights"] == sorted(ROLE_RIGHTS[Role.ENGINEER])
    assert acme_owner.put(path, {"role": "viewer"}, format="json").json()["role"] == "viewer"
    standing_clock.advance(1)
    assert client.get(ME).json()["rights"] == sorted(ROLE_RIGHTS[Role.VIEWER])
    problem(client.delete("/api/v1/datasets/dst_x"), 404, "not_found")
    assert acme_owner.delete(path).status_code == 204
    standing_clock.advance(1)
    problem(client.get(ME), 401, "api_key_invalid")
    with scoping.platform():
        assert AuditEntry.objects.get(action="api_key.revoked").object_id == key["id"]
        assert not ApiKey.objects.filter(pk=ApiKey.key_from(key["id"])).exists()


def test_a_key_belongs_to_a_member_of_its_own_tenant(
    acme_owner: APIClient, keys: str, globex: Tenant
) -> None:
    other = MembershipFactory.create(tenant=globex)
    problem(post(acme_owner, keys, name="k", member=other.public_id), 404, "not_found")


def test_a_key_ends_with_its_member_however_the_membership_goes(
    acme: Tenant, standing_clock: StandingClock
) -> None:
    member = MembershipFactory.create(tenant=acme)
    client = new_client(acme, membership=member)
    assert get_remembered(client).status_code == 200
    with scoping.platform():
        Membership.objects.filter(pk=member.pk).delete()
    standing_clock.advance(1)
    problem(client.get(ME), 401, "api_key_invalid")


def test_a_members_own_key_opens_nothing_while_the_members_account_is_inactive(
    acme: Tenant, standing_clock: StandingClock
) -> None:
    member = MembershipFactory.create(tenant=acme)
    client = new_client(acme, membership=member)
    for is_active, status in ((True, 200), (False, 401), (True, 200)):
        User.objects.filter(pk=member.user_id).update(is_active=is_active)
        standing_clock.advance(1)
        assert client.get(ME).status_code == status


# Expiry


def test_an_expired_a_revoked_and_an_unknown_key_are_refused_alike(
    operator_client: APIClient, keys: str, standing_clock: StandingClock
) -> None:
    in_an_hour = timezone.now() + timedelta(hours=1)
    expired = made(operator_client, keys, expires_at=in_an_hour.isoformat())
    revoked = made(operator_client, keys)
    assert expired["expires_at"] is not None
    refused = [client_with(f"prl_{'0' * 26}_secret").get(ME)]
    for key, change_made in (
        (expired, {"expires_at": timezone.now()}),
        (revoked, {"revoked_at": timezone.now()}),
    ):
        client = client_with(key["key"])
        assert get_remembered(client).status_code == 200
        change(key["id"], **change_made)
        standing_clock.advance(1)
        refused.append(client.get(ME))
    bodies = [problem(answer, 401, "api_key_invalid") for answer in refused]
    for body in bodies:
        del body["request_id"]
    assert bodies[0] == bodies[1] == bodies[2]


def test_a_key_does_not_expire_before_it_is_made(operator_client: APIClient, keys: str) -> None:
    passed = (timezone.now() - timedelta(seconds=1)).isoformat()
    assert problem(post(operator_client, keys, name="k", expires_at=passed), 422, "expiry_in_past")["field"]


# Networks


def test_a_key_is_accepted_from_its_networks_alone(
    operator_client: APIClient, keys: str, standing_clock: StandingClock
) -> None:
    networks = ["192.0.2.0/24", "2001:db8::/32", "198.51.100.7"]
    key = made(operator_client, keys, allowed_networks=networks)
    assert key["allowed_networks"] == [*networks[:2], "198.51.100.7/32"]
    client = client_with(key["key"])
    for address in ("192.0.2.9", "2001:db8::9", "198.51.100.7", "::ffff:192.0.2.9"):
        assert client.get(ME, REMOTE_ADDR=address).status_code == 200
    for address in ("192.0.3.9", "2001:db9::9", "198.51.100.8", ""):
        problem(client.get(ME, REMOTE_ADDR=address), 403, "address_not_allowed")
    spoofed = client.get(ME, REMOTE_ADDR="192.0.3.9", headers={"X-Forwarded-For": "192.0.2.9"})
    problem(spoofed, 403, "address_not_allowed")
    change(key["id"], allowed_networks=[])
    standing_clock.advance(1)
    assert client.get(ME, REMOTE_ADDR="192.0.3.9").status_code == 200


def test_an_address_is_only_spoken_of_to_who_holds_the_key(operator_client: APIClient, keys: str) -> None:
    key = made(operator_client, keys, allowed_networks=["192.0.2.0/24"])
    problem(client_with(key["key"][:-1]).get(ME, REMOTE_ADDR="192.0.3.9"), 401, "api_key_invalid")


@pytest.mark.parametrize(
    "network",
    ["10.0.0.1/8", "nonsense", "10.0.0.0/33", "fe80::1%eth0/64", "fe80::1%eth0", f"fe80::1%{'a' * 50}", " "],
)
def test_what_is_no_network_is_refused(operator_client: APIClient, keys: str, network: str) -> None:
    answer = post(operator_client, keys, name="k", allowed_networks=[network])
    if network.strip():
        assert problem(answer, 422, "network_invalid")["field"] == "allowed_networks"
    else:
        assert faults(answer)


# Rotation


def test_a_rotated_key_has_a_successor_and_works_until_the_overlap_ends(
    operator_client: APIClient, acme: Tenant, keys: str, standing_clock: StandingClock
) -> None:
    member = MembershipFactory.create(tenant=acme)
    ends = (timezone.now() + timedelta(days=90)).isoformat()
    terms = {"rights": ["datasets:read"], "allowed_networks": ["127.0.0.0/8"], "member": member.public_id}
    old = made(operator_client, keys, name="nightly", expires_at=ends, **terms)
    asked_at = timezone.now()
    new = rotated(operator_client, keys, old, overlap_seconds=60)
    same = ("name", "rights", "allowed_networks", "member", "expires_at")
    assert [new[name] for name in same] == [old[name] for name in same]
    assert client_with(new["key"]).get(ME).json()["key"]["id"] == new["id"]
    assert client_with(old["key"]).get(ME).status_code == 200, "within the overlap"
    with scoping.platform():
        row = ApiKey.objects.get(pk=ApiKey.key_from(old["id"]))
        entry = AuditEntry.objects.get(action="api_key.rotated")
    assert row.expires_at is not None
    assert timedelta(seconds=60) <= row.expires_at - asked_at < timedelta(seconds=90)
    assert (entry.object_id, entry.after["successor"]) == (old["id"], new["id"])
    change(old["id"], expires_at=timezone.now())
    standing_clock.advance(1)
    problem(client_with(old["key"]).get(ME), 401, "api_key_invalid")
    assert client_with(new["key"]).get(ME).status_code == 200


def test_without_an_overlap_the_old_key_ends_at_once_and_by_default_after_an_hour(
    operator_client: APIClient, keys: str
) -> None:
    at_once, later = made(operator_client, keys), made(operator_client, keys)
    rotated(operator_client, keys, at_once, overlap_seconds=0)
    problem(client_with(at_once["key"]).get(ME), 401, "api_key_invalid")
    rotated(operator_client, keys, later)
    with scoping.platform():
        row = ApiKey.objects.get(pk=ApiKey.key_from(later["id"]))
    assert row.rotated_at is not None
    assert row.expires_at == row.rotated_at + timedelta(hours=1)


def test_no_overlap_outlasts_the_keys_own_expiry(operator_client: APIClient, keys: str) -> None:
    ends = timezone.now() + timedelta(minutes=5)
    key = made(operator_client, keys, expires_at=ends.isoformat())
    rotated(operator_client, keys, key, overlap_seconds=3_600)
    with scoping.platform():
        assert ApiKey.objects.get(pk=ApiKey.key_from(key["id"])).expires_at == ends


@pytest.mark.parametrize("column", ["revoked_at", "expires_at", "rotated_at"])
def test_what_has_ended_gets_no_successor(operator_client: APIClient, keys: str, column: str) -> None:
    key = made(operator_client, keys)
    change(key["id"], **{column: timezone.now()})
    problem(post(operator_client, f"{keys}/{key['id']}/rotate"), 409, "api_key_ended")
    with scoping.platform():
        assert ApiKey.objects.filter(name="ci").count() == 1


@pytest.mark.parametrize("seconds", [-1, 2_592_001])
def test_an_overlap_has_bounds(operator_client: APIClient, keys: str, seconds: int) -> None:
    key = made(operator_client, keys)
    answer = post(operator_client, f"{keys}/{key['id']}/rotate", overlap_seconds=seconds)
    assert {name for name, _ in faults(answer)} == {"overlap_seconds"}


def test_an_owner_rotates_and_revokes_the_keys_of_its_tenant(acme_owner: APIClient, keys: str) -> None:
    key = made(acme_owner, keys)
    successor = rotated(acme_owner, keys, key)
    assert acme_owner.delete(f"{keys}/{successor['id']}").status_code == 204
    problem(client_with(successor["key"]).get(ME), 401, "api_key_invalid")


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("is_rotated", [False, True])
def test_who_is_being_removed_gets_no_key(
    acme: Tenant, operator_client: APIClient, keys: str, is_rotated: bool
) -> None:
    member = MembershipFactory.create(tenant=acme, role=Role.VIEWER)
    key = made(operator_client, keys, member=member.public_id)
    is_removed, may_commit = threading.Event(), threading.Event()

    def remove() -> None:
        with scoping.tenant(acme.id):
            remove_member(membership=member)
            is_removed.set()
            assert may_commit.wait(timeout=20)

    def give() -> Any:
        if is_rotated:
            return post(operator_client, f"{keys}/{key['id']}/rotate")
        return post(operator_client, keys, name="late", member=member.public_id)

    removal = beside(remove)
    assert is_removed.wait(timeout=20)
    giving = beside(give)
    until_it_waits()
    may_commit.set()
    removal.result()
    problem(giving.result(), 404, "not_found")
