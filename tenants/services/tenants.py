"""Registering tenants and their people."""

import base64
from uuid import UUID

from django.conf import settings
from django.contrib.auth import get_user_model
from django.db import IntegrityError, transaction

from tenants import encryption
from tenants.errors import MembershipExists, TenantSlugTaken
from tenants.ids import uuid7
from tenants.models import Membership, Tenant
from tenants.services import audit
from tenants.states import Role, TenantState


def create_tenant(*, name: str, slug: str) -> Tenant:
    """A tenant with a data key of its own, wrapped by the master key. Raises TenantSlugTaken."""
    tenant_id = uuid7()
    wrapped = encryption.wrap(master_key(), encryption.new_data_key(), tenant_id=tenant_id)
    try:
        with transaction.atomic():
            tenant = Tenant.objects.create(id=tenant_id, name=name, slug=slug, wrapped_data_key=wrapped)
    except IntegrityError:
        raise TenantSlugTaken(slug=slug) from None
    audit.record(action="tenant.created", subject=tenant, after=audit.fields(tenant, "name", "slug", "state"))
    return tenant


def change_tenant(*, tenant: Tenant, name: str | None = None, state: TenantState | None = None) -> Tenant:
    """Rename the tenant, suspend it, or lift that; what is not given stays.

    From the next request on a suspended tenant's keys are refused, and no new round takes it in. Work that is under way
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


def master_key() -> bytes:
    """The platform's key-encryption key, 32 bytes from the environment."""
    return base64.b64decode(settings.MASTER_KEY.get_secret_value())


def add_member(*, tenant: Tenant, email: str, role: Role) -> Membership:
    """Give a person a role; one that is new gets an account without a password. Raises MembershipExists."""
    users = get_user_model()
    address = email.lower()
    user, _ = users.objects.get_or_create(username=address, defaults={"email": address})
    try:
        with transaction.atomic():
            membership = Membership.objects.create(tenant=tenant, user=user, role=role)
    except IntegrityError:
        raise MembershipExists(email=address, tenant_id=tenant.public_id) from None
    # Not whether the account is new: the tenant reads the entry, and would learn who has one elsewhere.
    audit.record(action="member.added", subject=membership, after={"email": address, "role": role})
    return membership


def remove_member(*, membership: Membership) -> None:
    """End a person's membership; the account stays."""
    before = {"email": membership.user.email, "role": membership.role}
    with transaction.atomic():
        audit.record(action="member.removed", subject=membership, before=before)
        membership.delete()
