"""A tenant's people, whom its owner and operators add, change and remove."""

from typing import Any

from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from api.fields import Body, PublicIdField
from api.idempotency import idempotent
from api.preconditions import conditional
from api.rows import RowSerializer
from api.schema import operation, paged
from api.tenants import TenantView
from tenants import selectors
from tenants.models import Membership
from tenants.rights import Resource
from tenants.services.tenants import add_member, change_role, remove_member
from tenants.states import Role


class NewMemberSerializer(Body):
    """A person to be added."""

    email = serializers.EmailField(max_length=150)
    role = serializers.ChoiceField(Role.choices)


class RoleSerializer(Body):
    """What a member is to be."""

    role = serializers.ChoiceField(Role.choices)


class MemberSerializer(RowSerializer[Membership]):
    """A person's role within the tenant."""

    id = PublicIdField(Membership)
    email = serializers.CharField(source="address")
    role = serializers.ChoiceField(Role.choices)
    created_at = serializers.DateTimeField()


class Members(TenantView):
    """`/tenants/{id}/members`."""

    resource = Resource.MEMBERS

    @paged("list_members", tag="members", rows=MemberSerializer)
    def get(self, _: Request) -> Response:
        """List a tenant's people."""
        return self.page(selectors.members(tenant=self.tenant), MemberSerializer)

    @operation("add_member", tag="members", body=NewMemberSerializer, answer=MemberSerializer, status=201)
    @idempotent
    def post(self, _: Request) -> Response:
        """Give a person a role; one that is new gets an account."""
        asked = self.body(NewMemberSerializer)
        member = add_member(tenant=self.tenant, giver_rights=self.principal.rights, **asked)
        return self.made(MemberSerializer, member)


class OneMember(TenantView):
    """`/tenants/{id}/members/{member}`."""

    resource = Resource.MEMBERS
    membership: Membership

    def load(self, tenant_id: str, member_id: str) -> None:  # type: ignore[override]
        """Among the members of a tenant that the caller sees."""
        super().load(tenant_id)
        self.membership = Membership.pick(selectors.members(tenant=self.tenant), member_id)

    def hold(self) -> None:
        """The membership's row, and the tenant's before it: whoever changes or removes a member takes both so."""
        self.tenant.lock()
        self.membership.lock()

    def representation(self) -> Any:
        """The membership."""
        return MemberSerializer(self.membership).data

    @operation("read_member", tag="members", answer=MemberSerializer)
    @conditional
    def get(self, _: Request) -> Response:
        """Read a membership."""
        return Response(self.representation())

    @operation("change_member", tag="members", body=RoleSerializer, answer=MemberSerializer)
    @conditional
    def put(self, _: Request) -> Response:
        """Give a member another role. A tenant's only owner stays one."""
        role = self.body(RoleSerializer)["role"]
        self.membership = change_role(
            membership=self.membership, role=role, giver_rights=self.principal.rights
        )
        return Response(self.representation())

    @operation("remove_member", tag="members", status=204)
    @conditional
    def delete(self, _: Request) -> Response:
        """End a membership and the member's own keys; the account stays. A tenant's only owner stays."""
        remove_member(membership=self.membership)
        return Response(status=204)
