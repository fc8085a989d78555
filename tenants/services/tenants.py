"""Registering tenants and their people."""

from uuid import UUID

from django.contrib.auth.models import User
from django.db import IntegrityError, transaction

from tenants import encryption, scoping, selectors
from tenants.errors import LastOwner, MembershipExists, TenantSlugTaken
from tenants.ids import uuid7
from tenants.models import ApiKey, Membership, Tenant, TenantLimits
from tenants.rights import ROLE_RIGHTS, Right
from tenants.services import audit
from tenants.services.accounts import record_saved
from tenants.services.api_keys import revoke_api_key
from tenants.services.giving import require_held
from tenants.services.keys import master_key
from tenants.states import Role, TenantState


def create_tenant(*, name: str, slug: str) -> Tenant:
    """A tenant with a data key of its own, wrapped by the master key, and the usual limits. Raises TenantSlugTaken."""
    tenant_id = uuid7()
    wrapped = encryption.wrap(master_key(), encryption.new_data_key(), tenant_id=tenant_id)
    try:
        with transaction.atomic():
            tenant = Tenant.objects.create(id=tenant_id, name=name, slug=slug, wrapped_data_key=wrapped)
            TenantLimits.objects.create(tenant=tenant)
    except IntegrityError:
        raise TenantSlugTaken(slug=slug) from None
    audit.record(action="tenant.created", subject=tenant, after=audit.fields(tenant, "name", "slug", "state"))
    return tenant


def change_tenant(*, tenant: Tenant, name: str | None = None, state: TenantState | None = None) -> Tenant:
    """Rename the tenant, suspend it, or lift that; what is not given stays.

    No new round takes a suspended tenant in, and within a second its keys are refused. Work that is under way
    goes on to its end: it was sent while the tenant took part, and others' rounds count on it.
    """
    with transaction.atomic():
        tenant.lock()
        before = audit.fields(tenant, "name", "state")
        tenant.name, tenant.state = name or tenant.name, state or tenant.state
        tenant.save(update_fields=["name", "state"])
        audit.record(
            action="tenant.changed", subject=tenant, before=before, after=audit.fields(tenant, *before)
        )
    return tenant


def data_key(tenant: Tenant) -> bytes:
    """The tenant's key in the clear: for the stream that encrypts an upload and the worker that reads it."""
    return encryption.unwrap(master_key(), bytes(tenant.wrapped_data_key), tenant_id=UUID(str(tenant.id)))


def add_member(*, tenant: Tenant, email: str, role: Role, giver_rights: frozenset[Right]) -> Membership:
    """Give a person a role; one that is new gets an account without a password.

    Who has an account with the address keeps to it: a second one would end the person's sign-ins by OpenID, which go by
    an address that one account has. Where several have it already, the name decides.

    Raises MembershipExists, and RightNotHeld for a role that may do more than `giver_rights` allow.
    """
    require_held(ROLE_RIGHTS[role], by=giver_rights)
    address = email.lower()
    user = _account(address)
    try:
        with transaction.atomic():
            membership = Membership.objects.create(tenant=tenant, user=user, role=role)
    except IntegrityError:
        raise MembershipExists(email=address, tenant_id=tenant.public_id) from None
    audit.record(action="member.added", subject=membership, after={"email": address, "role": role})
    return membership


def _account(address: str) -> User:
    found = selectors.accounts_with(address)
    if len(found) == 1:
        return found[0]
    user, is_new = User.objects.get_or_create(username=address, defaults={"email": address})
    if is_new:
        with scoping.platform():  # not on the tenant's record: it would tell who has an account elsewhere
            record_saved(user, before=None)
    return user


def change_role(*, membership: Membership, role: Role, giver_rights: frozenset[Right]) -> Membership:
    """Give a member another role, which its keys feel within a second.

    Raises RightNotHeld, LastOwner, and NotFound where the member was removed meanwhile.
    """
    require_held(ROLE_RIGHTS[role], by=giver_rights)
    member = _locked(membership, stays_owner=role == Role.OWNER)
    before = audit.fields(member, "role")
    member.role = role
    member.save(update_fields=["role"])
    audit.record(action="member.changed", subject=member, before=before, after=audit.fields(member, "role"))
    return member


def remove_member(*, membership: Membership) -> None:
    """End a person's membership, and with it its keys; the account stays.

    Raises LastOwner, and NotFound where the member was removed meanwhile.
    """
    with transaction.atomic():
        member = _locked(membership, stays_owner=False)
        for key in ApiKey.objects.filter(membership=member):
            revoke_api_key(key=key)
        before = {"email": member.address, "role": member.role}
        audit.record(action="member.removed", subject=member, before=before)
        member.delete()


def _locked(membership: Membership, *, stays_owner: bool) -> Membership:
    """The member as it is now, under the tenant's lock: of two owners who leave at once, one has to stay.

    The tenant's comes before a member's wherever both are taken. Raises LastOwner, NotFound.
    """
    membership.tenant.lock()
    owners = Membership.objects.filter(tenant_id=membership.tenant_id, role=Role.OWNER)
    is_only_owner = [owner.pk for owner in owners] == [membership.pk]
    if is_only_owner and not stays_owner:
        raise LastOwner(member_id=membership.public_id, tenant_id=membership.tenant.public_id)
    held = Membership.objects.select_for_update(of=("self",)).select_related("user")
    return Membership.pick(held, membership.public_id)
