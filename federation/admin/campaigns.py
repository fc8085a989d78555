"""Campaigns: rounds that were asked for as one."""

from typing import Any

from django import forms
from django.contrib import admin
from django.http import HttpRequest, HttpResponse
from django.template.response import TemplateResponse
from django.urls import URLPattern, path
from django.views.decorators.http import require_safe
from unfold.widgets import UnfoldAdminIntegerFieldWidget

from federation.models import Campaign, Federation
from federation.models.campaigns import MAX_ROUNDS
from federation.selectors import standing, visibility
from federation.selectors.campaigns import campaign_progress
from federation.selectors.progress import live_rounds
from federation.services.campaigns import FAILED_IN_A_ROW, cancel_campaign, start_campaign
from federation.states import FederationState
from tenants.admin.forms import ServiceForm, row_choice
from tenants.admin.row_actions import Done, RowAction
from tenants.admin.rows import ServiceRows, change_url, require


def _count(**options: Any) -> forms.IntegerField:
    return forms.IntegerField(
        min_value=1, max_value=MAX_ROUNDS, widget=UnfoldAdminIntegerFieldWidget(), **options
    )


class CampaignForm(ServiceForm):
    """How many rounds, and when to stop earlier."""

    explanation = (
        "Rounds follow one another, each from the last one's candidate; the best version is published. "
        f"The campaign fails when {FAILED_IN_A_ROW} rounds fail in a row, or one cannot open."
    )
    submit_label = "Start campaign"

    federation = row_choice()
    n_rounds = _count(label="Rounds", help_text="At most, whatever comes of each.")
    patience = _count(
        required=False,
        help_text="End early after so many evaluated rounds in a row without a better version; empty: never.",
    )
    evaluate_every = _count(initial=1, help_text="Score every so many rounds; the last one always is.")

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.choose_from(federation=Federation.objects.filter(state=FederationState.READY).order_by("name"))

    def call_service(self) -> Campaign:
        """Start the campaign. Raises what `start_campaign` raises."""
        return start_campaign(**self.cleaned_data)

    def told(self, row: Any) -> str:
        """Say what has begun."""
        return f"The campaign of {row.n_rounds} rounds of {row.federation} has begun."


def _cancel(campaign: Campaign, actor: str) -> Done:
    cancel_campaign(campaign=campaign, actor=actor)
    told = f"The campaign of {campaign.federation} is canceled; what it has published stays."
    return Done(told, change_url(campaign.federation))


@admin.register(Campaign)
class CampaignRows(ServiceRows):
    """Chains of rounds, with a page whose progress moves while the campaign runs."""

    add_form = CampaignForm
    visible = staticmethod(visibility.campaigns)
    row_actions = (
        RowAction(
            name="cancel",
            label="Cancel campaign",
            icon="cancel",
            question="Cancel the campaign {row}? Its round ends now and none follows; what it has published stays.",
            permission="federation.change_campaign",
            run=_cancel,
            is_offered=lambda campaign: not campaign.is_finished,
            style="danger",
        ),
    )
    change_form_outer_after_template = "console/campaign.html"
    list_display = ("__str__", "state_badge", "reason", "started_at", "finished_at", "identifier")
    list_select_related = ("federation",)
    list_filter = ("state", ("federation", admin.RelatedOnlyFieldListFilter))
    search_fields = ("federation__name", "state_reason")
    fields = (
        "federation",
        "state_badge",
        "reason",
        "n_rounds",
        "patience",
        "evaluate_every",
        "started_at",
        "finished_at",
        "identifier",
    )
    readonly_fields = fields

    def get_urls(self) -> list[URLPattern]:
        """The part of a campaign's page that renews itself, then the usual addresses."""
        progress = self.admin_site.admin_view(require_safe(self.progress_view))
        return [
            path("<uuid:object_id>/progress/", progress, name="federation_campaign_progress"),
            *super().get_urls(),
        ]

    def change_view(
        self,
        request: HttpRequest,
        object_id: str,
        form_url: str = "",
        extra_context: dict[str, Any] | None = None,
    ) -> HttpResponse:
        """The campaign's facts, and how far it is."""
        shown = self._progress(self.row_or_404(request, object_id))
        return super().change_view(request, object_id, form_url, {**(extra_context or {}), **shown})

    def progress_view(self, request: HttpRequest, object_id: str) -> HttpResponse:
        """The part of the page that renews itself until the campaign has ended."""
        campaign = self.row_or_404(request, object_id)
        require(self.has_view_permission(request, campaign))
        # Only the page of a live campaign asks: when it has ended, its button and its state are to change too.
        headers = {"HX-Refresh": "true"} if campaign.is_finished else {}
        context = {"original": campaign, "opts": self.opts, **self._progress(campaign)}
        return TemplateResponse(request, "console/campaign_progress.html", context, headers=headers)

    def _progress(self, campaign: Campaign) -> dict[str, Any]:
        return {
            "progress": campaign_progress([campaign])[campaign.pk],
            "live_rounds": live_rounds(campaign=campaign),
            "rounds": standing.newest_rounds(of=campaign),
        }

    @admin.display(description="Reason", empty_value="–")
    def reason(self, campaign: Campaign) -> str:
        """Why it is in this state."""
        return campaign.state_reason
