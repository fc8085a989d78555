"""Evaluations: what versions score on tenants' held-out rows."""

from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from api.fields import Body, PublicIdField
from api.rows import RowSerializer
from api.schema import paged
from api.views import ApiView
from federation.models import Evaluation, Federation, PrefixVersion
from federation.selectors import visibility
from federation.states import EvaluationState
from tenants.lookups import pick
from tenants.models import Dataset, Tenant
from tenants.rights import Resource


class EvaluationFilter(Body):
    """Which evaluations."""

    federation = PublicIdField(Federation, required=False)
    version = PublicIdField(PrefixVersion, required=False)


class EvaluationSerializer(RowSerializer[Evaluation]):
    """One version's score on one dataset's held-out rows."""

    id = PublicIdField(Evaluation)
    federation = PublicIdField(Federation, source="federation_id")
    version = PublicIdField(
        PrefixVersion,
        source="version_id",
        allow_null=True,
        help_text="Null: the base model without a prefix.",
    )
    tenant = PublicIdField(Tenant, source="tenant_id")
    dataset = PublicIdField(Dataset, source="dataset_id")
    state = serializers.ChoiceField(EvaluationState.choices)
    reason = serializers.CharField(source="state_reason")
    accuracy = serializers.FloatField(allow_null=True)
    loss = serializers.FloatField(allow_null=True)
    n_rows = serializers.IntegerField(allow_null=True)
    created_at = serializers.DateTimeField()
    finished_at = serializers.DateTimeField(allow_null=True)


class Evaluations(ApiView):
    """`/evaluations`."""

    resource = Resource.ROUNDS

    @paged("list_evaluations", tag="evaluations", rows=EvaluationSerializer, filters=EvaluationFilter)
    def get(self, _: Request) -> Response:
        """List evaluations, the newest first; a tenant sees its own."""
        asked, rows = self.filters(EvaluationFilter), visibility.evaluations()
        if "federation" in asked:
            rows = rows.filter(federation=pick(visibility.federations, asked["federation"]))
        if "version" in asked:
            rows = rows.filter(version=pick(visibility.prefix_versions, asked["version"]))
        return self.page(rows, EvaluationSerializer)
