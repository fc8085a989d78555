"""Webhooks and the messages to them: a member sees those of the tenant, an operator the operators'."""

from functools import partial
from typing import Any, ClassVar

from django import forms
from django.contrib import admin
from django.db import models
from django.http import HttpRequest, HttpResponse
from django.urls import reverse
from django.utils.html import format_html_join
from django.utils.safestring import SafeString
from unfold.widgets import UnfoldAdminCheckboxSelectMultipleWidget, UnfoldAdminTextInputWidget

from federation.models import WebhookDelivery, WebhookEndpoint
from federation.selectors import visibility
from federation.services import webhooks
from federation.services.webhooks import NewSecret, WebhookFields
from federation.states import EVENT_KINDS, DeliveryState, WebhookState
from tenants import selectors
from tenants.admin.forms import ServiceForm
from tenants.admin.row_actions import Done, RowAction
from tenants.admin.rows import ServiceRows, change_url, link, secret_shown_once


class WebhookForm(ServiceForm):
    """An address that is told of events."""

    refusals_at: ClassVar = {"webhook_url_invalid": "url", "webhook_kind_unknown": "kinds"}
    explanation = "Messages are signed with a secret, which is shown once, on the next page."
    submit_label = "Create webhook"

    url = forms.CharField(
        max_length=2_000,
        widget=UnfoldAdminTextInputWidget(),
        help_text="An https address outside of the platform's network.",
    )
    kinds = forms.MultipleChoiceField(
        choices=[(kind, kind) for kind in EVENT_KINDS],
        required=False,
        widget=UnfoldAdminCheckboxSelectMultipleWidget(),
        help_text="With none chosen: all.",
    )
    description = forms.CharField(required=False, max_length=200, widget=UnfoldAdminTextInputWidget())
    new_secret: NewSecret

    def call_service(self) -> WebhookEndpoint:
        """Make the webhook and hold its secret for the answer to this request."""
        data = self.cleaned_data
        fields = WebhookFields(url=data["url"], kinds=data["kinds"], description=data["description"])
        self.new_secret = webhooks.create_webhook(tenant=selectors.tenant_in_force(), fields=fields)
        return self.new_secret.endpoint


def _show_once(new_secret: NewSecret, request: HttpRequest) -> HttpResponse:
    return secret_shown_once(request, new_secret.endpoint, new_secret.text)


def _rotate(endpoint: WebhookEndpoint, _actor: str) -> Done:
    new_secret = webhooks.rotate_secret(endpoint=endpoint)
    told = f"The webhook {endpoint} has a further secret."
    return Done(told, change_url(endpoint), partial(_show_once, new_secret))


def _test(endpoint: WebhookEndpoint, _actor: str) -> Done:
    delivery = webhooks.send_test(endpoint=endpoint)
    return Done(f"A test message to {endpoint} waits to be sent.", change_url(delivery))


def _set(endpoint: WebhookEndpoint, state: WebhookState) -> None:
    kept = WebhookFields(url=endpoint.url, kinds=endpoint.kinds, description=endpoint.description)
    webhooks.change_webhook(endpoint=endpoint, fields=kept, state=state)


def _disable(endpoint: WebhookEndpoint, _actor: str) -> Done:
    _set(endpoint, WebhookState.DISABLED)
    return Done(f"The webhook {endpoint} is told of nothing from now on.", change_url(endpoint))


def _enable(endpoint: WebhookEndpoint, _actor: str) -> Done:
    _set(endpoint, WebhookState.ACTIVE)
    return Done(f"The webhook {endpoint} is told of what happens from now on.", change_url(endpoint))


def _remove(endpoint: WebhookEndpoint, _actor: str) -> Done:
    webhooks.delete_webhook(endpoint=endpoint)
    told = f"The webhook {endpoint} and its messages are gone."
    return Done(told, reverse("admin:federation_webhookendpoint_changelist"))


def _is_active(endpoint: WebhookEndpoint) -> bool:
    return endpoint.state == WebhookState.ACTIVE


@admin.register(WebhookEndpoint)
class WebhookRows(ServiceRows):
    """Webhooks without their secrets."""

    add_form = WebhookForm
    visible = staticmethod(visibility.webhooks)
    row_actions = (
        RowAction(
            name="test",
            label="Send a test",
            icon="send",
            question="Send a message of the kind webhook.test to {row}?",
            permission="federation.change_webhookendpoint",
            run=_test,
            is_offered=_is_active,
        ),
        RowAction(
            name="rotate",
            label="Rotate secret",
            icon="autorenew",
            question="Make a further secret for {row}? For a day messages are signed with the ones before it too.",
            permission="federation.change_webhookendpoint",
            run=_rotate,
        ),
        RowAction(
            name="enable",
            label="Enable",
            icon="notifications_active",
            question="Tell {row} of what happens from now on?",
            permission="federation.change_webhookendpoint",
            run=_enable,
            is_offered=lambda endpoint: not _is_active(endpoint),
        ),
        RowAction(
            name="disable",
            label="Disable",
            icon="notifications_off",
            question="Disable {row}? Messages that wait are not sent, and what happens meanwhile is not told later.",
            permission="federation.change_webhookendpoint",
            run=_disable,
            is_offered=_is_active,
        ),
        RowAction(
            name="remove",
            label="Delete webhook",
            icon="delete",
            question="Delete {row} with its secrets, its messages and their log?",
            permission="federation.delete_webhookendpoint",
            run=_remove,
            style="danger",
        ),
    )
    list_display = ("url", "state_badge", "told_of", "description", "last_delivered_at", "identifier")
    list_filter = ("state",)
    search_fields = ("url", "description")
    fields = (
        "url",
        "state_badge",
        "state_reason",
        "told_of",
        "description",
        "last_delivered_at",
        "created_at",
        "identifier",
    )
    readonly_fields = fields

    @admin.display(description="Told of")
    def told_of(self, endpoint: WebhookEndpoint) -> str:
        """Kinds of events."""
        return ", ".join(endpoint.kinds) or "all events"

    def saved_response(self, request: HttpRequest, form: ServiceForm, row: models.Model) -> HttpResponse:
        """The new secret instead of the webhook's page."""
        assert isinstance(form, WebhookForm)
        return _show_once(form.new_secret, request)


def _resend(delivery: WebhookDelivery, _actor: str) -> Done:
    webhooks.resend(delivery=delivery)
    return Done(f"The message {delivery.public_id} waits to be sent again.", change_url(delivery))


@admin.register(WebhookDelivery)
class WebhookDeliveryRows(ServiceRows):
    """Messages to webhooks and what came of each attempt; those that ended are kept for 30 days."""

    visible = staticmethod(visibility.webhook_deliveries)
    row_actions = (
        RowAction(
            name="resend",
            label="Send again",
            icon="redo",
            question="Send the message “{row}” again now, under its id?",
            permission="federation.change_webhookdelivery",
            run=_resend,
            is_offered=lambda delivery: delivery.state != DeliveryState.WAITING,
        ),
    )
    list_display = ("kind", "webhook", "state_badge", "n_failures", "created_at", "finished_at", "identifier")
    list_select_related = ("endpoint",)
    list_filter = ("state", "kind")
    search_fields = ("endpoint__url",)
    fields = (
        "kind",
        "webhook",
        "state_badge",
        "due_at",
        "created_at",
        "finished_at",
        "identifier",
        "body",
        "attempts_made",
    )
    readonly_fields = fields

    @admin.display(description="Webhook", ordering="endpoint__url")
    def webhook(self, delivery: WebhookDelivery) -> SafeString:
        """Where it goes."""
        return link(delivery.endpoint)

    @admin.display(description="Attempts")
    def attempts_made(self, delivery: WebhookDelivery) -> SafeString:
        """Each attempt's time and outcome, a line each."""
        lines: list[tuple[Any, ...]] = [
            (
                attempt.number,
                attempt.started_at.strftime("%Y-%m-%d %H:%M:%S"),
                attempt.status_code or attempt.error or "no answer",
                f"{attempt.latency_seconds:.2f}",
                attempt.response_excerpt,
            )
            for attempt in delivery.attempts.all()
        ]
        return format_html_join("", "<div>{}. {} UTC: {} after {} s {}</div>", lines) or SafeString(
            "none yet"
        )
