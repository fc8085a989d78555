"""Keys over HTTP."""

from datetime import timedelta

import pytest
from django.utils import timezone
from rest_framework.test import APIClient

from tenants import scoping
from tenants.models import ApiKey, Tenant
from tenants.services.request_counts import RequestCounts
from tenants.services.tenants import change_tenant
from tenants.states import TenantState
from tests.api.problems import problem
from tests.keys import new_key
from tests.standing_clock import StandingClock

pytestmark = pytest.mark.django_db
ME = "/api/v1/me"


def client_with(authorization: str) -> APIClient:
    client = APIClient()
    client.credentials(HTTP_AUTHORIZATION=authorization)
    return client


def test_without_a_key_everything_but_the_document_is_closed() -> None:
    refused = APIClient().get(ME)
    problem(refused, 401, "not_authenticated")
    assert refused["WWW-Authenticate"] == "Bearer"
    problem(APIClient().get("/api/v1/tenants/tnt_unknown"), 401, "not_authenticated")


@pytest.mark.parametrize(
    "authorization",
    [
        "Bearer ",
        "Bearer prl_x",
        "Bearer prl_00000000000000000000000000_secret",
        "bearer \xff",
        "Bearer prl__x",
    ],
)
def test_a_key_that_opens_nothing(authorization: str) -> None:
    refused = client_with(authorization).get(ME)
    problem(refused, 401, "api_key_invalid")
    assert refused["WWW-Authenticate"] == "Bearer"


def test_another_scheme_is_no_key() -> None:
    problem(client_with("Basic YTpi").get(ME), 401, "not_authenticated")


def test_a_revoked_key_opens_nothing_a_second_later(acme: Tenant, standing_clock: StandingClock) -> None:
    with scoping.platform():
        key = new_key(tenant=acme, name="old")
    client = client_with(f"bearer {key.text}")
    assert [client.get(ME).status_code for _ in range(3)] == [200] * 3
    with scoping.platform():
        ApiKey.objects.filter(pk=key.row.pk).update(revoked_at=timezone.now())
    standing_clock.advance(1)
    problem(client.get(ME), 401, "api_key_invalid")


def test_a_suspended_tenants_key_is_refused(
    acme_client: APIClient, acme: Tenant, standing_clock: StandingClock
) -> None:
    for state, status in ((TenantState.SUSPENDED, 403), (TenantState.ACTIVE, 200)):
        with scoping.platform():
            change_tenant(tenant=acme, state=state)
        assert [acme_client.get(ME).status_code for _ in range(3)] == [status] * 3
    with scoping.platform():
        change_tenant(tenant=acme, state=TenantState.SUSPENDED)
    standing_clock.advance(1)
    problem(acme_client.get(ME), 403, "tenant_suspended")


def test_use_is_noted_once_a_minute(acme_client: APIClient, counted_requests: RequestCounts) -> None:
    acme_client.get(ME)
    counted_requests.write()
    with scoping.platform():
        key = ApiKey.objects.get()
        assert key.last_used_at is not None
        assert timezone.now() - key.last_used_at < timedelta(minutes=1)
    acme_client.get(ME)
    counted_requests.write()
    with scoping.platform():
        assert ApiKey.objects.get().last_used_at == key.last_used_at


def test_me_tells_whose_key_it_is(acme_client: APIClient, operator_client: APIClient, acme: Tenant) -> None:
    mine = acme_client.get(ME).json()
    assert mine["kind"] == "tenant"
    assert mine["tenant"] == {"id": acme.public_id, "name": "Acme", "slug": "acme"}
    assert mine["key"]["name"] == "tests"
    theirs = operator_client.get(ME).json()
    assert (theirs["kind"], theirs["tenant"]) == ("operator", None)
