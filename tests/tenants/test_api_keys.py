"""API keys: shown once, stored as keyed digests, ended at once."""

import time
from datetime import datetime, timedelta
from typing import Any

import pytest
from django.db import OperationalError, connection
from django.db.models.functions import Now
from django.forms import model_to_dict
from django.utils import timezone
from pytest_django import Settings

from tenants import scoping
from tenants.errors import AddressNotAllowed, ApiKeyInvalid, PreludeError, TenantSuspended
from tenants.ids import uuid7
from tenants.models import ApiKey, Tenant
from tenants.rights import ROLE_RIGHTS
from tenants.services import api_keys, open_keys
from tenants.services.request_counts import RequestCounts
from tenants.states import Role, TenantState
from tests.factories import MembershipFactory, TenantFactory
from tests.keys import new_key
from tests.standing_clock import StandingClock
from tests.tenants.test_limits import limit

pytestmark = pytest.mark.django_db


def test_a_key_opens_its_tenant_and_its_text_is_nowhere(platform_scope: None, acme: Tenant) -> None:
    key = new_key(tenant=acme, name="pipeline")
    found = api_keys.authenticate(key.text)
    assert (found.pk, found.tenant) == (key.row.pk, acme)
    secret = key.text.split("_", 2)[2].encode()
    stored = ApiKey.objects.values().get()
    assert not any(secret in str(value).encode() or secret in bytes(value) for value in [stored["digest"]])
    assert len(bytes(stored["digest"])) == 32


def test_use_is_noted_at_most_once_a_minute(
    platform_scope: None, acme: Tenant, counted_requests: RequestCounts, standing_clock: StandingClock
) -> None:
    key = new_key(tenant=acme, name="pipeline")

    def last_used_at() -> datetime | None:
        api_keys.authenticate(key.text)
        counted_requests.write()
        return ApiKey.objects.get().last_used_at

    first = last_used_at()
    assert first is not None
    assert last_used_at() == first  # although what the process remembers does not know of it
    ApiKey.objects.update(last_used_at=first - timedelta(minutes=2))
    standing_clock.advance(1)
    again = last_used_at()
    assert again is not None
    assert again >= first


def test_a_use_that_cannot_be_noted_is_noted_later(
    platform_scope: None, acme: Tenant, counted_requests: RequestCounts
) -> None:
    api_keys.authenticate(new_key(tenant=acme, name="pipeline").text)

    def refuse(*_: object) -> None:
        raise OperationalError("the database is away")

    with connection.execute_wrapper(refuse):
        counted_requests.write()
    assert ApiKey.objects.get().last_used_at is None
    counted_requests.write()
    assert ApiKey.objects.get().last_used_at is not None


@pytest.mark.parametrize(
    "damage", [lambda t: t[:-1], lambda t: t + "x", lambda t: "", lambda t: "prl_x_y", lambda t: t.swapcase()]
)
def test_an_altered_key_is_invalid(platform_scope: None, acme: Tenant, damage: object) -> None:
    key = new_key(tenant=acme, name="pipeline")
    with pytest.raises(ApiKeyInvalid):
        api_keys.authenticate(damage(key.text))  # type: ignore[operator]


def test_a_revoked_key_is_invalid_and_revoking_twice_keeps_the_time(
    platform_scope: None, acme: Tenant
) -> None:
    key = new_key(tenant=acme, name="pipeline")
    api_keys.revoke_api_key(key=key.row)
    revoked_at = key.row.revoked_at
    api_keys.revoke_api_key(key=key.row)
    assert key.row.revoked_at == revoked_at
    with pytest.raises(ApiKeyInvalid):
        api_keys.authenticate(key.text)


def test_another_pepper_opens_nothing(platform_scope: None, acme: Tenant, settings: Settings) -> None:
    key = new_key(tenant=acme, name="pipeline")
    settings.KEY_PEPPER = type(settings.KEY_PEPPER)("another pepper of more than 32 characters")
    with pytest.raises(ApiKeyInvalid):
        api_keys.authenticate(key.text)


def test_a_suspended_tenants_keys_open_nothing(platform_scope: None) -> None:
    tenant = TenantFactory.create(state=TenantState.SUSPENDED)
    key = new_key(tenant=tenant, name="pipeline")
    with pytest.raises(TenantSuspended):
        api_keys.authenticate(key.text)


def test_an_operators_key_belongs_to_no_tenant_and_no_tenant_sees_it(acme: Tenant) -> None:
    with scoping.platform():
        key = new_key(tenant=None, name="operator")
        assert api_keys.authenticate(key.text).tenant is None
    with scoping.tenant(acme.id):
        assert not ApiKey.objects.exists()


def test_the_platforms_scope_alone_finds_a_key(acme: Tenant) -> None:
    with scoping.platform():
        key = new_key(tenant=acme, name="pipeline")

    def n_found() -> int:
        with connection.cursor() as cursor:
            cursor.execute("SELECT id FROM tenants_open_api_key(%s)", [key.row.pk])
            return len(cursor.fetchall())

    assert n_found() == 0
    with scoping.platform():
        assert n_found() == 1


def test_a_key_comes_with_what_a_request_asks_of_it(acme: Tenant, django_assert_num_queries: Any) -> None:
    limit(acme, requests_per_minute=7)
    member = MembershipFactory.create(tenant=acme, role=Role.VIEWER)
    with scoping.platform():
        text = new_key(tenant=acme, name="pipeline", membership=member).text
    with django_assert_num_queries(1):
        found = api_keys.authenticate(text)
        assert found.tenant is not None
        assert found.tenant.limits.requests_per_minute == 7
        assert found.rights_in_force == ROLE_RIGHTS[Role.VIEWER]
    with scoping.platform():
        for row in (found, found.tenant):
            stored = type(row)._base_manager.get(pk=row.pk)
            assert model_to_dict(row) == model_to_dict(stored)
            assert not row.get_deferred_fields()


# What a process remembers


def remembered(text: str) -> ApiKey:
    """The key, as the process remembers it."""
    return [api_keys.authenticate(text) for _ in range(2)][-1]


@pytest.mark.django_db(transaction=True)
def test_a_key_is_asked_for_again_before_a_second_is_over(
    acme: Tenant, standing_clock: StandingClock, django_assert_num_queries: Any
) -> None:
    with scoping.platform():
        text = new_key(tenant=acme).text
    found = remembered(text)
    standing_clock.advance(0.89)
    with django_assert_num_queries(0):
        again = api_keys.authenticate(text)
    assert (again, again.tenant) == (found, acme)
    assert again is not found, "what a request changes of its rows is its own"
    standing_clock.advance(0.02)
    with django_assert_num_queries(1):
        api_keys.authenticate(text)


@pytest.mark.parametrize(
    ("column", "value", "refusal"),
    [
        ("revoked_at", Now(), ApiKeyInvalid),
        ("expires_at", Now(), ApiKeyInvalid),
        ("allowed_networks", ["192.0.2.0/24"], AddressNotAllowed),
    ],
)
def test_a_key_ends_within_a_second(
    platform_scope: None,
    acme: Tenant,
    standing_clock: StandingClock,
    column: str,
    value: object,
    refusal: type[PreludeError],
) -> None:
    key = new_key(tenant=acme)
    remembered(key.text)
    ApiKey.objects.filter(pk=key.row.pk).update(**{column: value})
    standing_clock.advance(1)
    with pytest.raises(refusal):
        api_keys.authenticate(key.text)


def test_a_suspension_and_a_new_role_take_effect_within_a_second(
    platform_scope: None, acme: Tenant, standing_clock: StandingClock
) -> None:
    member = MembershipFactory.create(tenant=acme, role=Role.ENGINEER)
    text = new_key(tenant=acme, membership=member).text
    assert remembered(text).rights_in_force == ROLE_RIGHTS[Role.ENGINEER]
    type(member).objects.filter(pk=member.pk).update(role=Role.VIEWER)
    standing_clock.advance(1)
    assert remembered(text).rights_in_force == ROLE_RIGHTS[Role.ENGINEER] & ROLE_RIGHTS[Role.VIEWER]
    Tenant.objects.filter(pk=acme.pk).update(state=TenantState.SUSPENDED)
    standing_clock.advance(1)
    with pytest.raises(TenantSuspended):
        api_keys.authenticate(text)
    Tenant.objects.filter(pk=acme.pk).update(state=TenantState.ACTIVE)
    assert api_keys.authenticate(text).tenant == acme, "no refusal is remembered"


def test_a_key_that_is_remembered_expires_to_the_moment(platform_scope: None, acme: Tenant) -> None:
    expires_at = timezone.now() + timedelta(seconds=0.5)
    text = new_key(tenant=acme, expires_at=expires_at).text
    remembered(text)
    time.sleep(max(0.0, (expires_at - timezone.now()).total_seconds()))
    with pytest.raises(ApiKeyInvalid):
        api_keys.authenticate(text)


def test_another_secret_opens_no_key_that_is_remembered(platform_scope: None, acme: Tenant) -> None:
    text = new_key(tenant=acme).text
    remembered(text)
    with pytest.raises(ApiKeyInvalid):
        api_keys.authenticate(text[:-1])


@pytest.mark.django_db(transaction=True)
def test_a_key_that_opened_nothing_is_not_remembered(acme: Tenant, django_assert_num_queries: Any) -> None:
    with scoping.platform():
        text = new_key(tenant=acme).text
    for _ in range(3):
        with django_assert_num_queries(1), pytest.raises(ApiKeyInvalid):
            api_keys.authenticate(text[:-1])


def test_a_process_remembers_a_bounded_number_of_keys(
    standing_clock: StandingClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(open_keys, "MOST_KEYS", 2)
    keys, ids = open_keys.OpenKeys(standing_clock), [uuid7() for _ in range(3)]
    for one in ids:
        keys.keep(one, (one,), asked_at=standing_clock())
    assert [keys.recall(one) for one in ids] == [None, None, (ids[2],)]
