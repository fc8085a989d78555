"""Tenants."""

from typing import ClassVar

from django import forms
from django.contrib import admin
from unfold.widgets import UnfoldAdminTextInputWidget

from tenants.admin.forms import ServiceForm
from tenants.admin.rows import ServiceRows
from tenants.models import Tenant
from tenants.services.tenants import create_tenant


class TenantForm(ServiceForm):
    """A new customer."""

    refusals_at: ClassVar = {"tenant_slug_taken": "slug"}
    explanation = "The tenant gets a data key of its own, wrapped by the platform's master key."

    name = forms.CharField(max_length=200, widget=UnfoldAdminTextInputWidget())
    slug = forms.SlugField(
        max_length=63,
        widget=UnfoldAdminTextInputWidget(),
        help_text="Lower case letters, digits, hyphens; unique.",
    )

    def call_service(self) -> Tenant:
        """Register the tenant. Raises TenantSlugTaken."""
        return create_tenant(name=self.cleaned_data["name"], slug=self.cleaned_data["slug"])


@admin.register(Tenant)
class TenantRows(ServiceRows):
    """The customers."""

    add_form = TenantForm
    list_display = ("name", "slug", "state_badge", "identifier", "created_at")
    list_filter = ("state",)
    search_fields = ("name", "slug")
    ordering = ("name",)
    fields = ("name", "slug", "state_badge", "identifier", "created_at")
    readonly_fields = fields
