"""The secrets of an embedded platform: made once, kept in a file that only its owner can read."""

import base64
import json
import secrets
from dataclasses import asdict, dataclass, field
from pathlib import Path

from deploy.embedded.errors import PlatformSecretsBroken, PlatformSecretsExposed, PlatformSecretsMissing
from deploy.embedded.private import write_private


def token() -> str:
    """256 random bits, safe in URLs."""
    return secrets.token_urlsafe(32)


def encryption_key() -> str:
    """256 random bits in base64, as the settings take a master key."""
    return base64.b64encode(secrets.token_bytes(32)).decode()


@dataclass(frozen=True, kw_only=True)
class PlatformSecrets:
    """Everything that must stay the same as long as the data does. No field appears in its repr."""

    master_key: str = field(default_factory=encryption_key, repr=False)
    key_pepper: str = field(default_factory=encryption_key, repr=False)
    django_secret_key: str = field(default_factory=token, repr=False)
    superuser_password: str = field(default_factory=token, repr=False)
    owner_password: str = field(default_factory=token, repr=False)
    app_password: str = field(default_factory=token, repr=False)
    broker_password: str = field(default_factory=token, repr=False)


def load_or_create(path: Path, *, data: Path | None = None) -> PlatformSecrets:
    """Read the secrets, or make them at the first start: not for `data` that others were made for.

    Raises: PlatformSecretsExposed, PlatformSecretsBroken, PlatformSecretsMissing.
    """
    if not path.exists():
        if data is not None and data.exists():
            raise PlatformSecretsMissing(path=path, data=data)
        write_private(path, json.dumps(asdict(PlatformSecrets()), indent=2))
    mode = path.stat().st_mode & 0o777
    if mode & 0o077:
        raise PlatformSecretsExposed(path=path, mode=mode)
    try:
        return PlatformSecrets(**json.loads(path.read_text()))
    except (ValueError, TypeError) as problem:
        raise PlatformSecretsBroken(
            path=path, problem=f"it is not the JSON object expected ({problem})"
        ) from problem
