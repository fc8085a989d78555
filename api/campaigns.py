"""Campaigns: operators start and cancel chains of rounds, tenants of the federation watch."""

from typing import ClassVar

from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from api.federations import FederationView
from api.fields import Body, PublicIdField
from api.idempotency import idempotent
from api.permissions import OperatorOnly
from api.rows import RowSerializer
from api.schema import operation, paged
from api.views import ApiView
from federation.models import Campaign, FederatedRound, Federation, PrefixVersion
from federation.models.campaigns import MAX_ROUNDS
from federation.selectors import visibility
from federation.selectors.campaigns import CampaignProgress, campaign_progress
from federation.services.campaigns import FAILED_IN_A_ROW, cancel_campaign, start_campaign
from federation.states import CampaignState
from tenants.lookups import pick
from tenants.rights import Resource


class NewCampaignSerializer(Body):
    """A campaign to be started."""

    n_rounds = serializers.IntegerField(
        min_value=1,
        max_value=MAX_ROUNDS,
        help_text="Rounds that it holds at most, whatever comes of each; only a last one that fails is held again, "
        "where the candidate before it was not scored. "
        f"It fails when {FAILED_IN_A_ROW} fail in a row, or one cannot open.",
    )
    patience = serializers.IntegerField(
        min_value=1,
        max_value=MAX_ROUNDS,
        allow_null=True,
        default=None,
        help_text="It ends early after so many evaluated rounds in a row without a better version; null: never.",
    )
    evaluate_every = serializers.IntegerField(
        min_value=1,
        max_value=MAX_ROUNDS,
        default=1,
        help_text="Every so many rounds the candidate is scored, and published if it is better than what is "
        "published; the last round's always is.",
    )


class CampaignSerializer(RowSerializer[Campaign]):
    """A campaign. Scores are those that the caller may see: a tenant's are its own.

    `context["measures"]` holds `campaign_progress` of the rows.
    """

    id = PublicIdField(Campaign)
    federation = PublicIdField(Federation, source="federation_id")
    state = serializers.ChoiceField(CampaignState.choices)
    reason = serializers.CharField(source="state_reason")
    n_rounds = serializers.IntegerField()
    patience = serializers.IntegerField(allow_null=True)
    evaluate_every = serializers.IntegerField()
    n_ended_rounds = serializers.SerializerMethodField(help_text="Whatever came of them.")
    n_rounds_by_state = serializers.SerializerMethodField(help_text="Of those that were opened.")
    live_round = serializers.SerializerMethodField(help_text="null between two rounds.")
    best_version = serializers.SerializerMethodField(help_text="The last that it published; null: none yet.")
    best_score = serializers.SerializerMethodField(help_text="That version's mean held-out accuracy.")
    started_at = serializers.DateTimeField()
    finished_at = serializers.DateTimeField(allow_null=True)

    def get_n_ended_rounds(self, row: Campaign) -> int:
        """So far."""
        return self._progress(row).n_ended

    def get_n_rounds_by_state(self, row: Campaign) -> dict[str, int]:
        """So far."""
        return self._progress(row).n_rounds_by_state

    def get_live_round(self, row: Campaign) -> str | None:
        """Now."""
        return _id_of(self._progress(row).live_round)

    def get_best_version(self, row: Campaign) -> str | None:
        """So far."""
        return _id_of(self._progress(row).best_version)

    def get_best_score(self, row: Campaign) -> float | None:
        """Of the best version."""
        return self._progress(row).best_score

    def _progress(self, row: Campaign) -> CampaignProgress:
        progress: CampaignProgress = self.context["measures"][row.pk]
        return progress


def _id_of(row: FederatedRound | PrefixVersion | None) -> str | None:
    return row.public_id if row else None


class Campaigns(FederationView):
    """`/federations/{id}/campaigns`."""

    resource = Resource.ROUNDS
    only: ClassVar = {"POST": OperatorOnly}

    @paged("list_campaigns", tag="campaigns", rows=CampaignSerializer)
    def get(self, _: Request) -> Response:
        """List a federation's campaigns, the newest first."""
        rows = visibility.campaigns().filter(federation=self.federation)
        return self.page(rows, CampaignSerializer, measure=campaign_progress)

    @operation(
        "start_campaign", tag="campaigns", body=NewCampaignSerializer, answer=CampaignSerializer, status=201
    )
    @idempotent
    def post(self, _: Request) -> Response:
        """Start rounds that follow one another, each from the last one's candidate; the best version is published.

        Until it ends, no other round of the federation opens, by hand or by its schedule.
        """
        campaign = start_campaign(federation=self.federation, **self.body(NewCampaignSerializer))
        campaign.refresh_from_db()
        return Response(_measured(campaign), 201)


class CampaignView(ApiView):
    """The base of views below `/campaigns/{id}`."""

    campaign: Campaign

    def load(self, campaign_id: str) -> None:  # type: ignore[override]
        """Among those that the caller sees."""
        self.campaign = pick(visibility.campaigns, campaign_id)


class OneCampaign(CampaignView):
    """`/campaigns/{id}`."""

    resource = Resource.ROUNDS

    @operation("read_campaign", tag="campaigns", answer=CampaignSerializer)
    def get(self, _: Request) -> Response:
        """Read a campaign."""
        return Response(_measured(self.campaign))


class CampaignCancellation(CampaignView):
    """`/campaigns/{id}/cancel`."""

    resource = Resource.ROUNDS
    only: ClassVar = {"POST": OperatorOnly}

    @operation("cancel_campaign", tag="campaigns", answer=CampaignSerializer)
    @idempotent
    def post(self, _: Request) -> Response:
        """End a live campaign now, with its live round; what it has published stays."""
        cancel_campaign(campaign=self.campaign, actor=self.principal.actor)
        return Response(_measured(self.campaign))


def _measured(campaign: Campaign) -> dict[str, object]:
    return dict(CampaignSerializer(campaign, context={"measures": campaign_progress([campaign])}).data)
