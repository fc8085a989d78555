"""Tenants: an operator makes and reads them, a tenant reads itself."""

from typing import Any, ClassVar

from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from api.fields import Body, PublicIdField
from api.idempotency import idempotent
from api.permissions import OperatorOnly
from api.preconditions import conditional
from api.rows import RowSerializer
from api.schema import operation, paged
from api.views import ApiView
from tenants import selectors
from tenants.lookups import pick
from tenants.models import Tenant
from tenants.rights import Resource
from tenants.services.tenants import change_tenant, create_tenant
from tenants.states import TenantState


class NewTenantSerializer(Body):
    """A tenant to be made."""

    name = serializers.CharField(max_length=200)
    slug = serializers.RegexField(
        "^[a-z0-9]([a-z0-9-]*[a-z0-9])?$", max_length=63, help_text="Small letters, digits and hyphens."
    )


class TenantChangeSerializer(Body):
    """What a tenant is to be from now on."""

    name = serializers.CharField(max_length=200)
    state = serializers.ChoiceField(
        TenantState.choices, help_text="A suspended tenant's keys are refused, and new rounds leave it out."
    )


class TenantSerializer(RowSerializer[Tenant]):
    """A tenant."""

    id = PublicIdField(Tenant)
    name = serializers.CharField()
    slug = serializers.CharField()
    state = serializers.ChoiceField(TenantState.choices)
    created_at = serializers.DateTimeField()


class TenantView(ApiView):
    """The base of views below `/tenants/{id}`."""

    tenant: Tenant

    def load(self, tenant_id: str) -> None:  # type: ignore[override]
        """A tenant finds itself, an operator all."""
        self.tenant = pick(selectors.tenants, tenant_id)


class Tenants(ApiView):
    """`/tenants`."""

    resource = Resource.TENANTS
    only: ClassVar = {"POST": OperatorOnly}

    @paged("list_tenants", tag="tenants", rows=TenantSerializer)
    def get(self, _: Request) -> Response:
        """List tenants, the newest first; a tenant sees itself."""
        return self.page(selectors.tenants(), TenantSerializer)

    @operation("create_tenant", tag="tenants", body=NewTenantSerializer, answer=TenantSerializer, status=201)
    @idempotent
    def post(self, _: Request) -> Response:
        """Make a tenant with a data key of its own."""
        tenant = create_tenant(**self.body(NewTenantSerializer))
        return self.made(TenantSerializer, tenant)


class OneTenant(TenantView):
    """`/tenants/{id}`."""

    resource = Resource.TENANTS
    only: ClassVar = {"PUT": OperatorOnly}

    def hold(self) -> None:
        """The tenant's row."""
        self.tenant.lock()

    def representation(self) -> Any:
        """The tenant."""
        return TenantSerializer(self.tenant).data

    @operation("read_tenant", tag="tenants", answer=TenantSerializer)
    @conditional
    def get(self, _: Request) -> Response:
        """Read a tenant."""
        return Response(self.representation())

    @operation("change_tenant", tag="tenants", body=TenantChangeSerializer, answer=TenantSerializer)
    @conditional
    def put(self, _: Request) -> Response:
        """Rename a tenant, suspend it, or lift that; its slug stays."""
        change_tenant(tenant=self.tenant, **self.body(TenantChangeSerializer))
        return Response(self.representation())
