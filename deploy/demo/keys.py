"""The demo's API keys and console login: shown once, kept for the next run in a private file."""

import json
import os
import secrets
import subprocess
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from http import HTTPStatus
from pathlib import Path
from typing import Any, Final

from deploy.demo.client import Api
from deploy.demo.errors import ApiRefused, CommandRefused
from deploy.embedded.layout import MANAGE, PROJECT

KEY_NAME: Final = "demo"


@dataclass
class Keys:
    """Secrets of the demo; no field appears in its repr. Every change is written at once."""

    file: Path
    operator: str = field(default="", repr=False)
    tenants: dict[str, str] = field(default_factory=dict, repr=False)
    console_login: str = ""
    console_password: str = field(default="", repr=False)

    @classmethod
    def load(cls, file: Path) -> "Keys":
        """Read what the last run kept; nothing at the first."""
        kept: dict[str, Any] = json.loads(file.read_text()) if file.exists() else {}
        return cls(file=file, **kept)

    def save(self) -> None:
        """Replace the file in one step; only its owner may read it."""
        self.file.parent.mkdir(parents=True, exist_ok=True)
        kept = {name: value for name, value in asdict(self).items() if name != "file"}
        draft = self.file.with_suffix(".draft")
        draft.unlink(missing_ok=True)
        with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as out:
            json.dump(kept, out, indent=2)
        draft.replace(self.file)


def is_accepted(platform_url: str, key: str) -> bool:
    """Whether the platform takes this key: after `make clean-var` of a part, an old one may be left."""
    if not key:
        return False
    with Api(platform_url, key) as api:
        try:
            api.get("/me")
        except ApiRefused as refusal:
            if refusal.status != HTTPStatus.UNAUTHORIZED:
                raise
            return False
    return True


def ensure_operator_key(keys: Keys, platform_url: str, environment: Mapping[str, str]) -> None:
    """See that there is an operator's key: the kept one, or a new one from the management command."""
    if not is_accepted(platform_url, keys.operator):
        printed = _manage("create_operator_key", "--name", KEY_NAME, environment=environment)
        keys.operator = printed.split()[-1]
        keys.console_login = keys.console_password = ""  # a platform that is new knows neither of them
        keys.save()


def tenant_key(keys: Keys, platform_url: str, operator: Api, *, slug: str, tenant_id: str) -> str:
    """Return a tenant's key: the kept one, or a new one that the operator makes."""
    if not is_accepted(platform_url, keys.tenants.get(slug, "")):
        keys.tenants[slug] = operator.post(f"/tenants/{tenant_id}/keys", {"name": KEY_NAME})["key"]
        keys.save()
    return keys.tenants[slug]


def ensure_console_login(keys: Keys, environment: Mapping[str, str]) -> None:
    """See that there is a person who can log in to the console."""
    if not keys.console_login:
        login = f"demo-{secrets.token_hex(2)}@prelude.example"
        keys.console_password = _manage("create_operator", "--email", login, environment=environment).strip()
        keys.console_login = login
        keys.save()


def _manage(command: str, *options: str, environment: Mapping[str, str]) -> str:
    """Run a management command and return what it printed."""
    done = subprocess.run(  # noqa: S603 - our own words
        [*MANAGE, command, *options],
        cwd=PROJECT,
        env=dict(environment),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        raise CommandRefused(command=command, exit_status=done.returncode, log=done.stderr[-2_000:])
    return done.stdout
