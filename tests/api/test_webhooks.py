"""Webhooks over HTTP."""

from typing import Any

import pytest
from rest_framework.test import APIClient

from federation.models import WebhookDelivery, WebhookEndpoint
from federation.services.webhooks import MAX_WEBHOOKS
from tenants import scoping
from tenants.models import Tenant
from tests.api.problems import assert_same_as_unknown, faults, problem
from tests.factories import WebhookAttemptFactory, WebhookDeliveryFactory, WebhookEndpointFactory

pytestmark = pytest.mark.django_db
WEBHOOKS = "/api/v1/webhooks"
URL = "https://hooks.example.com/prelude"


def made(client: APIClient, **fields: Any) -> dict[str, Any]:
    answer: Any = client.post(WEBHOOKS, {"url": URL, **fields}, format="json")
    assert answer.status_code == 201, answer.content
    assert answer["Cache-Control"] == "no-store"
    found: dict[str, Any] = answer.json()
    return found


def test_a_secret_is_told_once(acme_client: APIClient) -> None:
    body = made(acme_client, kinds=["round.published"], description="ours")
    assert body["secret"].startswith("whsec_")
    webhook = body["webhook"]
    assert (webhook["url"], webhook["kinds"], webhook["description"]) == (URL, ["round.published"], "ours")
    assert (webhook["state"], webhook["reason"], webhook["last_delivered_at"]) == ("active", "", None)
    read = acme_client.get(f"{WEBHOOKS}/{webhook['id']}")
    assert read.json() == webhook
    assert acme_client.get(WEBHOOKS).json()["results"] == [webhook]
    rotated = acme_client.post(f"{WEBHOOKS}/{webhook['id']}/secrets")
    assert rotated.status_code == 201
    assert rotated.json()["secret"] not in (body["secret"], "")


@pytest.mark.parametrize(
    ("fields", "code"),
    [
        ({"url": "http://hooks.example.com"}, "webhook_url_invalid"),
        ({"url": "https://127.0.0.1/"}, "webhook_url_invalid"),
        ({"url": "https://[::ffff:169.254.169.254]/"}, "webhook_url_invalid"),
        ({"kinds": ["round.exploded"]}, "webhook_kind_unknown"),
    ],
)
def test_what_no_webhook_may_be(acme_client: APIClient, fields: dict[str, Any], code: str) -> None:
    refused = acme_client.post(WEBHOOKS, {"url": URL, **fields}, format="json")
    assert problem(refused, 422, code)["field"] in fields
    webhook = made(acme_client)["webhook"]
    changed = {"url": URL, "state": "active", **fields}
    problem(acme_client.put(f"{WEBHOOKS}/{webhook['id']}", changed, format="json"), 422, code)


def test_a_webhook_takes_no_other_fields(acme_client: APIClient) -> None:
    refused = acme_client.post(WEBHOOKS, {"secret": "mine"}, format="json")
    assert faults(refused) == {("secret", "unknown_field")}


def test_there_are_so_many_webhooks_and_no_more(acme_client: APIClient, acme: Tenant) -> None:
    WebhookEndpointFactory.create_batch(MAX_WEBHOOKS, tenant=acme)
    WebhookEndpointFactory.create()
    refused = acme_client.post(WEBHOOKS, {"url": URL}, format="json")
    problem(refused, 409, "webhook_limit_reached")


def test_a_disabled_webhook_ends_what_waits_and_is_made_active_again(
    acme_client: APIClient, acme: Tenant
) -> None:
    delivery = WebhookDeliveryFactory.create(endpoint__tenant=acme)
    path = f"{WEBHOOKS}/{delivery.endpoint.public_id}"
    body = {"url": URL, "kinds": [], "description": "", "state": "disabled"}
    assert acme_client.put(path, body, format="json").json()["state"] == "disabled"
    ended = acme_client.get(f"{path}/deliveries").json()["results"]
    assert [row["state"] for row in ended] == ["failed"]
    resend = f"/api/v1/webhook-deliveries/{delivery.public_id}/resend"
    problem(acme_client.post(resend), 409, "webhook_disabled")
    problem(acme_client.post(f"{path}/test"), 409, "webhook_disabled")
    assert acme_client.put(path, {**body, "state": "active"}, format="json").json()["state"] == "active"
    again = acme_client.post(resend)
    assert again.status_code == 200
    assert (again.json()["state"], again.json()["finished_at"]) == ("waiting", None)


def test_a_delivery_tells_what_was_sent_and_what_came_of_it(acme_client: APIClient, acme: Tenant) -> None:
    delivery = WebhookDeliveryFactory.create(endpoint__tenant=acme, body='{"type":"round.published"}')
    WebhookAttemptFactory.create(delivery=delivery, status_code=None, error="ConnectError: refused")
    WebhookAttemptFactory.create(delivery=delivery, number=2)
    body = acme_client.get(f"/api/v1/webhook-deliveries/{delivery.public_id}").json()
    assert body["body"] == '{"type":"round.published"}'
    told = [(attempt["number"], attempt["status_code"], attempt["error"]) for attempt in body["attempts"]]
    assert told == [(1, None, "ConnectError: refused"), (2, 204, "")]


def test_a_test_message_waits_to_be_sent(acme_client: APIClient) -> None:
    webhook = made(acme_client)["webhook"]
    sent = acme_client.post(f"{WEBHOOKS}/{webhook['id']}/test")
    assert sent.status_code == 201
    assert (sent.json()["kind"], sent.json()["state"]) == ("webhook.test", "waiting")


def test_a_webhook_goes_with_its_messages(acme_client: APIClient, acme: Tenant) -> None:
    attempt = WebhookAttemptFactory.create(delivery__endpoint__tenant=acme)
    path = f"{WEBHOOKS}/{attempt.delivery.endpoint.public_id}"
    assert acme_client.delete(path).status_code == 204
    problem(acme_client.get(path), 404, "not_found")
    with scoping.platform():
        assert (WebhookEndpoint.objects.count(), WebhookDelivery.objects.count()) == (0, 0)


def test_tenants_and_operators_meet_their_own_alone(
    acme_client: APIClient, globex_client: APIClient, operator_client: APIClient
) -> None:
    webhooks = [made(client)["webhook"]["id"] for client in (acme_client, globex_client, operator_client)]
    for client, own in zip((acme_client, globex_client, operator_client), webhooks, strict=True):
        assert [row["id"] for row in client.get(WEBHOOKS).json()["results"]] == [own]
    assert_same_as_unknown(operator_client, f"{WEBHOOKS}/{{}}", webhooks[0])
    assert_same_as_unknown(acme_client, f"{WEBHOOKS}/{{}}/deliveries", webhooks[2])
