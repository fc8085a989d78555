"""Tenants."""

from typing import ClassVar

from django import forms
from django.contrib import admin
from django.utils.safestring import SafeString
from unfold.widgets import UnfoldAdminTextInputWidget

from tenants.admin.forms import ServiceForm
from tenants.admin.row_actions import Done, RowAction
from tenants.admin.rows import ServiceRows, change_url, link
from tenants.models import Tenant
from tenants.services.tenants import change_tenant, create_tenant
from tenants.states import TenantState


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


def _suspend(tenant: Tenant, _actor: str) -> Done:
    change_tenant(tenant=tenant, state=TenantState.SUSPENDED)
    return Done(f"{tenant} is suspended.", change_url(tenant))


def _lift_suspension(tenant: Tenant, _actor: str) -> Done:
    change_tenant(tenant=tenant, state=TenantState.ACTIVE)
    return Done(f"{tenant} is active again.", change_url(tenant))


@admin.register(Tenant)
class TenantRows(ServiceRows):
    """The customers."""

    add_form = TenantForm
    row_actions = (
        RowAction(
            name="suspend",
            label="Suspend",
            icon="block",
            question="Suspend {row}? Its keys are refused and new rounds leave it out; running work goes on.",
            permission="tenants.change_tenant",
            run=_suspend,
            is_offered=lambda tenant: tenant.state == TenantState.ACTIVE,
            style="danger",
        ),
        RowAction(
            name="lift-suspension",
            label="Lift suspension",
            icon="undo",
            question="Lift the suspension of {row}? Its keys work again and new rounds take it in.",
            permission="tenants.change_tenant",
            run=_lift_suspension,
            is_offered=lambda tenant: tenant.state == TenantState.SUSPENDED,
        ),
    )
    list_display = ("name", "slug", "state_badge", "identifier", "created_at")
    list_filter = ("state",)
    search_fields = ("name", "slug")
    ordering = ("name",)
    fields = ("name", "slug", "state_badge", "limits_and_usage", "identifier", "created_at")
    readonly_fields = fields

    @admin.display(description="Limits and usage")
    def limits_and_usage(self, tenant: Tenant) -> SafeString:
        """The page of both."""
        return link(tenant.limits)
