"""Webhooks: addresses that are told of events. A tenant has its own, operators theirs."""

from typing import ClassVar

from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from api.fields import Body, EmptyBody, PublicIdField
from api.idempotency import idempotent
from api.rows import RowSerializer
from api.schema import operation, paged
from api.views import ApiView
from federation.models import WebhookAttempt, WebhookDelivery, WebhookEndpoint
from federation.selectors import visibility
from federation.services import webhooks
from federation.services.webhooks import NewSecret, WebhookFields
from federation.states import DeliveryState, WebhookState
from tenants.lookups import pick
from tenants.rights import Resource


class NewWebhookSerializer(Body):
    """A webhook to be made."""

    url = serializers.CharField(max_length=2_000, help_text="https, on a public address.")
    kinds = serializers.ListField(
        child=serializers.CharField(max_length=64),
        max_length=50,
        default=list,
        help_text="Of events, such as round.published; none: all.",
    )
    description = serializers.CharField(max_length=200, default="", allow_blank=True)


class ChangedWebhookSerializer(NewWebhookSerializer):
    """A webhook as it shall be."""

    state = serializers.ChoiceField(WebhookState.choices)


class WebhookSerializer(RowSerializer[WebhookEndpoint]):
    """A webhook, without its secrets."""

    id = PublicIdField(WebhookEndpoint)
    url = serializers.CharField()
    kinds = serializers.ListField(child=serializers.CharField())
    description = serializers.CharField()
    state = serializers.ChoiceField(WebhookState.choices)
    reason = serializers.CharField(source="state_reason", help_text="Why the platform has disabled it.")
    created_at = serializers.DateTimeField()
    last_delivered_at = serializers.DateTimeField(allow_null=True)


class WebhookSecretSerializer(serializers.Serializer[NewSecret]):
    """A webhook and its new secret, at the only moment at which that is told."""

    webhook = WebhookSerializer(source="endpoint")
    secret = serializers.CharField(source="text", help_text="whsec_…; it is not shown again.")


class WebhookDeliverySerializer(RowSerializer[WebhookDelivery]):
    """A message to a webhook. Its id is the `webhook-id` of each attempt."""

    id = PublicIdField(WebhookDelivery)
    webhook = PublicIdField(WebhookEndpoint, source="endpoint_id")
    kind = serializers.CharField()
    state = serializers.ChoiceField(DeliveryState.choices)
    n_failures = serializers.IntegerField(help_text="Since it began to wait.")
    due_at = serializers.DateTimeField(help_text="When it is sent next, while it waits.")
    created_at = serializers.DateTimeField()
    finished_at = serializers.DateTimeField(allow_null=True)


class WebhookAttemptSerializer(RowSerializer[WebhookAttempt]):
    """What came of sending a message once."""

    number = serializers.IntegerField()
    started_at = serializers.DateTimeField()
    latency_seconds = serializers.FloatField()
    status_code = serializers.IntegerField(allow_null=True, help_text="Null: no answer came.")
    error = serializers.CharField()
    response_excerpt = serializers.CharField()


class WebhookDeliveryLogSerializer(WebhookDeliverySerializer):
    """A message with what was sent, and every attempt."""

    body = serializers.CharField()
    attempts = WebhookAttemptSerializer(many=True, source="attempts.all")


class Webhooks(ApiView):
    """`/webhooks`."""

    resource: ClassVar = Resource.WEBHOOKS

    @paged("list_webhooks", tag="webhooks", rows=WebhookSerializer)
    def get(self, _: Request) -> Response:
        """List the caller's webhooks, the newest first."""
        return self.page(visibility.webhooks(), WebhookSerializer)

    @operation(
        "create_webhook",
        tag="webhooks",
        body=NewWebhookSerializer,
        answer=WebhookSecretSerializer,
        status=201,
    )
    @idempotent
    def post(self, _: Request) -> Response:
        """Have an address told of events. Messages are signed (Standard Webhooks) with the secret that is told here."""
        fields: WebhookFields = self.body(NewWebhookSerializer)  # type: ignore[assignment]  # its fields are these
        return _secret_told(webhooks.create_webhook(tenant=self.principal.tenant, fields=fields))


class WebhookView(ApiView):
    """The base of views below `/webhooks/{id}`."""

    resource: ClassVar = Resource.WEBHOOKS
    endpoint: WebhookEndpoint

    def load(self, webhook_id: str) -> None:  # type: ignore[override]
        """Among the caller's."""
        self.endpoint = WebhookEndpoint.pick(visibility.webhooks().select_related("tenant"), webhook_id)


class OneWebhook(WebhookView):
    """`/webhooks/{id}`."""

    resource: ClassVar = Resource.WEBHOOKS

    @operation("read_webhook", tag="webhooks", answer=WebhookSerializer)
    def get(self, _: Request) -> Response:
        """Read a webhook."""
        return Response(WebhookSerializer(self.endpoint).data)

    @operation("change_webhook", tag="webhooks", body=ChangedWebhookSerializer, answer=WebhookSerializer)
    def put(self, _: Request) -> Response:
        """Change a webhook. Disabling it ends the messages that wait; what happens meanwhile is not sent later."""
        body = self.body(ChangedWebhookSerializer)
        fields = WebhookFields(url=body["url"], kinds=body["kinds"], description=body["description"])
        webhooks.change_webhook(endpoint=self.endpoint, fields=fields, state=WebhookState(body["state"]))
        return Response(WebhookSerializer(self.endpoint).data)

    @operation("delete_webhook", tag="webhooks", status=204)
    def delete(self, _: Request) -> Response:
        """Delete a webhook with its messages and their log."""
        webhooks.delete_webhook(endpoint=self.endpoint)
        return Response(status=204)


class WebhookSecrets(WebhookView):
    """`/webhooks/{id}/secrets`."""

    resource: ClassVar = Resource.WEBHOOKS

    @operation(
        "rotate_webhook_secret",
        tag="webhooks",
        body=EmptyBody,
        answer=WebhookSecretSerializer,
        status=201,
    )
    @idempotent
    def post(self, _: Request) -> Response:
        """Make a further secret. For a day messages are signed with the ones before it too."""
        self.body(EmptyBody)
        return _secret_told(webhooks.rotate_secret(endpoint=self.endpoint))


class WebhookTest(WebhookView):
    """`/webhooks/{id}/test`."""

    resource: ClassVar = Resource.WEBHOOKS

    @operation(
        "send_test_message",
        tag="webhooks",
        body=EmptyBody,
        answer=WebhookDeliverySerializer,
        status=201,
    )
    @idempotent
    def post(self, _: Request) -> Response:
        """Send a message of the kind webhook.test."""
        self.body(EmptyBody)
        return self.made(WebhookDeliverySerializer, webhooks.send_test(endpoint=self.endpoint))


class WebhookDeliveries(WebhookView):
    """`/webhooks/{id}/deliveries`."""

    resource: ClassVar = Resource.WEBHOOKS

    @paged("list_webhook_deliveries", tag="webhooks", rows=WebhookDeliverySerializer)
    def get(self, _: Request) -> Response:
        """List the messages to a webhook, the newest first; those that ended are kept for 30 days."""
        rows = visibility.webhook_deliveries().filter(endpoint=self.endpoint)
        return self.page(rows, WebhookDeliverySerializer)


class DeliveryView(ApiView):
    """The base of views below `/webhook-deliveries/{id}`."""

    resource: ClassVar = Resource.WEBHOOKS
    delivery: WebhookDelivery

    def load(self, delivery_id: str) -> None:  # type: ignore[override]
        """Among messages to the caller's webhooks."""
        self.delivery = pick(visibility.webhook_deliveries, delivery_id)


class OneWebhookDelivery(DeliveryView):
    """`/webhook-deliveries/{id}`."""

    resource: ClassVar = Resource.WEBHOOKS

    @operation("read_webhook_delivery", tag="webhooks", answer=WebhookDeliveryLogSerializer)
    def get(self, _: Request) -> Response:
        """Read a message and its log."""
        return Response(WebhookDeliveryLogSerializer(self.delivery).data)


class WebhookResending(DeliveryView):
    """`/webhook-deliveries/{id}/resend`."""

    resource: ClassVar = Resource.WEBHOOKS

    @operation("resend_webhook_delivery", tag="webhooks", body=EmptyBody, answer=WebhookDeliverySerializer)
    @idempotent
    def post(self, _: Request) -> Response:
        """Send a message again now, under its id; its retries begin anew."""
        self.body(EmptyBody)
        webhooks.resend(delivery=self.delivery)
        self.delivery.refresh_from_db()
        return Response(WebhookDeliverySerializer(self.delivery).data)


def _secret_told(new: NewSecret) -> Response:
    new.endpoint.refresh_from_db()
    return Response(WebhookSecretSerializer(new).data, 201, headers={"Cache-Control": "no-store"})
