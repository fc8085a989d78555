"""Presets: specifications to make federations from."""

from typing import Any

from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from api.federations import SpecificationField
from api.schema import operation
from api.views import ApiView
from federation.presets import PRESETS, CampaignRules, Preset
from tenants.rights import Resource


class CampaignRulesSerializer(serializers.Serializer[CampaignRules]):
    """The body of `start_campaign` that goes with a preset."""

    n_rounds = serializers.IntegerField()
    patience = serializers.IntegerField(allow_null=True)
    evaluate_every = serializers.IntegerField()


class PresetSerializer(serializers.Serializer[Preset]):
    """A whole specification that holds up, to change the task of."""

    name = serializers.CharField()
    description = serializers.CharField(help_text="What it does, and why.")
    specification = SpecificationField(source="specification.as_json")
    campaign = CampaignRulesSerializer()


class PresetsSerializer(serializers.Serializer[Any]):
    """All presets."""

    results = PresetSerializer(many=True)


class FederationPresets(ApiView):
    """`/federation-presets`."""

    resource = Resource.FEDERATIONS

    @operation("list_federation_presets", tag="federations", answer=PresetsSerializer)
    def get(self, _: Request) -> Response:
        """List complete specifications to make a federation from, each with the campaign that goes with it."""
        return Response(PresetsSerializer({"results": PRESETS}).data)
