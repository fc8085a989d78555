"""Where a request comes from, and that nobody can make it up."""

from ipaddress import ip_network

import pytest
from pydantic import ValidationError
from pytest_django import Settings
from rest_framework.test import APIClient

from api.client_address import client_address
from deploy.settings.environment import Environment
from tenants import scoping
from tenants.models import AuditEntry

CALLER, PROXY, EDGE = "203.0.113.9", "10.0.0.1", "fd00::7"


@pytest.fixture(autouse=True)
def trusted(settings: Settings) -> None:
    settings.TRUSTED_PROXIES = (ip_network("10.0.0.0/24"), ip_network("fd00::/64"))


def seen(peer: str, forwarded: str | None = None) -> str:
    return client_address(
        {"REMOTE_ADDR": peer} | ({"HTTP_X_FORWARDED_FOR": forwarded} if forwarded is not None else {})
    )


@pytest.mark.parametrize("forwarded", [None, "", "192.0.2.1", f"192.0.2.1, {PROXY}"])
def test_who_is_no_trusted_proxy_is_the_caller_whatever_it_sends(forwarded: str | None) -> None:
    assert seen(CALLER, forwarded) == CALLER


@pytest.mark.parametrize(
    "forwarded",
    [
        CALLER,
        f" {CALLER} ",
        f"192.0.2.1,{CALLER}",
        f"192.0.2.1, {PROXY}, {CALLER}",
        f"{CALLER}, {EDGE}",
        f"192.0.2.1, {CALLER}, {EDGE}, 10.0.0.2",
        f"nonsense, {CALLER}",
        f"::ffff:{CALLER}",
    ],
)
def test_behind_trusted_proxies_it_is_the_right_most_that_is_none_of_them(forwarded: str) -> None:
    assert seen(PROXY, forwarded) == CALLER


@pytest.mark.parametrize(
    ("forwarded", "expected"),
    [
        (None, PROXY),
        ("", PROXY),
        ("nonsense", PROXY),
        (f"{CALLER}:4711", PROXY),
        (f"{CALLER}, ", PROXY),
        (f"{CALLER}, unknown, {EDGE}", EDGE),
        (f"{EDGE}, 10.0.0.2", EDGE),
    ],
)
def test_what_is_no_address_ends_the_walk_at_the_last_good_one(forwarded: str | None, expected: str) -> None:
    assert seen(PROXY, forwarded) == expected


def test_a_peer_without_an_address_has_none_and_is_not_believed() -> None:
    assert seen("", CALLER) == ""


def test_an_address_of_ipv4_is_trusted_in_either_form() -> None:
    assert seen(f"::ffff:{PROXY}", CALLER) == CALLER


@pytest.mark.django_db
@pytest.mark.parametrize(("peer", "expected"), [(PROXY, CALLER), ("192.0.2.8", "192.0.2.8")])
def test_the_record_tells_the_callers_address(operator_client: APIClient, peer: str, expected: str) -> None:
    answer = operator_client.post(
        "/api/v1/tenants",
        {"name": "Hooli", "slug": "hooli"},
        format="json",
        headers={"X-Forwarded-For": f"192.0.2.1, {CALLER}"},
        REMOTE_ADDR=peer,
    )
    assert answer.status_code == 201
    with scoping.platform():
        assert AuditEntry.objects.get(action="tenant.created").address == expected


def test_the_proxies_are_told_by_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    assert Environment().trusted_proxies == ()
    monkeypatch.setenv("PRELUDE_TRUSTED_PROXIES", "10.0.0.0/24, fd00::7,")
    assert Environment().trusted_proxies == (ip_network("10.0.0.0/24"), ip_network("fd00::7"))
    monkeypatch.setenv("PRELUDE_TRUSTED_PROXIES", "10.0.0.1/24")
    with pytest.raises(ValidationError, match="trusted_proxies"):
        Environment()
