"""API keys: made, shown once, checked, revoked."""

import hashlib
import hmac
import secrets
from dataclasses import dataclass
from datetime import timedelta

from django.conf import settings
from django.db.models import Q
from django.db.models.functions import Now

from tenants.errors import ApiKeyInvalid, NotFound, TenantSuspended
from tenants.models import ApiKey, Tenant
from tenants.services import audit
from tenants.states import TenantState

SCHEME = "prl"
_LAST_USED_EVERY = timedelta(minutes=1)  # a write a request would be a hot row


@dataclass(frozen=True)
class NewApiKey:
    """A key at the only moment at which its text is known."""

    row: ApiKey
    text: str


def create_api_key(*, tenant: Tenant | None, name: str) -> NewApiKey:
    """A key for the tenant's programs, or an operator's key where `tenant` is None."""
    secret = secrets.token_urlsafe(32)
    row = ApiKey.objects.create(tenant=tenant, name=name, digest=_digest(secret))
    audit.record(action="api_key.created", subject=row, after=audit.fields(row, "name", "tenant"))
    return NewApiKey(row=row, text=f"{SCHEME}_{row.public_id.removeprefix('key_')}_{secret}")


def authenticate(text: str) -> ApiKey:
    """The key behind the text, its tenant loaded; for the platform's scope. Raises ApiKeyInvalid, TenantSuspended."""
    scheme, _, rest = text.partition("_")
    identifier, _, secret = rest.partition("_")
    if scheme != SCHEME or not secret:
        raise ApiKeyInvalid()
    try:
        key_id = ApiKey.key_from(f"key_{identifier}")
    except NotFound:
        raise ApiKeyInvalid() from None
    row = ApiKey.objects.select_related("tenant").filter(pk=key_id, revoked_at=None).first()
    if row is None or not hmac.compare_digest(bytes(row.digest), _digest(secret)):
        raise ApiKeyInvalid()
    if row.tenant is not None and row.tenant.state != TenantState.ACTIVE:
        raise TenantSuspended(tenant_id=row.tenant.public_id)
    _note_use(row)
    return row


def revoke_api_key(*, key: ApiKey) -> None:
    """End the key at once; revoking again changes nothing."""
    n_revoked = ApiKey.objects.filter(pk=key.pk, revoked_at=None).update(revoked_at=Now())
    key.refresh_from_db()
    if n_revoked:
        after = audit.fields(key, "revoked_at")
        audit.record(action="api_key.revoked", subject=key, before={"revoked_at": None}, after=after)


def _note_use(row: ApiKey) -> None:
    stale = Q(last_used_at=None) | Q(last_used_at__lt=Now() - _LAST_USED_EVERY)
    ApiKey.objects.filter(stale, pk=row.pk).update(last_used_at=Now())


def _digest(secret: str) -> bytes:
    pepper = settings.KEY_PEPPER.get_secret_value().encode()
    return hmac.new(pepper, secret.encode(), hashlib.sha256).digest()
