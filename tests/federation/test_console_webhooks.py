"""The console's pages of webhooks and their messages: for a tenant's members, and for operators theirs."""

import re

import pytest
from django.test import Client

from federation.models import WebhookDelivery, WebhookEndpoint
from federation.services.webhooks import live_secrets
from federation.states import DeliveryState, WebhookState
from tenants import scoping
from tenants.admin.rows import change_url
from tenants.models import AuditEntry, Tenant
from tenants.states import Role
from tests.factories import (
    MembershipFactory,
    WebhookAttemptFactory,
    WebhookDeliveryFactory,
    WebhookEndpointFactory,
)
from tests.federation.console import action_url, add_url, list_url, signed_in, text_of

pytestmark = pytest.mark.django_db

URL = "https://hooks.example.com/prelude"


@pytest.fixture
def engineer(acme: Tenant) -> Client:
    return signed_in(MembershipFactory.create(tenant=acme, role=Role.ENGINEER).user)


def webhook() -> WebhookEndpoint:
    with scoping.platform():
        return WebhookEndpoint.objects.get()


def secrets_of(endpoint: WebhookEndpoint) -> tuple[str, ...]:
    with scoping.platform():
        return live_secrets(endpoint=WebhookEndpoint.objects.select_related("tenant").get(pk=endpoint.pk))


def secret_on(page: str) -> str:
    [text] = re.findall(r"whsec_[A-Za-z0-9+/=]+", page)
    return str(text)


def test_a_member_makes_a_webhook_and_sees_its_secret_once(engineer: Client, acme: Tenant) -> None:
    answer = engineer.post(add_url(WebhookEndpoint), {"url": URL, "kinds": ["round.published"]})
    text = secret_on(text_of(answer))
    assert "no-store" in answer["Cache-Control"]
    made = webhook()
    assert (made.tenant_id, made.url, made.kinds) == (acme.pk, URL, ["round.published"])
    assert secrets_of(made) == (text,)
    page = text_of(engineer.get(change_url(made)))
    assert "round.published" in page
    assert "whsec_" not in page


def test_an_operators_webhook_is_no_tenants(operator: Client) -> None:
    assert operator.post(add_url(WebhookEndpoint), {"url": URL}).status_code == 200
    assert webhook().tenant_id is None
    assert "all events" in text_of(operator.get(list_url(WebhookEndpoint)))


@pytest.mark.parametrize("url", ["http://hooks.example.com", "https://127.0.0.1/x", "no address"])
def test_an_address_that_cannot_be_reached_is_told_at_its_field(engineer: Client, url: str) -> None:
    page = text_of(engineer.post(add_url(WebhookEndpoint), {"url": url}))
    assert "errorlist" in page or "text-red" in page
    with scoping.platform():
        assert not WebhookEndpoint.objects.exists()


def test_a_secret_is_rotated_and_the_old_one_goes_on_signing(engineer: Client) -> None:
    first = secret_on(text_of(engineer.post(add_url(WebhookEndpoint), {"url": URL})))
    second = secret_on(text_of(engineer.post(action_url(webhook(), "rotate"))))
    assert secrets_of(webhook()) == (second, first)


def test_disabled_and_enabled_again_its_address_stays(engineer: Client, acme: Tenant) -> None:
    endpoint = WebhookEndpointFactory.create(tenant=acme, kinds=["round.kept"])
    engineer.post(action_url(endpoint, "disable"))
    assert (webhook().state, webhook().kinds) == (WebhookState.DISABLED, ["round.kept"])
    assert "disabled" in text_of(engineer.post(action_url(endpoint, "test"), follow=True))
    engineer.post(action_url(endpoint, "enable"))
    assert (webhook().state, webhook().url) == (WebhookState.ACTIVE, endpoint.url)


def test_a_test_message_waits_and_its_log_is_shown(engineer: Client, acme: Tenant) -> None:
    endpoint = WebhookEndpointFactory.create(tenant=acme)
    page = text_of(engineer.post(action_url(endpoint, "test"), follow=True))
    assert "webhook.test" in page
    assert "none yet" in page
    with scoping.platform():
        delivery = WebhookDelivery.objects.get()
    WebhookAttemptFactory.create(
        delivery=delivery, tenant=acme, status_code=503, response_excerpt="<b>later</b>"
    )
    page = text_of(engineer.get(change_url(delivery)))
    assert "1. " in page
    assert "UTC: 503 after 0.10 s &lt;b&gt;later&lt;/b&gt;" in page


def test_a_message_that_failed_is_sent_again_by_hand(engineer: Client, acme: Tenant) -> None:
    failed = WebhookDeliveryFactory.create(
        endpoint=WebhookEndpointFactory.create(tenant=acme),
        state=DeliveryState.FAILED,
        finished_at="2026-11-01T00:00Z",
    )
    engineer.post(action_url(failed, "resend"))
    with scoping.platform():
        assert WebhookDelivery.objects.get().state == DeliveryState.WAITING
        assert AuditEntry.objects.filter(action="webhook_delivery.resent").count() == 1


def test_a_deleted_webhook_is_gone_with_its_messages(engineer: Client, acme: Tenant) -> None:
    endpoint = WebhookEndpointFactory.create(tenant=acme)
    WebhookDeliveryFactory.create(endpoint=endpoint)
    answer = engineer.post(action_url(endpoint, "remove"))
    assert answer["Location"] == list_url(WebhookEndpoint)
    with scoping.platform():
        assert not WebhookEndpoint.objects.exists()
        assert not WebhookDelivery.objects.exists()


def test_another_tenants_and_the_operators_webhooks_are_no_pages(engineer: Client, globex: Tenant) -> None:
    for owner in (globex, None):
        endpoint = WebhookEndpointFactory.create(tenant=owner)
        delivery = WebhookDeliveryFactory.create(endpoint=endpoint)
        for address in (change_url(endpoint), change_url(delivery)):
            assert engineer.get(address).status_code in (302, 404)
        assert engineer.post(action_url(endpoint, "remove")).status_code == 404
        assert endpoint.url not in text_of(engineer.get(list_url(WebhookEndpoint)))
