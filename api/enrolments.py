"""Enrolments: an operator invites a tenant, the tenant takes its place with a dataset, either may end it."""

from typing import Any

from drf_spectacular.utils import PolymorphicProxySerializer, extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from api.federations import FederationView
from api.fields import Body, PublicIdField
from api.idempotency import idempotent
from api.preconditions import conditional
from api.rows import RowSerializer
from api.schema import operation, paged
from federation.models import Enrolment, Federation
from federation.selectors import visibility
from federation.services.federations import enrol, invite, leave
from federation.states import EnrolmentState
from tenants import selectors
from tenants.lookups import pick
from tenants.models import Dataset, Tenant
from tenants.rights import Resource


class InvitationSerializer(Body):
    """What an operator sends."""

    tenant = PublicIdField(Tenant)


class AcceptanceSerializer(Body):
    """What a tenant sends, to take its place or to change its dataset."""

    dataset = PublicIdField(Dataset)


class EnrolmentSerializer(RowSerializer[Enrolment]):
    """A tenant's place in a federation."""

    id = PublicIdField(Enrolment)
    federation = PublicIdField(Federation, source="federation_id")
    tenant = PublicIdField(Tenant, source="tenant_id")
    dataset = PublicIdField(Dataset, source="dataset_id", allow_null=True)
    state = serializers.ChoiceField(EnrolmentState.choices)
    created_at = serializers.DateTimeField()


EITHER: Any = PolymorphicProxySerializer(
    component_name="EnrolmentRequest",
    serializers=[InvitationSerializer, AcceptanceSerializer],
    resource_type_field_name=None,
)


class Enrolments(FederationView):
    """`/federations/{id}/enrolments`."""

    resource = Resource.ENROLMENTS

    @paged("list_enrolments", tag="enrolments", rows=EnrolmentSerializer)
    def get(self, _: Request) -> Response:
        """List enrolments; a tenant sees its own."""
        return self.page(visibility.enrolments(federation=self.federation), EnrolmentSerializer)

    @extend_schema(
        operation_id="enrol",
        tags=["enrolments"],
        request=EITHER,
        responses={200: EnrolmentSerializer, 201: EnrolmentSerializer},
    )
    @idempotent
    @conditional
    def post(self, _: Request) -> Response:
        """Invite a tenant (operator: 201), or take the place that was offered with a dataset (tenant: 200).

        The ETag is that of the tenant's enrolment, as `read_enrolment` answers it.
        """
        if self.principal.is_operator:
            return self.made(EnrolmentSerializer, invite(federation=self.federation, tenant=self._tenant()))
        dataset = pick(selectors.datasets, self.body(AcceptanceSerializer)["dataset"])
        enrolment = enrol(federation=self.federation, tenant=self._tenant(), dataset=dataset)
        return Response(EnrolmentSerializer(enrolment).data)

    def hold(self) -> None:
        """The tenant's enrolment. Raises NotFound."""
        visibility.place(federation=self.federation, tenant=self._tenant()).lock()

    def representation(self) -> Any:
        """The tenant's enrolment. Raises NotFound."""
        return EnrolmentSerializer(visibility.place(federation=self.federation, tenant=self._tenant())).data

    def _tenant(self) -> Tenant:
        """The caller's, or the one that an operator invites."""
        invited = self.principal.tenant
        return invited or pick(selectors.tenants, self.body(InvitationSerializer)["tenant"])


class OneEnrolment(FederationView):
    """`/federations/{id}/enrolments/{enrolment}`."""

    resource = Resource.ENROLMENTS
    enrolment: Enrolment

    def load(self, federation_id: str, enrolment_id: str) -> None:  # type: ignore[override]
        """Among those that the caller sees."""
        super().load(federation_id)
        self.enrolment = Enrolment.pick(visibility.enrolments(federation=self.federation), enrolment_id)

    def hold(self) -> None:
        """The enrolment's row."""
        self.enrolment.lock()

    def representation(self) -> Any:
        """The enrolment."""
        return EnrolmentSerializer(self.enrolment).data

    @operation("read_enrolment", tag="enrolments", answer=EnrolmentSerializer)
    @conditional
    def get(self, _: Request) -> Response:
        """Read an enrolment."""
        return Response(self.representation())

    @operation("leave", tag="enrolments", answer=EnrolmentSerializer)
    @conditional
    def delete(self, _: Request) -> Response:
        """End the tenant's part: later rounds go on without it."""
        leave(enrolment=self.enrolment)
        return Response(self.representation())
