"""Requests that are counted ahead: fewer commands, and never more requests than the limit."""

import pytest

from tenants.models import Tenant
from tenants.services import request_leases, request_rate
from tenants.services.request_leases import LEASE_SECONDS, Leases
from tenants.services.request_windows import Rate
from tests.standing_clock import StandingClock
from tests.tenants.test_limits import limit

pytestmark = pytest.mark.django_db


def hit(tenant: Tenant) -> Rate:
    rate = request_rate.hit(tenant)
    assert rate is not None
    return rate


def limited(tenant: Tenant, n_requests: int) -> Tenant:
    """The tenant as a request's key brings it."""
    limit(tenant, requests_per_minute=n_requests)
    tenant.limits.refresh_from_db()
    return tenant


@pytest.fixture
def busy(platform_scope: None, acme: Tenant) -> Tenant:
    assert request_rate.n_used(acme) == 0  # from here on, Valkey knows the script
    return limited(acme, 1_000)


def test_a_busy_tenants_requests_take_few_commands_and_are_all_counted(
    busy: Tenant, valkey_commands: list[object]
) -> None:
    rates = [hit(busy) for _ in range(127)]
    assert valkey_commands == ["EVALSHA"] * 7  # 1, 2, 4, … 64
    assert [rate.n_left for rate in rates] == [999 - n for n in range(127)]
    assert all(rate.is_admitted for rate in rates)
    assert request_rate.n_used(busy) == 127


def test_a_lease_has_a_bound(
    busy: Tenant, valkey_commands: list[object], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(request_leases, "MOST_REQUESTS", 4)
    for _ in range(15):
        hit(busy)
    assert len(valkey_commands) == 5  # 1, 2, 4, 4, 4


def test_who_asks_seldom_has_each_request_counted_as_it_comes(
    busy: Tenant, standing_clock: StandingClock
) -> None:
    for n in range(1, 4):
        hit(busy)
        assert request_rate.n_used(busy) == n
        standing_clock.advance(LEASE_SECONDS)


def test_what_a_tenant_did_not_use_is_given_back_with_its_next_request(
    busy: Tenant, standing_clock: StandingClock, valkey_commands: list[object]
) -> None:
    for _ in range(5):
        hit(busy)
    assert request_rate.n_used(busy) == 7  # 1, 2, 4, of which two are used
    standing_clock.advance(LEASE_SECONDS)
    valkey_commands.clear()
    assert (hit(busy).n_left, valkey_commands) == (994, ["EVALSHA"])
    assert request_rate.n_used(busy) == 7  # 5, and a lease of two as was used of the last one


@pytest.mark.parametrize("n_requests", [1, 3, 10, 100])
def test_all_processes_together_let_through_what_the_limit_says(
    platform_scope: None,
    acme: Tenant,
    standing_clock: StandingClock,
    monkeypatch: pytest.MonkeyPatch,
    n_requests: int,
) -> None:
    tenant = limited(acme, n_requests)
    processes, n_admitted = [Leases(standing_clock) for _ in range(3)], 0
    while processes:
        for leases in list(processes):
            monkeypatch.setattr(request_rate, "LEASES", leases)
            if hit(tenant).is_admitted:
                n_admitted += 1
            else:
                processes.remove(leases)
    assert n_admitted == n_requests


def test_a_lease_ends_with_the_limit_under_which_it_was_taken(busy: Tenant) -> None:
    for _ in range(4):
        hit(busy)
    lowered = limited(busy, 4)
    assert [hit(lowered).is_admitted, request_rate.n_used(lowered)] == [False, 4]
    assert hit(limited(busy, 5)).is_admitted


def test_two_that_ask_at_once_keep_both_leases(busy: Tenant) -> None:
    leases = request_rate.LEASES
    for n_before in (0, 4):
        n_granted, told = request_rate._count(busy.pk, limit=1_000, n_wanted=4, n_unused=0)
        rate = leases.begin(busy.pk, limit=1_000, told=told, n_taken=n_granted, asked_at=leases.clock())
        assert rate.n_left == 1_000 - n_before // 4 - 1
    assert [hit(busy).n_left for _ in range(6)] == [997, 996, 995, 994, 993, 992]
    assert request_rate.n_used(busy) == 8
