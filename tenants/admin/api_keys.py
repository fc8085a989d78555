"""API keys: their text is shown once, when they are made, and is kept nowhere."""

from functools import partial
from typing import Any, ClassVar

from django import forms
from django.contrib import admin
from django.db import models
from django.http import HttpRequest, HttpResponse
from django.utils import timezone
from django.utils.safestring import SafeString
from unfold.widgets import (
    UnfoldAdminCheckboxSelectMultipleWidget,
    UnfoldAdminTextareaWidget,
    UnfoldAdminTextInputWidget,
)

from tenants import acting
from tenants.admin.forms import ServiceForm, row_choice
from tenants.admin.row_actions import Done, RowAction
from tenants.admin.rows import ServiceRows, badge, change_url, secret_shown_once
from tenants.models import ApiKey
from tenants.rights import RIGHT_CHOICES
from tenants.services.api_keys import NewApiKey, create_api_key, revoke_api_key, rotate_api_key

_OVERLAP_SECONDS = 3_600


class ApiKeyForm(ServiceForm):
    """A key for a tenant's programs, or for an operator's."""

    refusals_at: ClassVar = {
        "right_out_of_reach": "rights",
        "right_not_held": "rights",
        "expiry_in_past": "expires_at",
        "network_invalid": "allowed_networks",
    }
    explanation = "The key's text is shown once, on the next page. Only its keyed digest is stored."
    submit_label = "Create key"

    tenant = row_choice(required=False, empty_label="None: an operator's key, for the whole platform")
    name = forms.CharField(
        max_length=200, widget=UnfoldAdminTextInputWidget(), help_text="Which program uses it, and where."
    )
    rights = forms.MultipleChoiceField(
        choices=RIGHT_CHOICES,
        required=False,
        widget=UnfoldAdminCheckboxSelectMultipleWidget(),
        help_text="With none chosen: an engineer's for a tenant's key, all for an operator's.",
    )
    expires_at = forms.DateTimeField(
        required=False,
        widget=UnfoldAdminTextInputWidget(attrs={"type": "datetime-local"}),
        help_text="In UTC; left empty it does not expire.",
    )
    allowed_networks = forms.CharField(
        required=False,
        widget=UnfoldAdminTextareaWidget(attrs={"rows": 3}),
        help_text="Addresses or CIDR blocks, one a line; left empty it is accepted from anywhere.",
    )
    new_key: NewApiKey

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.choose_tenant()

    def call_service(self) -> ApiKey:
        """Make the key and hold its text for the answer to this request."""
        data = self.cleaned_data
        self.new_key = create_api_key(
            tenant=data["tenant"],
            name=data["name"],
            giver_rights=acting.actor().rights,
            rights=data["rights"] or None,
            expires_at=data["expires_at"],
            allowed_networks=data["allowed_networks"].split(),
        )
        return self.new_key.row


def _show_once(new_key: NewApiKey, request: HttpRequest) -> HttpResponse:
    return secret_shown_once(request, new_key.row, new_key.text)


def _revoke(key: ApiKey, _actor: str) -> Done:
    revoke_api_key(key=key)
    return Done(f"The API key {key} is revoked.", change_url(key))


def _rotate(key: ApiKey, _actor: str) -> Done:
    new_key = rotate_api_key(key=key, overlap_seconds=_OVERLAP_SECONDS, giver_rights=acting.actor().rights)
    return Done(f"The API key {key} has a successor.", change_url(new_key.row), partial(_show_once, new_key))


def _has_expired(key: ApiKey) -> bool:
    return key.expires_at is not None and key.expires_at <= timezone.now()


@admin.register(ApiKey)
class ApiKeyRows(ServiceRows):
    """Keys without their secrets."""

    add_form = ApiKeyForm
    row_actions = (
        RowAction(
            name="rotate",
            label="Rotate key",
            icon="autorenew",
            question="Replace the key {row}? The new one is shown once; the old one is accepted for another hour.",
            permission="tenants.change_apikey",
            run=_rotate,
            is_offered=lambda key: not (key.revoked_at or key.rotated_at or _has_expired(key)),
        ),
        RowAction(
            name="revoke",
            label="Revoke key",
            icon="key_off",
            question="Revoke the key {row}? Programs that use it are refused from now on; this cannot be undone.",
            permission="tenants.change_apikey",
            run=_revoke,
            is_offered=lambda key: key.revoked_at is None,
            style="danger",
        ),
    )
    list_display = ("name", "owner", "validity", "identifier", "created_at", "last_used_at", "expires_at")
    list_select_related = ("tenant",)
    list_filter = (("revoked_at", admin.EmptyFieldListFilter),)
    search_fields = ("name", "tenant__name")
    fields = (
        "name",
        "owner",
        "membership",
        "validity",
        "rights_given",
        "networks",
        "identifier",
        "created_at",
        "last_used_at",
        "expires_at",
        "rotated_at",
        "revoked_at",
    )
    readonly_fields = fields

    @admin.display(description="Owner", ordering="tenant__name")
    def owner(self, key: ApiKey) -> str:
        """The tenant whose key it is."""
        return str(key.tenant) if key.tenant else "operator"

    @admin.display(description="State", ordering="revoked_at")
    def validity(self, key: ApiKey) -> SafeString:
        """Whether the key opens anything."""
        if key.revoked_at:
            return badge("revoked")
        return badge("expired" if _has_expired(key) else "active")

    @admin.display(description="Rights")
    def rights_given(self, key: ApiKey) -> str:
        """The words; a member's own key does no more of them than the member's role may."""
        return ", ".join(key.rights)

    @admin.display(description="Allowed networks")
    def networks(self, key: ApiKey) -> str:
        """From where it is accepted."""
        return ", ".join(key.allowed_networks) or "anywhere"

    def saved_response(self, request: HttpRequest, form: ServiceForm, row: models.Model) -> HttpResponse:
        """The new key's text instead of its page."""
        assert isinstance(form, ApiKeyForm)
        return _show_once(form.new_key, request)
