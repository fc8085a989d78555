"""What a role opens in the console: the words of Django's permissions that pages ask for, as rights."""

from collections.abc import Mapping
from typing import Final

from django.contrib.auth.models import AbstractBaseUser, AnonymousUser, User
from django.core.exceptions import PermissionDenied
from django.db.models import Model
from django.http import HttpRequest

from deploy import console_membership
from tenants.rights import OPERATOR_RIGHTS, ROLE_RIGHTS, Action, Resource, Right, right
from tenants.states import Role

_READ: Final = {
    "tenants.view_apikey": Resource.KEYS,
    "tenants.view_auditentry": Resource.AUDIT,
    "tenants.view_dataset": Resource.DATASETS,
    "tenants.view_membership": Resource.MEMBERS,
    "tenants.view_tenant": Resource.TENANTS,
    "tenants.view_tenantlimits": Resource.LIMITS,
    "federation.view_basemodel": Resource.BASE_MODELS,
    "federation.view_campaign": Resource.ROUNDS,
    "federation.view_enrolment": Resource.ENROLMENTS,
    "federation.view_evaluation": Resource.ROUNDS,
    "federation.view_federatedround": Resource.ROUNDS,
    "federation.view_federation": Resource.FEDERATIONS,
    "federation.view_localrun": Resource.ROUNDS,
    "federation.view_personalprefix": Resource.ENROLMENTS,
    "federation.view_prefixversion": Resource.PREFIX_VERSIONS,
    "federation.view_schedule": Resource.SCHEDULES,
    "federation.view_webhookdelivery": Resource.WEBHOOKS,
    "federation.view_webhookendpoint": Resource.WEBHOOKS,
}
_WRITE: Final = {
    "tenants.add_apikey": Resource.KEYS,
    "tenants.change_apikey": Resource.KEYS,
    "tenants.add_membership": Resource.MEMBERS,
    "tenants.delete_membership": Resource.MEMBERS,
    "federation.change_enrolment": Resource.ENROLMENTS,
    "federation.add_personalprefix": Resource.ENROLMENTS,
    "federation.delete_personalprefix": Resource.ENROLMENTS,
    "federation.add_webhookendpoint": Resource.WEBHOOKS,
    "federation.change_webhookendpoint": Resource.WEBHOOKS,
    "federation.delete_webhookendpoint": Resource.WEBHOOKS,
    "federation.change_webhookdelivery": Resource.WEBHOOKS,
}
MEMBER_RIGHTS: Final[Mapping[str, Right]] = {
    **{word: right(resource, Action.READ) for word, resource in _READ.items()},
    **{word: right(resource, Action.WRITE) for word, resource in _WRITE.items()},
}
"""A word that is missing is for the platform's own people alone: to invite, to start, to cancel, to roll back, …"""


def rights_of_staff(user: User) -> frozenset[Right]:
    """What an account of staff may hand on to a key or a member: everything, or what its permissions open in full."""
    if user.is_superuser:
        return OPERATOR_RIGHTS
    lacking = {needed for word, needed in MEMBER_RIGHTS.items() if not user.has_perm(word)}
    return frozenset(MEMBER_RIGHTS.values()) - lacking


class MemberRights:
    """Django asks the authentication backends in their order: this one is the first, and its answer about a member is
    final, whatever groups and permissions the account has besides. It signs nobody in.
    """

    def authenticate(self, request: HttpRequest | None, **credentials: object) -> None:
        """Nobody."""

    def has_perm(self, user: AbstractBaseUser | AnonymousUser, word: str, _row: Model | None = None) -> bool:
        """Whether the role in force holds the right behind the word. Raises PermissionDenied where it does not."""
        role = _role(user)
        return role is not None and _require(MEMBER_RIGHTS.get(word) in ROLE_RIGHTS[role])

    def has_module_perms(self, user: AbstractBaseUser | AnonymousUser, app: str) -> bool:
        """Whether the role opens any page of the app. Raises PermissionDenied where it does not."""
        role = _role(user)
        return role is not None and _require(
            any(
                needed in ROLE_RIGHTS[role]
                for word, needed in MEMBER_RIGHTS.items()
                if word.startswith(f"{app}.")
            )
        )


def _role(user: AbstractBaseUser | AnonymousUser) -> Role | None:
    """The role of a member that has entered; None leaves the answer to the other backends."""
    entry = console_membership.in_force()
    return Role(entry.membership.role) if entry and entry.membership.user_id == user.pk else None


def _require(is_allowed: bool) -> bool:
    if not is_allowed:
        raise PermissionDenied
    return True
