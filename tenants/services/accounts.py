"""The console's own accounts on record: Django's forms write them, so that each change is told to the record here.

Besides: who may enter the console, and the secrets of second factors, encrypted.
"""

import base64
import hashlib
from typing import Any

from django.contrib.auth.models import AbstractBaseUser, Group, User
from django.db.models import Model

from tenants import acting, encryption, scoping, selectors
from tenants.services import audit
from tenants.services.keys import master_key
from tenants.states import ActorKind

Account = User | Group
_FINGERPRINT_LENGTH = 16
_USER_FIELDS = ("username", "email", "first_name", "last_name", "is_active", "is_staff", "is_superuser")
_KIND = "console_user"
_SECOND_FACTORS = "console second factors v1"


def console_actor(
    user: User, *, session_key: str | None, rights: frozenset[str] = frozenset()
) -> acting.Actor:
    """A person at the console. The session is named by a digest: its key would open it."""
    kind = ActorKind.CONSOLE_USER if user.is_staff else ActorKind.MEMBER
    digest = hashlib.sha256((session_key or "").encode()).hexdigest()[:_FINGERPRINT_LENGTH]
    return acting.Actor(
        kind=kind,
        id=f"user_{user.pk}",
        name=user.get_username(),
        credential=f"session_{digest}" if session_key else "",
        rights=rights,
    )


def facts(account: Account) -> dict[str, object]:
    """Who may do what: an account's fields, groups and permissions, or a group's permissions."""
    if isinstance(account, Group):
        return {"name": account.name, "permissions": _names(account.permissions)}
    return {
        **audit.fields(account, *_USER_FIELDS),
        "groups": sorted(account.groups.values_list("name", flat=True)),
        "permissions": _names(account.user_permissions),
    }


def record_saved(account: Account, *, before: dict[str, object] | None) -> None:
    """An account or group was made (`before` is None) or changed."""
    action = f"{_word(account)}.{'created' if before is None else 'changed'}"
    audit.record(action=action, subject=account, before=before, after=facts(account))


def record_deleted(account: Account) -> None:
    """An account or group is about to be deleted, in this transaction."""
    audit.record(action=f"{_word(account)}.deleted", subject=account, before=facts(account))


def record_password_removed(user: AbstractBaseUser) -> None:
    """From now on no password opens the account."""
    audit.record(action=f"{_KIND}.password_removed", subject=user)


def record_signed_in(user: User, *, session_key: str | None) -> None:
    """Somebody has signed in; there is no scope yet in that request."""
    with acting.by(console_actor(user, session_key=session_key)), scoping.platform():
        audit.record(action=f"{_KIND}.signed_in", subject=user)


def record_signed_out(user: User, *, session_key: str | None) -> None:
    """Somebody has signed out."""
    with acting.by(console_actor(user, session_key=session_key)), scoping.platform():
        audit.record(action=f"{_KIND}.signed_out", subject=user)


def record_sign_in_failed(*, username: str, **facts: object) -> None:
    """A sign-in was refused. A name that is no account's is not kept: it may be a password in the wrong field."""
    _record_refused("sign_in_failed", username, facts)


def record_locked_out(*, username: str, limit: str, seconds: int) -> None:
    """One failure too many: from now on nothing opens, for the account or from the address, as `limit` says."""
    _record_refused("locked_out", username, {"limit": limit, "seconds": seconds})


def record_second_factor(user: User, *, change: str, session_key: str | None) -> None:
    """Somebody has changed how they sign in: `totp_added`, `totp_removed`, `recovery_codes_made`, `oidc_connected`."""
    with acting.by(console_actor(user, session_key=session_key)), scoping.platform():
        audit.record(action=f"{_KIND}.{change}", subject=user)


def record_sign_in_reset(user: User, *, changes: list[str]) -> None:
    """Somebody else has taken away what an account signs in with besides its password."""
    for change in changes:
        audit.record(action=f"{_KIND}.{change}", subject=user)


def may_enter(user: User) -> bool:
    """Whether the console has anything for the account: an active one of staff, or of an active tenant's member."""
    if not user.is_active or user.is_staff:
        return user.is_active
    with scoping.platform():
        return selectors.memberships_in_force(user_id=user.pk).exists()


def seal_second_factor(secret: str) -> str:
    """A TOTP secret or the seed of recovery codes, encrypted under a key that is derived from the master key."""
    sealed = encryption.seal(_second_factor_key(), secret.encode(), context=_SECOND_FACTORS)
    return base64.b64encode(sealed).decode()


def unseal_second_factor(sealed: str) -> str:
    """What `seal_second_factor` was given. Raises DecryptionFailed."""
    return encryption.unseal(_second_factor_key(), base64.b64decode(sealed), context=_SECOND_FACTORS).decode()


class PasswordsOnRecord:
    """A password validator that finds no fault: Django tells it of each password that was set, wherever that was."""

    def validate(self, password: str, user: AbstractBaseUser | None = None) -> None:
        """Everything will do here."""

    def get_help_text(self) -> str:
        """Nothing to heed."""
        return ""

    def password_changed(self, _password: str, user: AbstractBaseUser | None = None) -> None:
        """An account's password was set, in the transaction in force."""
        with scoping.platform():
            audit.record(action=f"{_KIND}.password_set", subject=user)


def _second_factor_key() -> bytes:
    return encryption.derive(master_key(), _SECOND_FACTORS)


def _record_refused(action: str, username: str, facts: dict[str, object]) -> None:
    with acting.by(acting.Actor(kind=ActorKind.ANONYMOUS)), scoping.platform():
        user = User.objects.filter(username=username).first()
        after = {"is_known": user is not None, **facts}
        audit.record(action=f"{_KIND}.{action}", subject=user, after=after, object_kind="user")


def _names(permissions: Any) -> list[str]:
    return sorted(
        f"{app}.{name}" for app, name in permissions.values_list("content_type__app_label", "codename")
    )


def _word(account: Model) -> str:
    return "console_group" if isinstance(account, Group) else _KIND
