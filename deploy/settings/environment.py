"""What the environment must and may say, typed. A missing or malformed value stops the process with its name.

An empty one counts as missing: templates write it for what nobody has set. No error quotes a value: some are secret.
"""

import base64
import binascii
import hashlib
from pathlib import Path
from typing import Annotated, Literal, Self
from urllib.parse import parse_qsl, unquote, urlsplit

from pydantic import Field, IPvAnyNetwork, SecretStr, field_validator, model_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict


class Environment(BaseSettings):
    """One field a variable. Secrets have no defaults."""

    model_config = SettingsConfigDict(
        env_prefix="PRELUDE_", extra="ignore", env_ignore_empty=True, hide_input_in_errors=True
    )

    database_url: SecretStr = Field(validation_alias="DATABASE_URL", description="The application's role.")
    owner_database_url: SecretStr | None = Field(None, validation_alias="OWNER_DATABASE_URL")
    broker_url: SecretStr = Field(validation_alias="BROKER_URL")
    secret_key: SecretStr = Field(min_length=32)
    master_key: SecretStr = Field(description="32 bytes in base64: wraps the tenants' data keys.")
    key_pepper: SecretStr = Field(min_length=32, description="Keys the digests of API keys.")
    storage_root: Path | None = None
    storage_bucket: str | None = None
    storage_endpoint_url: str | None = None
    base_models_root: Path
    static_root: Path | None = None
    allowed_hosts: str = ""
    public_url: str = ""
    trusted_proxies: Annotated[tuple[IPvAnyNetwork, ...], NoDecode] = ()
    https_only: bool = True
    debug: bool = False
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"] = "INFO"
    max_dataset_bytes: int = Field(8 * 2**30, gt=0)
    lease_seconds: float = Field(30, gt=0)
    beat_seconds: float = Field(5, gt=0)
    stall_seconds: float = Field(600, gt=0)
    resend_seconds: float = Field(30, gt=0)
    reconcile_seconds: float = Field(5, gt=0)
    max_attempts: int = Field(3, ge=1)
    require_totp: bool = Field(True, description="Of staff that signs in to the console.")
    oidc_issuer: str = ""
    oidc_client_id: str = ""
    oidc_client_secret: SecretStr = SecretStr("")
    oidc_name: str = Field("OpenID Connect", description="What the button for it says.")
    oidc_trusted_for_mfa: bool = False
    sign_in_failures_per_account: int = Field(5, ge=1)
    sign_in_failures_per_address: int = Field(20, ge=1)
    sign_in_lock_seconds: int = Field(300, ge=1)
    session_idle_seconds: int = Field(3_600, ge=1)
    session_lifetime_seconds: int = Field(12 * 3_600, ge=1)
    event_stream_seconds: float = Field(300, ge=0)
    max_event_streams: int = Field(4, ge=0, description="Of one web process; each holds one of its threads.")
    webhook_private_networks: Annotated[tuple[IPvAnyNetwork, ...], NoDecode] = Field(
        (), description="Reached by webhooks although not public."
    )
    webhook_allow_http: bool = False
    fail_points: Path | None = Field(None, description="For the fault loops alone: see tenants.failpoints.")

    @field_validator("master_key")
    @classmethod
    def _is_32_bytes(cls, value: SecretStr) -> SecretStr:
        text = value.get_secret_value().strip()  # a file of a secret often ends with a line break
        try:
            key = base64.b64decode(text, validate=True)
        except binascii.Error:
            key = b""
        if len(key) != 32:
            raise ValueError("must be 32 bytes in base64")
        return SecretStr(text)

    @field_validator("log_level", mode="before")
    @classmethod
    def _in_capitals(cls, value: str) -> str:
        return value.upper()

    @field_validator("trusted_proxies", "webhook_private_networks", mode="before")
    @classmethod
    def _by_commas(cls, value: str | tuple[str, ...]) -> list[str]:
        networks = value.split(",") if isinstance(value, str) else value
        return [network.strip() for network in networks if network.strip()]

    @model_validator(mode="after")
    def _has_one_storage(self) -> Self:
        if (self.storage_root is None) == (not self.storage_bucket):
            raise ValueError(
                "set exactly one of PRELUDE_STORAGE_ROOT and PRELUDE_STORAGE_BUCKET: blobs need one place"
            )
        return self

    @property
    def oidc_provider_id(self) -> str:
        """The issuer's: its subjects are its own, and after a change of issuer none stands for somebody else's."""
        return f"oidc-{hashlib.sha256(self.oidc_issuer.encode()).hexdigest()[:16]}"


def database(url: SecretStr) -> dict[str, object]:
    """Django's description of a postgresql:// URL; what follows its `?` are the connection's parameters, as libpq's."""
    parts = urlsplit(url.get_secret_value())
    if parts.scheme not in ("postgresql", "postgres"):
        raise ValueError("the database's URL must begin with postgresql://")
    return {
        "ENGINE": "django.db.backends.postgresql",
        "NAME": unquote(parts.path.removeprefix("/")),
        "USER": unquote(parts.username or ""),
        "PASSWORD": unquote(parts.password or ""),
        "HOST": parts.hostname or "",
        "PORT": str(parts.port or ""),
        "CONN_MAX_AGE": 60,
        "CONN_HEALTH_CHECKS": True,
        "DISABLE_SERVER_SIDE_CURSORS": True,  # a pooler in transaction mode has no cursors across transactions
        "OPTIONS": {"connect_timeout": 5, **dict(parse_qsl(parts.query))},
    }


def openid_connect(environment: Environment) -> dict[str, object]:
    """allauth's description of the OpenID provider; of none where the environment names none."""
    if not environment.oidc_issuer:
        return {}
    app = {
        "provider_id": environment.oidc_provider_id,
        "name": environment.oidc_name,
        "client_id": environment.oidc_client_id,
        "secret": environment.oidc_client_secret.get_secret_value(),
        "settings": {"server_url": environment.oidc_issuer.rstrip("/")},
    }
    return {"openid_connect": {"APPS": [app], "OAUTH_PKCE_ENABLED": True}}
