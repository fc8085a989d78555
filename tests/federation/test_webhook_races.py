"""Two who meet at a webhook, and owners whose messages meet in a batch."""

import pytest

from federation.errors import WebhookLimitReached
from federation.models import WebhookDelivery, WebhookEndpoint
from federation.services import announcing, webhooks
from federation.services.events import number_new_events
from federation.services.webhooks import MAX_WEBHOOKS, WebhookFields
from federation.states import WebhookState
from tenants import scoping
from tenants.errors import NotFound
from tenants.models import Tenant
from tests.factories import WebhookDeliveryFactory, WebhookEndpointFactory
from tests.federation.webhooks import federation_of, happens, webhook
from tests.racing import at_once, beside, until_it_waits

pytestmark = pytest.mark.django_db(transaction=True)


def test_owners_take_turns_whatever_waits_for_one_of_them(acme: Tenant, globex: Tenant) -> None:
    for _ in range(10):
        slow = WebhookEndpointFactory.create(tenant=acme)
        WebhookDeliveryFactory.create_batch(10, endpoint=slow, tenant=acme)
    last = WebhookDeliveryFactory.create(endpoint=WebhookEndpointFactory.create(tenant=globex), tenant=globex)
    with scoping.platform():
        claimed = [one.delivery_id for one in announcing.claim_due(20)]
    assert len(claimed) == 20
    assert last.pk in claimed


def test_what_is_on_its_way_counts_among_an_owners_turns(acme: Tenant, globex: Tenant) -> None:
    for tenant in (acme, globex):
        WebhookDeliveryFactory.create_batch(
            4, endpoint=WebhookEndpointFactory.create(tenant=tenant), tenant=tenant
        )
        with scoping.platform():
            announcing.claim_due(2)
    with scoping.platform():
        owners = WebhookDelivery.objects.exclude(lease_expires_at=None).values_list("tenant", flat=True)
        assert sorted(owners) == sorted([acme.pk] * 2 + [globex.pk] * 2)


def test_an_owner_has_no_more_webhooks_than_the_limit_however_many_are_made_at_once(acme: Tenant) -> None:
    WebhookEndpointFactory.create_batch(MAX_WEBHOOKS - 1, tenant=acme)

    def make() -> bool:
        try:
            webhook(acme, "https://example.com/hook")
        except WebhookLimitReached:
            return False
        return True

    assert sorted(at_once(6, make)) == [False] * 5 + [True]


def test_of_two_who_delete_a_webhook_one_finds_none(acme: Tenant) -> None:
    endpoint = webhook(acme, "https://example.com/hook").endpoint

    def delete() -> bool:
        with scoping.tenant(acme.pk):
            try:
                webhooks.delete_webhook(endpoint=WebhookEndpoint(pk=endpoint.pk, tenant=acme))
            except NotFound:
                return False
            return True

    assert sorted(at_once(3, delete)) == [False, False, True]


@pytest.mark.parametrize("is_deleted", [False, True])
def test_nothing_is_written_to_a_webhook_that_was_disabled_or_deleted_before_that_was_committed(
    acme: Tenant, *, is_deleted: bool
) -> None:
    endpoint = webhook(acme, "https://example.com/hook").endpoint
    happens(federation_of(acme))
    with scoping.platform():
        number_new_events()
    with scoping.tenant(acme.pk):
        if is_deleted:
            webhooks.delete_webhook(endpoint=endpoint)
        else:
            fields: WebhookFields = {"url": endpoint.url, "kinds": [], "description": ""}
            webhooks.change_webhook(endpoint=endpoint, fields=fields, state=WebhookState.DISABLED)
        writing = beside(write_messages)
        until_it_waits()
    assert writing.result() == 1
    with scoping.platform():
        assert not WebhookDelivery.objects.exists()


def write_messages() -> int:
    with scoping.platform():
        return announcing.write_messages()
