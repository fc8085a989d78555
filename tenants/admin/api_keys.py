"""API keys: their text is shown once, when they are made, and is kept nowhere."""

from typing import Any

from django import forms
from django.contrib import admin
from django.db import models
from django.http import HttpRequest, HttpResponse
from django.template.response import TemplateResponse
from django.utils.safestring import SafeString
from unfold.widgets import UnfoldAdminTextInputWidget

from tenants.admin.forms import ServiceForm, row_choice
from tenants.admin.row_actions import Done, RowAction
from tenants.admin.rows import ServiceRows, badge, change_url
from tenants.models import ApiKey
from tenants.services.api_keys import NewApiKey, create_api_key, revoke_api_key


class ApiKeyForm(ServiceForm):
    """A key for a tenant's programs, or for an operator's."""

    explanation = "The key's text is shown once, on the next page. Only its keyed digest is stored."
    submit_label = "Create key"

    tenant = row_choice(required=False, empty_label="None: an operator's key, for the whole platform")
    name = forms.CharField(
        max_length=200, widget=UnfoldAdminTextInputWidget(), help_text="Which program uses it, and where."
    )
    new_key: NewApiKey

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.choose_tenant()

    def call_service(self) -> ApiKey:
        """Make the key and hold its text for the answer to this request."""
        self.new_key = create_api_key(tenant=self.cleaned_data["tenant"], name=self.cleaned_data["name"])
        return self.new_key.row


def _revoke(key: ApiKey, _actor: str) -> Done:
    revoke_api_key(key=key)
    return Done(f"The API key {key} is revoked.", change_url(key))


@admin.register(ApiKey)
class ApiKeyRows(ServiceRows):
    """Keys without their secrets."""

    add_form = ApiKeyForm
    row_actions = (
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
    list_display = ("name", "owner", "validity", "identifier", "created_at", "last_used_at")
    list_select_related = ("tenant",)
    list_filter = (("revoked_at", admin.EmptyFieldListFilter),)
    search_fields = ("name", "tenant__name")
    fields = ("name", "owner", "validity", "identifier", "created_at", "last_used_at", "revoked_at")
    readonly_fields = fields

    @admin.display(description="Owner", ordering="tenant__name")
    def owner(self, key: ApiKey) -> str:
        """The tenant whose key it is."""
        return str(key.tenant) if key.tenant else "operator"

    @admin.display(description="State", ordering="revoked_at")
    def validity(self, key: ApiKey) -> SafeString:
        """Whether the key opens anything."""
        return badge("revoked" if key.revoked_at else "active")

    def saved_response(self, request: HttpRequest, form: ServiceForm, row: models.Model) -> HttpResponse:
        """The only page that ever shows the key's text; it is answered directly and stored nowhere."""
        assert isinstance(form, ApiKeyForm)
        context = {**self.admin_site.each_context(request), "opts": self.opts, "original": row}
        context |= {"title": "API key", "text": form.new_key.text}
        return TemplateResponse(
            request, "console/api_key_once.html", context, headers={"Cache-Control": "no-store"}
        )
