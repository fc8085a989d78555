"""Federations: operators make them; tenants see those that they are invited to or take part in."""

from typing import Any, ClassVar

from drf_spectacular.extensions import OpenApiSerializerFieldExtension
from drf_spectacular.openapi import AutoSchema
from drf_spectacular.plumbing import ResolvedComponent
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from api.fields import Body, PublicIdField, RefusalField
from api.idempotency import idempotent
from api.permissions import OperatorOnly
from api.preconditions import conditional
from api.rows import RowSerializer
from api.schema import operation, paged
from api.views import ApiView
from federation.models import BaseModel, Federation
from federation.models.federations import MAX_WEIGHT
from federation.selectors import visibility
from federation.services.federations import change_federation, create_federation
from federation.specification import FederationSpecification
from federation.states import FederationState, Priority
from tenants.lookups import pick
from tenants.rights import Resource


class SpecificationField(serializers.JSONField):
    """A specification as it stands; the service that takes it checks it."""


class SpecificationSchema(OpenApiSerializerFieldExtension):  # type: ignore[no-untyped-call]
    """The specification's own schema in the OpenAPI document."""

    target_class = "api.federations.SpecificationField"

    def map_serializer_field(self, auto_schema: AutoSchema, _direction: str) -> dict[str, Any]:
        """A reference, its parts being components too."""
        schema = FederationSpecification.model_json_schema(ref_template="#/components/schemas/{model}")
        parts = {**schema.pop("$defs"), FederationSpecification.__name__: schema}
        for name, part in parts.items():
            component = ResolvedComponent(  # type: ignore[no-untyped-call]
                name=name, type=ResolvedComponent.SCHEMA, object=name, schema=part
            )
            auto_schema.registry.register_on_missing(component)
        return {"$ref": f"#/components/schemas/{FederationSpecification.__name__}"}


class NewFederationSerializer(Body):
    """A federation to be made."""

    name = serializers.CharField(max_length=200)
    base_model = PublicIdField(BaseModel)
    specification = SpecificationField()


class FederationChangeSerializer(Body):
    """What of a federation can be changed: when its waiting work is done."""

    priority = serializers.ChoiceField(
        Priority.choices, help_text="Work of a class waits while a higher one has any."
    )
    weight = serializers.IntegerField(
        min_value=1, max_value=MAX_WEIGHT, help_text="Its share among federations of one class."
    )


class FederationSerializer(RowSerializer[Federation]):
    """A federation."""

    reads = ("refusal_code", "state_reason")

    id = PublicIdField(Federation)
    name = serializers.CharField()
    base_model = PublicIdField(BaseModel, source="base_model_id")
    specification = SpecificationField()
    specification_sha256 = serializers.CharField()
    state = serializers.ChoiceField(FederationState.choices)
    refusal = RefusalField()
    priority = serializers.ChoiceField(Priority.choices)
    weight = serializers.IntegerField()
    created_at = serializers.DateTimeField()


class FederationView(ApiView):
    """The base of views below `/federations/{id}`."""

    federation: Federation

    def load(self, federation_id: str) -> None:  # type: ignore[override]
        """Among those that the caller sees."""
        self.federation = pick(visibility.federations, federation_id)


class Federations(ApiView):
    """`/federations`."""

    resource = Resource.FEDERATIONS
    only: ClassVar = {"POST": OperatorOnly}

    @paged("list_federations", tag="federations", rows=FederationSerializer)
    def get(self, _: Request) -> Response:
        """List federations; a tenant sees those that it is invited to or takes part in."""
        return self.page(visibility.federations(), FederationSerializer)

    @operation(
        "create_federation",
        tag="federations",
        body=NewFederationSerializer,
        answer=FederationSerializer,
        status=201,
    )
    @idempotent
    def post(self, _: Request) -> Response:
        """Make a federation; the training side prepares its start prefix next."""
        body = self.body(NewFederationSerializer)
        body["base_model"] = pick(visibility.base_models, body["base_model"])
        return self.made(FederationSerializer, create_federation(**body))


class OneFederation(FederationView):
    """`/federations/{id}`."""

    resource = Resource.FEDERATIONS
    only: ClassVar = {"PUT": OperatorOnly}

    def hold(self) -> None:
        """The federation's row."""
        self.federation.lock()

    def representation(self) -> Any:
        """The federation."""
        return FederationSerializer(self.federation).data

    @operation("read_federation", tag="federations", answer=FederationSerializer)
    @conditional
    def get(self, _: Request) -> Response:
        """Read a federation."""
        return Response(self.representation())

    @operation(
        "change_federation", tag="federations", body=FederationChangeSerializer, answer=FederationSerializer
    )
    @conditional
    def put(self, _: Request) -> Response:
        """Change when its waiting work is done, from the next start on."""
        change_federation(federation=self.federation, **self.body(FederationChangeSerializer))
        return Response(self.representation())
