"""Tenants' limits beside what is used of them, and their usage by day."""

from typing import Any
from urllib.parse import urlencode

from django import forms
from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from django.template.response import TemplateResponse
from django.urls import reverse
from django.utils.decorators import method_decorator
from django.views.decorators.http import require_safe
from unfold.widgets import UnfoldAdminIntegerFieldWidget

from federation.selectors.limits import Standing, standing
from tenants import selectors
from tenants.admin.forms import ServiceForm, row_choice
from tenants.admin.rows import ServiceRows, require
from tenants.admin.tags import duration, n_bytes, thousands
from tenants.models import Tenant, TenantLimits
from tenants.services.limits import FIELDS, set_limits

N_DAYS = 31
_SHOWN_AS = {"stored_bytes": n_bytes, "device_seconds_per_month": duration}


def _amount(*, least: int = 0) -> forms.IntegerField:
    return forms.IntegerField(
        required=False,
        min_value=least,
        max_value=2**31 - 1 if least else 2**53,
        widget=UnfoldAdminIntegerFieldWidget(),
    )


class LimitsForm(ServiceForm):
    """All limits of one tenant."""

    explanation = "They hold within a second. An empty field is no limit."
    submit_label = "Set limits"

    tenant = row_choice()
    requests_per_minute = _amount(least=1)
    rounds_in_flight = forms.IntegerField(
        required=False, min_value=0, max_value=2**31 - 1, widget=UnfoldAdminIntegerFieldWidget()
    )
    dataset_rows = _amount()
    stored_bytes = _amount()
    device_seconds_per_month = _amount()
    concurrent_runs = _amount(least=1)
    weight = forms.IntegerField(min_value=1, max_value=100, initial=1, widget=UnfoldAdminIntegerFieldWidget())

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.choose_from(tenant=Tenant.objects.order_by("name"))

    def call_service(self) -> TenantLimits:
        """Set the limits."""
        tenant, wanted = self.cleaned_data["tenant"], {name: self.cleaned_data[name] for name in FIELDS}
        return set_limits(limits=selectors.limits(tenant=tenant), **wanted)

    def told(self, row: Any) -> str:
        """Say whose limits were set."""
        return f"The limits of {row.tenant} hold within a second."


@admin.register(TenantLimits)
class LimitsRows(ServiceRows):
    """Every tenant's limits."""

    add_form = LimitsForm
    list_display = ("tenant", *FIELDS)
    list_select_related = ("tenant",)
    search_fields = ("tenant__name", "tenant__slug")
    ordering = ("tenant__name",)

    @method_decorator(require_safe)
    def change_view(
        self,
        request: HttpRequest,
        object_id: str,
        form_url: str = "",
        extra_context: dict[str, Any] | None = None,
    ) -> HttpResponse:
        """A tenant's limits and usage."""
        limits: TenantLimits = self.row_or_404(request, object_id)
        require(self.has_view_permission(request, limits))
        context = {**self.admin_site.each_context(request), "opts": self.opts, "title": str(limits)}
        context |= {"original": limits, "bars": _bars(limits), "days": _days(limits)}
        context["form_url"] = _form_url(limits) if self.has_add_permission(request) else ""
        return TemplateResponse(request, "console/limits.html", context)


def _bars(limits: TenantLimits) -> list[dict[str, Any]]:
    return [_bar(name, found) for name, found in standing(limits=limits).items()]


def _bar(name: str, found: Standing) -> dict[str, Any]:
    shown = _SHOWN_AS.get(name, thousands)
    share = None if found.limit is None or found.used is None else found.used / max(found.limit, 1)
    return {
        "label": name.replace("_", " ").capitalize(),
        "used": shown(found.used),  # type: ignore[arg-type]  # bytes are whole numbers
        "limit": "no limit" if found.limit is None else shown(found.limit),
        "percent": None if share is None else min(100, round(100 * share)),
        "is_full": share is not None and share >= 1,
    }


def _days(limits: TenantLimits) -> "QuerySet[Any]":
    return selectors.usage_days(tenant=limits.tenant).order_by("-day")[:N_DAYS]


def _form_url(limits: TenantLimits) -> str:
    values = {name: getattr(limits, name) for name in FIELDS}
    known = {name: value for name, value in values.items() if value is not None}
    return f"{reverse('admin:tenants_tenantlimits_add')}?{urlencode({'tenant': limits.tenant_id, **known})}"
