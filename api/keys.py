"""API keys of a tenant, which operators make and revoke. A key's text is shown once, in the answer that made it."""

from typing import ClassVar

from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from api.fields import Body, PublicIdField
from api.idempotency import idempotent
from api.permissions import OperatorOnly
from api.schema import operation, paged
from api.tenants import TenantView
from tenants import selectors
from tenants.models import ApiKey
from tenants.services.api_keys import NewApiKey, create_api_key, revoke_api_key


class NewKeySerializer(Body):
    """A key to be made."""

    name = serializers.CharField(max_length=200)


class KeySerializer(serializers.Serializer[ApiKey]):
    """A key, without its text."""

    id = PublicIdField(ApiKey)
    name = serializers.CharField()
    created_at = serializers.DateTimeField()
    last_used_at = serializers.DateTimeField(allow_null=True, help_text="To the minute.")
    revoked_at = serializers.DateTimeField(allow_null=True)


class ShownKeySerializer(serializers.Serializer[NewApiKey]):
    """A key at the only moment at which its text is known."""

    id = PublicIdField(ApiKey, source="row.id")
    name = serializers.CharField(source="row.name")
    key = serializers.CharField(source="text", help_text="The bearer token. It is not shown again.")
    created_at = serializers.DateTimeField(source="row.created_at")


class Keys(TenantView):
    """`/tenants/{id}/keys`."""

    only: ClassVar = {"GET": OperatorOnly, "POST": OperatorOnly}

    @paged("list_keys", tag="keys", rows=KeySerializer)
    def get(self, _: Request) -> Response:
        """List a tenant's keys, revoked ones too."""
        return self.page(selectors.api_keys(tenant=self.tenant), KeySerializer)

    @operation("create_key", tag="keys", body=NewKeySerializer, answer=ShownKeySerializer, status=201)
    @idempotent
    def post(self, _: Request) -> Response:
        """Make a key and show its text, this once."""
        key = create_api_key(tenant=self.tenant, **self.body(NewKeySerializer))
        key.row.refresh_from_db()
        return Response(ShownKeySerializer(key).data, 201, headers={"Cache-Control": "no-store"})


class OneKey(TenantView):
    """`/tenants/{id}/keys/{key}`."""

    only: ClassVar = {"DELETE": OperatorOnly}
    key: ApiKey

    def load(self, tenant_id: str, key_id: str) -> None:  # type: ignore[override]
        """Among the keys of a tenant that the caller sees."""
        super().load(tenant_id)
        self.key = ApiKey.pick(selectors.api_keys(tenant=self.tenant), key_id)

    @operation("revoke_key", tag="keys", status=204)
    def delete(self, _: Request) -> Response:
        """Revoke a key at once; revoking it again changes nothing."""
        revoke_api_key(key=self.key)
        return Response(status=204)
