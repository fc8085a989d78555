"""API keys of a tenant: its owner and operators make, rotate and revoke them. A text is shown once, when it is made."""

from typing import Any

from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from api.fields import Body, PublicIdField, RightsField
from api.idempotency import idempotent
from api.rows import RowSerializer
from api.schema import operation, paged
from api.tenants import TenantView
from tenants import selectors
from tenants.models import ApiKey, Membership
from tenants.rights import Resource
from tenants.services.api_keys import (
    LONGEST_OVERLAP,
    NewApiKey,
    create_api_key,
    revoke_api_key,
    rotate_api_key,
)

_OVERLAP_SECONDS = 3_600
_LONGEST_OVERLAP_SECONDS = int(LONGEST_OVERLAP.total_seconds())
_MAX_NETWORKS = 50


class NewKeySerializer(Body):
    """A key to be made. What it may do is no more than its maker may."""

    name = serializers.CharField(max_length=200)
    rights = RightsField(
        required=False, min_length=1, help_text="An engineer's if left out, or those of the member's role."
    )
    expires_at = serializers.DateTimeField(required=False, allow_null=True)
    allowed_networks = serializers.ListField(
        child=serializers.CharField(max_length=64),
        required=False,
        max_length=_MAX_NETWORKS,
        help_text="Addresses or CIDR blocks from which it is accepted; from anywhere if there are none.",
    )
    member = PublicIdField(
        Membership,
        required=False,
        help_text="Whose own key it is: it never does more than this member's role, and ends with the membership.",
    )


class RotationSerializer(Body):
    """How a key is to be replaced."""

    overlap_seconds = serializers.IntegerField(
        default=_OVERLAP_SECONDS,
        min_value=0,
        max_value=_LONGEST_OVERLAP_SECONDS,
        help_text="How long the old key is still accepted, unless it expires earlier.",
    )


class KeySerializer(RowSerializer[ApiKey]):
    """A key, without its text."""

    id = PublicIdField(ApiKey)
    name = serializers.CharField()
    rights = RightsField()
    member = PublicIdField(Membership, source="membership_id", allow_null=True)
    allowed_networks = serializers.ListField(child=serializers.CharField())
    created_at = serializers.DateTimeField()
    last_used_at = serializers.DateTimeField(allow_null=True, help_text="To the minute.")
    expires_at = serializers.DateTimeField(allow_null=True)
    rotated_at = serializers.DateTimeField(allow_null=True, help_text="When it got a successor.")
    revoked_at = serializers.DateTimeField(allow_null=True)


class ShownKeySerializer(RowSerializer[NewApiKey]):
    """A key at the only moment at which its text is known."""

    id = PublicIdField(ApiKey, source="row.id")
    name = serializers.CharField(source="row.name")
    key = serializers.CharField(source="text", help_text="The bearer token. It is not shown again.")
    rights = RightsField(source="row.rights")
    member = PublicIdField(Membership, source="row.membership_id", allow_null=True)
    allowed_networks = serializers.ListField(child=serializers.CharField(), source="row.allowed_networks")
    created_at = serializers.DateTimeField(source="row.created_at")
    expires_at = serializers.DateTimeField(source="row.expires_at", allow_null=True)


class Keys(TenantView):
    """`/tenants/{id}/keys`."""

    resource = Resource.KEYS

    @paged("list_keys", tag="keys", rows=KeySerializer)
    def get(self, _: Request) -> Response:
        """List a tenant's keys, those that have ended too."""
        return self.page(selectors.api_keys(tenant=self.tenant), KeySerializer)

    @operation("create_key", tag="keys", body=NewKeySerializer, answer=ShownKeySerializer, status=201)
    @idempotent
    def post(self, _: Request) -> Response:
        """Make a key and show its text, this once."""
        terms = self.body(NewKeySerializer)
        new = create_api_key(
            tenant=self.tenant,
            membership=self._member(terms),
            giver_rights=self.principal.rights,
            **terms,
        )
        return _shown(new)

    def _member(self, terms: dict[str, Any]) -> Membership | None:
        """Take the member out of a body, if one is named. Raises NotFound."""
        member_id = terms.pop("member", None)
        return member_id and Membership.pick(selectors.members(tenant=self.tenant), member_id)


class KeyView(TenantView):
    """The base of views below `/tenants/{id}/keys/{key}`."""

    key: ApiKey

    def load(self, tenant_id: str, key_id: str) -> None:  # type: ignore[override]
        """Among the keys of a tenant that the caller sees."""
        super().load(tenant_id)
        self.key = ApiKey.pick(selectors.api_keys(tenant=self.tenant), key_id)


class OneKey(KeyView):
    """`/tenants/{id}/keys/{key}`."""

    resource = Resource.KEYS

    @operation("revoke_key", tag="keys", status=204)
    def delete(self, _: Request) -> Response:
        """Revoke a key: it opens nothing within a second; revoking it again changes nothing."""
        revoke_api_key(key=self.key)
        return Response(status=204)


class KeyRotation(KeyView):
    """`/tenants/{id}/keys/{key}/rotate`."""

    resource = Resource.KEYS

    @operation("rotate_key", tag="keys", body=RotationSerializer, answer=ShownKeySerializer, status=201)
    @idempotent
    def post(self, _: Request) -> Response:
        """Make a key that is as good, show its text this once, and let the old one end after the overlap."""
        asked = self.body(RotationSerializer)
        return _shown(rotate_api_key(key=self.key, giver_rights=self.principal.rights, **asked))


def _shown(new: NewApiKey) -> Response:
    new.row.refresh_from_db()
    return Response(ShownKeySerializer(new).data, 201, headers={"Cache-Control": "no-store"})
