"""Which kind of caller may use an operation. Which objects it may use there, visibility decides before."""

from rest_framework.permissions import BasePermission, IsAuthenticated
from rest_framework.request import Request
from rest_framework.views import APIView

from api.authentication import Principal


class Anyone(IsAuthenticated):
    """Every holder of a key."""


class OperatorOnly(BasePermission):
    """Holders of an operator's key."""

    message = "This operation needs an operator's key."
    code = "operator_only"

    def has_permission(self, request: Request, _view: APIView) -> bool:
        """Whether the caller is one."""
        return isinstance(request.auth, Principal) and request.auth.is_operator


class TenantOnly(BasePermission):
    """Holders of a tenant's key."""

    message = "This operation needs a tenant's key."
    code = "tenant_only"

    def has_permission(self, request: Request, _view: APIView) -> bool:
        """Whether the caller is one."""
        return isinstance(request.auth, Principal) and not request.auth.is_operator
