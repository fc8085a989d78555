"""Local runs: a tenant's own trainings within rounds, with what their workers report."""

from typing import Any, TypedDict

from drf_spectacular.utils import extend_schema_field
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from api.fields import Body, Facts, PublicIdField, RefusalField
from api.rows import RowSerializer
from api.schema import operation, paged
from api.views import ApiView
from federation.models import FederatedRound, Federation, LocalRun, TrainerLogTail
from federation.selectors import trainer_logs, visibility, waiting
from federation.states import LocalRunState
from tenants import scoping
from tenants.lookups import pick
from tenants.models import Dataset, Tenant
from tenants.rights import Resource


class LocalRunFilter(Body):
    """Which local runs."""

    round = PublicIdField(FederatedRound, required=False)
    federation = PublicIdField(Federation, required=False)


class Update(TypedDict):
    """A submitted change of the prefix."""

    sha256: str
    size_bytes: int


@extend_schema_field(
    {
        "type": "array",
        "items": {"type": "array", "items": {"type": "number"}, "minItems": 2, "maxItems": 2},
    }
)
class History(serializers.JSONField):
    """[step, loss] of the attempt that counts."""


class LocalRunSerializer(RowSerializer[LocalRun]):
    """One tenant's training within one round."""

    reads = ("rejection_code", "state_reason", "update_size_bytes", "update_sha256")

    id = PublicIdField(LocalRun)
    round = PublicIdField(FederatedRound, source="federated_round_id")
    federation = PublicIdField(Federation, source="federated_round.federation_id")
    tenant = PublicIdField(Tenant, source="tenant_id")
    dataset = PublicIdField(Dataset, source="dataset_id")
    state = serializers.ChoiceField(LocalRunState.choices)
    reason = serializers.CharField(source="state_reason")
    rejection = RefusalField(code_field="rejection_code", help_text="Why the update does not count.")
    attempt = serializers.IntegerField()
    n_examples = serializers.IntegerField()
    progress = Facts(help_text="step, n_steps, loss, tokens_per_second, …")
    history = History()
    metrics = Facts(
        help_text="Once submitted: tokens_per_second, dtype, device, …, and scores before and after; null where the "
        "specification's evaluation.around_training leaves them out."
    )
    update = serializers.SerializerMethodField()  # type: ignore[assignment]  # hides Serializer.update
    created_at = serializers.DateTimeField()
    finished_at = serializers.DateTimeField(allow_null=True)

    def get_update(self, row: LocalRun) -> Update | None:
        """Nothing before it is submitted."""
        if row.update_size_bytes is None:
            return None
        return Update(sha256=row.update_sha256, size_bytes=row.update_size_bytes)


class LogTailSerializer(serializers.Serializer[TrainerLogTail]):
    """What a trainer wrote last before an attempt lost it."""

    attempt = serializers.IntegerField()
    lines = serializers.ListField(child=serializers.CharField())
    happened_at = serializers.DateTimeField()


class OneLocalRunSerializer(LocalRunSerializer):
    """A local run, with its place among all that waits for a worker, and for operators with what lost attempts left."""

    place_in_queue = serializers.SerializerMethodField(
        help_text="From 1, as things stand; null once it has begun, and while a limit of the tenant holds it back. "
        "Work that comes later may go first."
    )
    estimated_start_seconds = serializers.SerializerMethodField(
        help_text="Until it begins, at the pace of the last starts; null where none in ten minutes tells it."
    )

    log_tails = serializers.SerializerMethodField(
        help_text="Of trainers that attempts lost; null for tenants."
    )

    @extend_schema_field(LogTailSerializer(many=True, allow_null=True))
    def get_log_tails(self, row: LocalRun) -> list[Any] | None:
        """The oldest attempt first."""
        if not scoping.is_platform():
            return None
        return [LogTailSerializer(tail).data for tail in trainer_logs.tails_of(row)]

    def get_place_in_queue(self, _: LocalRun) -> int | None:
        """Among all tenants' work."""
        return self._forecast().place

    def get_estimated_start_seconds(self, _: LocalRun) -> float | None:
        """From now."""
        return self._forecast().seconds

    def _forecast(self) -> waiting.Forecast:
        forecast: waiting.Forecast = self.context["forecast"]
        return forecast


class LocalRuns(ApiView):
    """`/local-runs`."""

    resource = Resource.ROUNDS

    @paged("list_local_runs", tag="local-runs", rows=LocalRunSerializer, filters=LocalRunFilter)
    def get(self, _: Request) -> Response:
        """List local runs, the newest first; a tenant sees its own."""
        asked, rows = self.filters(LocalRunFilter), visibility.local_runs()
        if "round" in asked:
            rows = rows.filter(federated_round=pick(visibility.rounds, asked["round"]))
        if "federation" in asked:
            federation = pick(visibility.federations, asked["federation"])
            rows = rows.filter(federated_round__federation=federation)
        return self.page(rows, LocalRunSerializer)


class OneLocalRun(ApiView):
    """`/local-runs/{id}`."""

    resource = Resource.ROUNDS
    local_run: LocalRun

    def load(self, local_run_id: str) -> None:  # type: ignore[override]
        """Among those that the caller sees."""
        self.local_run = pick(visibility.local_runs, local_run_id)

    @operation("read_local_run", tag="local-runs", answer=OneLocalRunSerializer)
    def get(self, _: Request) -> Response:
        """Read a local run."""
        with scoping.platform():  # over all tenants: the platform's to count, and the caller's to know
            forecast = waiting.forecast(self.local_run)
        return Response(OneLocalRunSerializer(self.local_run, context={"forecast": forecast}).data)
