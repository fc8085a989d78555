"""Campaigns: rounds that were asked for as one."""

from typing import Any

from django import forms
from django.contrib import admin
from unfold.widgets import UnfoldAdminIntegerFieldWidget

from federation.models import Campaign, Federation
from federation.models.campaigns import MAX_ROUNDS
from federation.selectors import visibility
from federation.services.campaigns import FAILED_IN_A_ROW, cancel_campaign, start_campaign
from federation.states import FederationState
from tenants.admin.forms import ServiceForm, row_choice
from tenants.admin.row_actions import Done, RowAction
from tenants.admin.rows import ServiceRows, change_url


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
    """Chains of rounds; a federation's page shows how far they are."""

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

    @admin.display(description="Reason", empty_value="–")
    def reason(self, campaign: Campaign) -> str:
        """Why it is in this state."""
        return campaign.state_reason
