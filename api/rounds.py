"""Rounds: operators start and cancel them, tenants of the federation watch."""

from typing import ClassVar

from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from api.federations import FederationView
from api.fields import Body, EmptyBody, PublicIdField
from api.idempotency import idempotent
from api.permissions import OperatorOnly
from api.rows import RowSerializer
from api.schema import operation, paged
from api.views import ApiView
from federation.models import Campaign, FederatedRound, Federation, PrefixVersion
from federation.selectors import measures, visibility
from federation.services import rounds
from federation.states import RoundState
from tenants.lookups import pick
from tenants.rights import Resource


class RoundFilter(Body):
    """Which rounds."""

    campaign = PublicIdField(Campaign, required=False)


class RoundSerializer(RowSerializer[FederatedRound]):
    """A round. Counts and bytes are those of the local runs that the caller may see: a tenant's are its own.

    `context["measures"]` holds `measures.measure_rounds` of the rows.
    """

    reads = ()

    id = PublicIdField(FederatedRound)
    federation = PublicIdField(Federation, source="federation_id")
    campaign = PublicIdField(Campaign, source="campaign_id", allow_null=True)
    number = serializers.IntegerField()
    state = serializers.ChoiceField(RoundState.choices)
    reason = serializers.CharField(source="state_reason")
    parent_version = PublicIdField(PrefixVersion, source="parent_version_id")
    incumbent_version = PublicIdField(
        PrefixVersion,
        source="incumbent_version_id",
        help_text="What was published when it opened: the gate compares the candidate with it.",
    )
    candidate_version = PublicIdField(PrefixVersion, source="candidate_version_id", allow_null=True)
    quorum = serializers.IntegerField()
    opened_at = serializers.DateTimeField()
    deadline_at = serializers.DateTimeField(help_text="Of the phase that the round is in.")
    due_at = serializers.DateTimeField(allow_null=True, help_text="Where a schedule opened it.")
    finished_at = serializers.DateTimeField(allow_null=True)
    n_local_runs = serializers.SerializerMethodField(help_text="By state.")
    n_still_ending = serializers.SerializerMethodField(
        help_text="Local runs and evaluations that were called off and whose workers have not yet stopped: they do "
        "with their next heartbeat, or are lost with their lease."
    )
    phase_seconds = serializers.SerializerMethodField(help_text="By phase; the current one until now.")
    up_bytes = serializers.SerializerMethodField(help_text="Updates that workers sent.")
    down_bytes = serializers.SerializerMethodField(help_text="Versions that workers fetched.")

    def get_n_local_runs(self, row: FederatedRound) -> dict[str, int]:
        """By state."""
        return self._measures(row).n_local_runs

    def get_n_still_ending(self, row: FederatedRound) -> int:
        """Now."""
        return self._measures(row).n_still_ending

    def get_phase_seconds(self, row: FederatedRound) -> dict[str, float]:
        """By phase."""
        return self._measures(row).phase_seconds

    def get_up_bytes(self, row: FederatedRound) -> int:
        """Of updates."""
        return self._measures(row).up_bytes

    def get_down_bytes(self, row: FederatedRound) -> int:
        """Of versions."""
        return self._measures(row).down_bytes

    def _measures(self, row: FederatedRound) -> measures.RoundMeasures:
        measured: measures.RoundMeasures = self.context["measures"][row.id]
        return measured


class Rounds(FederationView):
    """`/federations/{id}/rounds`."""

    resource = Resource.ROUNDS
    only: ClassVar = {"POST": OperatorOnly}

    @paged("list_rounds", tag="rounds", rows=RoundSerializer, filters=RoundFilter)
    def get(self, _: Request) -> Response:
        """List a federation's rounds, the newest first."""
        rows = visibility.rounds().filter(federation=self.federation)
        asked = self.filters(RoundFilter)
        if "campaign" in asked:
            rows = rows.filter(campaign=pick(visibility.campaigns, asked["campaign"]))
        return self.page(rows, RoundSerializer, measure=measures.measure_rounds)

    @operation("start_round", tag="rounds", body=EmptyBody, answer=RoundSerializer, status=201)
    @idempotent
    def post(self, _: Request) -> Response:
        """Start a round from the published version, with every active tenant; not while a campaign is live."""
        self.body(EmptyBody)
        federated_round = rounds.start_round(federation=self.federation)
        return Response(_measured(federated_round), 201)


class RoundView(ApiView):
    """The base of views below `/rounds/{id}`."""

    federated_round: FederatedRound

    def load(self, round_id: str) -> None:  # type: ignore[override]
        """Among those that the caller sees."""
        self.federated_round = pick(visibility.rounds, round_id)


class OneRound(RoundView):
    """`/rounds/{id}`."""

    resource = Resource.ROUNDS

    @operation("read_round", tag="rounds", answer=RoundSerializer)
    def get(self, _: Request) -> Response:
        """Read a round."""
        return Response(_measured(self.federated_round))


class RoundCancellation(RoundView):
    """`/rounds/{id}/cancel`."""

    resource = Resource.ROUNDS
    only: ClassVar = {"POST": OperatorOnly}

    @operation("cancel_round", tag="rounds", answer=RoundSerializer)
    @idempotent
    def post(self, _: Request) -> Response:
        """End a live round now; nothing of it is published. A campaign's round is canceled with its campaign."""
        rounds.cancel_round(federated_round=self.federated_round, actor=self.principal.actor)
        return Response(_measured(self.federated_round))


def _measured(federated_round: FederatedRound) -> dict[str, object]:
    context = {"measures": measures.measure_rounds([federated_round])}
    return dict(RoundSerializer(federated_round, context=context).data)
