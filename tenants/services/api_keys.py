"""API keys: made, shown once, checked, rotated, revoked."""

import hashlib
import hmac
import secrets
from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime, timedelta
from ipaddress import ip_address, ip_network
from typing import Final
from uuid import UUID

from django.conf import settings
from django.db.models import Q
from django.db.models.functions import Now
from django.utils import timezone

from tenants import acting, scoping
from tenants.errors import (
    AddressNotAllowed,
    ApiKeyEnded,
    ApiKeyInvalid,
    ExpiryInPast,
    NetworkInvalid,
    NotFound,
    RightOutOfReach,
    TenantSuspended,
)
from tenants.models import ApiKey, Membership, Tenant, TenantLimits
from tenants.rights import OPERATOR_RIGHTS, ROLE_RIGHTS, Right
from tenants.services import audit
from tenants.services.giving import require_held
from tenants.services.open_keys import OPEN_KEYS, Values
from tenants.services.request_counts import KEY_USE_EVERY, REQUESTS
from tenants.states import Role, TenantState

SCHEME = "prl"
LONGEST_OVERLAP: Final = timedelta(days=30)
_LAST_USED_EVERY = timedelta(minutes=1)  # a write a request would be a hot row
# The columns of `tenants_open_api_key`, by what they are of.
_KEY: Final = (
    *("id", "tenant_id", "name", "digest", "membership_id", "rights", "allowed_networks", "expires_at"),
    *("created_at", "rotated_at", "revoked_at", "last_used_at"),
)
_TENANT: Final = ("id", "name", "slug", "state", "wrapped_data_key", "created_at")
_LIMITS: Final = ("tenant_id", "requests_per_minute")
_MEMBERSHIP: Final = ("id", "tenant_id", "user_id", "role")
_ON_RECORD = ("name", "tenant", "membership", "rights", "expires_at", "allowed_networks")


@dataclass(frozen=True)
class NewApiKey:
    """A key at the only moment at which its text is known."""

    row: ApiKey
    text: str


def create_api_key(
    *,
    tenant: Tenant | None,
    name: str,
    giver_rights: frozenset[Right],
    rights: Collection[Right] | None = None,
    expires_at: datetime | None = None,
    allowed_networks: Collection[str] = (),
    membership: Membership | None = None,
) -> NewApiKey:
    """A key for the tenant's programs, for one of its members, or an operator's key where `tenant` is None.

    Without `rights` it gets an engineer's, the member's role's, or an operator's. Raises RightNotHeld for what
    `giver_rights` lack, RightOutOfReach, ExpiryInPast, NetworkInvalid, and NotFound where the member was removed
    meanwhile.
    """
    if membership is not None:
        membership.lock()
    given = _default_rights(tenant, membership) if rights is None else frozenset(rights)
    require_held(given, by=giver_rights)
    if tenant is not None and (beyond := given - ROLE_RIGHTS[Role.OWNER]):
        raise RightOutOfReach(rights=sorted(beyond))
    if expires_at is not None and expires_at <= timezone.now():
        raise ExpiryInPast(expires_at=expires_at.isoformat())
    key = ApiKey(
        tenant=tenant,
        name=name,
        membership=membership,
        rights=sorted(given),
        expires_at=expires_at,
        allowed_networks=[_network(text) for text in allowed_networks],
    )
    made = _issued(key)
    audit.record(action="api_key.created", subject=key, after=audit.fields(key, *_ON_RECORD))
    return made


def authenticate(text: str) -> ApiKey:
    """The key behind the text, its tenant, request limit and membership loaded; in any scope or none.

    They are as the database told within the last second (`open_keys`); expiry and address count as of now.
    Raises ApiKeyInvalid, AddressNotAllowed, TenantSuspended.
    """
    scheme, _, rest = text.partition("_")
    identifier, _, secret = rest.partition("_")
    if scheme != SCHEME or not secret:
        raise ApiKeyInvalid()
    try:
        key_id = ApiKey.key_from(f"key_{identifier}")
    except NotFound:
        raise ApiKeyInvalid() from None
    asked_at, remembered = OPEN_KEYS.clock(), OPEN_KEYS.recall(key_id)
    values = remembered or _find(key_id)
    if values is None:
        raise ApiKeyInvalid()
    row = _with_what_it_opens(values)
    if not hmac.compare_digest(bytes(row.digest), _digest(secret)) or _has_expired(row):
        raise ApiKeyInvalid()
    _require_address(row)
    if row.tenant is not None and row.tenant.state != TenantState.ACTIVE:
        raise TenantSuspended(tenant_id=row.tenant.public_id)
    if remembered is None:
        OPEN_KEYS.keep(key_id, values, asked_at=asked_at)
    if not _is_use_noted(row):
        REQUESTS.note_use(key_id)
    return row


def rotate_api_key(*, key: ApiKey, overlap_seconds: int, giver_rights: frozenset[Right]) -> NewApiKey:
    """A successor that is as good as the key, which itself ends after the overlap, or earlier where it expires.

    Raises ApiKeyEnded, RightNotHeld (else rotating would give what could not be made), and NotFound where the key's
    member was removed meanwhile.
    """
    if key.membership is not None:
        key.membership.lock()  # before the key, as who removes a member locks them
    now = timezone.now()
    held = ApiKey.objects.select_for_update()  # of two at once, one finds it rotated
    old = held.filter(_is_open(), pk=key.pk, rotated_at=None).first()
    if old is None:
        raise ApiKeyEnded(key_id=key.public_id)
    require_held(frozenset(old.rights), by=giver_rights)
    before = audit.fields(old, "expires_at", "rotated_at")
    made = _issued(
        ApiKey(
            tenant_id=old.tenant_id,
            name=old.name,
            membership_id=old.membership_id,
            rights=old.rights,
            expires_at=old.expires_at,
            allowed_networks=old.allowed_networks,
        )
    )
    overlap_end = now + timedelta(seconds=overlap_seconds)
    old.rotated_at, old.expires_at = now, min(old.expires_at or overlap_end, overlap_end)
    old.save(update_fields=["rotated_at", "expires_at"])
    after = audit.fields(old, "expires_at", "rotated_at") | {"successor": made.row}
    audit.record(action="api_key.rotated", subject=old, before=before, after=after)
    return made


def revoke_api_key(*, key: ApiKey) -> None:
    """End the key, which all processes know within a second; revoking again changes nothing."""
    n_revoked = ApiKey.objects.filter(pk=key.pk, revoked_at=None).update(revoked_at=Now())
    key.refresh_from_db()
    if n_revoked:
        after = audit.fields(key, "revoked_at")
        audit.record(action="api_key.revoked", subject=key, before={"revoked_at": None}, after=after)


def _default_rights(tenant: Tenant | None, membership: Membership | None) -> frozenset[Right]:
    if tenant is None:
        return OPERATOR_RIGHTS
    return ROLE_RIGHTS[Role(membership.role) if membership else Role.ENGINEER]


def _issued(key: ApiKey) -> NewApiKey:
    """Save the key with a secret of its own."""
    secret = secrets.token_urlsafe(32)
    key.digest = _digest(secret)
    key.save(force_insert=True)
    return NewApiKey(row=key, text=f"{SCHEME}_{key.public_id.removeprefix('key_')}_{secret}")


def _is_open() -> Q:
    return Q(revoked_at=None) & (Q(expires_at=None) | Q(expires_at__gt=Now()))


def _network(text: str) -> str:
    if "%" in text:  # a zone (RFC 4007) names an interface of this machine's, and is any text
        raise NetworkInvalid(network=text)
    try:
        return str(ip_network(text.strip()))
    except ValueError:
        raise NetworkInvalid(network=text) from None


def _require_address(key: ApiKey) -> None:
    if not key.allowed_networks:
        return
    address = acting.origin().address
    if not address or not any(ip_address(address) in ip_network(text) for text in key.allowed_networks):
        raise AddressNotAllowed(key_id=key.public_id, address=address)


def _has_expired(row: ApiKey) -> bool:
    return row.expires_at is not None and row.expires_at <= timezone.now()


def _is_use_noted(row: ApiKey) -> bool:
    return row.last_used_at is not None and timezone.now() - row.last_used_at < KEY_USE_EVERY


def _find(key_id: UUID) -> Values | None:
    """The key, if it is open, with what each request asks of it: one statement whose plan the database keeps."""
    found = scoping.ask_platform("SELECT * FROM tenants_open_api_key(%s)", [key_id])
    return found[0] if found else None


def _with_what_it_opens(values: Values) -> ApiKey:
    """Rows of the request's own: what it changes of them, no other request sees."""
    n_own = len(_KEY)
    key = ApiKey.from_db("default", _KEY, values[:n_own])
    *of_tenant, requests_per_minute, user_id, role = values[n_own:]
    if key.tenant_id is not None:
        key.tenant = Tenant.from_db("default", _TENANT, [key.tenant_id, *of_tenant])
        limited = [key.tenant_id, requests_per_minute]
        key.tenant.limits = TenantLimits.from_db("default", _LIMITS, limited)
    if key.membership_id is not None:
        member = [key.membership_id, key.tenant_id, user_id, role]
        key.membership = Membership.from_db("default", _MEMBERSHIP, member)
    return key


def _digest(secret: str) -> bytes:
    pepper = settings.KEY_PEPPER.get_secret_value().encode()
    return hmac.new(pepper, secret.encode(), hashlib.sha256).digest()
