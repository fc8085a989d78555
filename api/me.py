"""Whose key this is."""

from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from api.authentication import Principal, PrincipalKind
from api.fields import PublicIdField, RightsField
from api.rows import RowSerializer
from api.schema import operation
from api.views import ApiView
from tenants.models import ApiKey, Tenant


class OwnTenantSerializer(RowSerializer[Tenant]):
    """The tenant that a key belongs to."""

    id = PublicIdField(Tenant)
    name = serializers.CharField()
    slug = serializers.CharField()


class OwnKeySerializer(RowSerializer[ApiKey]):
    """The key that was sent."""

    id = PublicIdField(ApiKey)
    name = serializers.CharField()


class MeSerializer(RowSerializer[Principal]):
    """The caller."""

    kind = serializers.ChoiceField(PrincipalKind.choices)
    tenant = OwnTenantSerializer(allow_null=True)
    key = OwnKeySerializer()
    rights = RightsField(
        help_text="In force now: a member's own key does no more than the member's role may."
    )


class Me(ApiView):
    """`/me`."""

    resource = None

    @operation("read_me", tag="me", answer=MeSerializer)
    def get(self, _: Request) -> Response:
        """Whose key this is."""
        return Response(MeSerializer(self.principal).data)
