"""A round goes without the tenants that are at a limit, and says so."""

from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest
from django.utils import timezone
from rest_framework.test import APIClient

from federation.errors import QuorumOutOfReach
from federation.models import FederatedRound, Federation, LocalRun, RoundEvent
from tenants import scoping
from tenants.errors import PreludeError
from tenants.models import Tenant
from tests.factories import EnrolmentFactory, UsageDayFactory, ready_federation
from tests.federation import rounds as steps
from tests.racing import at_once
from tests.tenants.test_limits import limit

pytestmark = pytest.mark.django_db


def with_acme(acme: Tenant, **options: Any) -> Federation:
    """A federation of two others and Acme."""
    federation = ready_federation(n_tenants=2, **options)
    EnrolmentFactory.create(federation=federation, tenant=acme)
    return federation


def takes_part(acme: Tenant, federated_round: FederatedRound) -> bool:
    return acme.pk in {local_run.tenant_id for local_run in steps.runs_of(federated_round)}


def left_out(federated_round: FederatedRound) -> dict[str, Any] | None:
    with scoping.platform():
        event = RoundEvent.objects.filter(federated_round=federated_round, kind="local_run.left_out").first()
    return event.data if event else None


def use_device(acme: Tenant, seconds: float, *, days_ago: int = 0) -> None:
    day = timezone.now().date() - timedelta(days=days_ago)
    UsageDayFactory.create(tenant=acme, day=day, device_seconds=Decimal(str(seconds)))


def test_a_tenant_with_its_rounds_in_flight_is_left_out_until_one_ends(acme: Tenant) -> None:
    limit(acme, rounds_in_flight=1)
    first = steps.start(with_acme(acme))
    second = steps.start(with_acme(acme))
    assert (takes_part(acme, first), takes_part(acme, second)) == (True, False)
    assert left_out(second) == {"code": "quota_rounds_in_flight", "limit": 1, "used": 1}
    for local_run in steps.runs_of(first):
        steps.fail(steps.claim(local_run))
    assert steps.reload(first).state == "failed"
    third = steps.start(with_acme(acme))
    assert (takes_part(acme, third), left_out(third)) == (True, None)


def test_a_tenant_that_has_spent_its_months_seconds_is_left_out(acme: Tenant) -> None:
    limit(acme, device_seconds_per_month=50)
    use_device(acme, 49.5)
    assert takes_part(acme, steps.start(with_acme(acme)))
    limit(acme, device_seconds_per_month=49)
    without = steps.start(with_acme(acme))
    assert not takes_part(acme, without)
    assert left_out(without) == {"code": "quota_device_seconds", "limit": 49, "used": 49}


def test_what_was_spent_in_another_month_does_not_count(acme: Tenant) -> None:
    limit(acme, device_seconds_per_month=50)
    use_device(acme, 1_000, days_ago=timezone.now().day)
    assert takes_part(acme, steps.start(with_acme(acme)))


def test_the_quorum_counts_those_who_are_in(acme: Tenant) -> None:
    limit(acme, rounds_in_flight=0)
    with pytest.raises(
        QuorumOutOfReach, match="3 active tenants, 1 of them at a limit, and its rounds need 3"
    ):
        steps.start(with_acme(acme, quorum=3))
    with scoping.platform():
        assert not FederatedRound.objects.exists()
        assert not RoundEvent.objects.exists()


def test_only_the_tenant_and_operators_learn_of_it(
    acme: Tenant, acme_client: APIClient, globex: Tenant, globex_client: APIClient, operator_client: APIClient
) -> None:
    federation = with_acme(acme)
    EnrolmentFactory.create(federation=federation, tenant=globex)
    limit(acme, rounds_in_flight=0)
    started = steps.start(federation)
    told = {
        name: [
            event["kind"]
            for event in client.get(f"/api/v1/rounds/{started.public_id}/events").json()["results"]
        ]
        for name, client in (("acme", acme_client), ("globex", globex_client), ("operator", operator_client))
    }
    assert {name: kinds.count("local_run.left_out") for name, kinds in told.items()} == {
        "acme": 1,
        "globex": 0,
        "operator": 1,
    }


@pytest.mark.django_db(transaction=True)
def test_of_rounds_that_open_at_once_a_tenant_is_in_as_many_as_it_may(acme: Tenant) -> None:
    limit(acme, rounds_in_flight=1)
    federations = iter([with_acme(acme) for _ in range(4)])

    def start() -> str:
        try:
            return steps.start(next(federations)).state
        except PreludeError as refusal:
            return refusal.code

    assert at_once(4, start) == ["training"] * 4
    with scoping.platform():
        assert LocalRun.objects.filter(tenant=acme).count() == 1
        assert LocalRun.objects.count() == 9
