"""Who calls: the holder of an API key, which is a tenant's or an operator's."""

from dataclasses import dataclass
from typing import ClassVar

from django.db import models
from rest_framework.authentication import BaseAuthentication
from rest_framework.request import Request

from tenants import acting
from tenants.models import ApiKey, Tenant
from tenants.rights import Right
from tenants.services import api_keys
from tenants.states import ActorKind


class PrincipalKind(models.TextChoices):
    """Whose key it is."""

    OPERATOR = "operator"
    TENANT = "tenant"


@dataclass(frozen=True)
class Principal:
    """The caller of a request."""

    key: ApiKey
    tenant: Tenant | None
    is_authenticated: ClassVar[bool] = True  # what REST framework asks of a user

    @property
    def is_operator(self) -> bool:
        """Whether the key is an operator's: it belongs to no tenant."""
        return self.tenant is None

    @property
    def kind(self) -> PrincipalKind:
        """The same in a word."""
        return PrincipalKind.OPERATOR if self.is_operator else PrincipalKind.TENANT

    @property
    def rights(self) -> frozenset[Right]:
        """What the caller may do, as the key and its member's role are at this request."""
        return self.key.rights_in_force

    @property
    def actor(self) -> str:
        """How records name the caller."""
        return f"key {self.key.public_id}"

    def acting(self) -> acting.Actor:
        """The caller in the audit record."""
        kind = ActorKind.OPERATOR_KEY if self.is_operator else ActorKind.TENANT_KEY
        key_id = self.key.public_id
        return acting.Actor(kind=kind, id=key_id, name=self.key.name, credential=key_id)


class ApiKeyAuthentication(BaseAuthentication):
    """`Authorization: Bearer prl_…`."""

    def authenticate(self, request: Request) -> tuple[Principal, Principal] | None:
        """The caller, or None without a bearer token. Raises ApiKeyInvalid, AddressNotAllowed, TenantSuspended."""
        scheme, _, text = request.headers.get("Authorization", "").partition(" ")
        if scheme.lower() != "bearer":
            return None
        key = api_keys.authenticate(text.strip())
        principal = Principal(key=key, tenant=key.tenant)
        return principal, principal

    def authenticate_header(self, _: Request) -> str:
        """The challenge of a 401."""
        return "Bearer"
