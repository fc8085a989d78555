"""The environment variables of Prelude's processes on an embedded platform."""

import os
from pathlib import Path
from typing import Final

from deploy.embedded.ports import LOOPBACK
from deploy.embedded.postgres import LIBPQ
from deploy.embedded.servers import Servers

TEMPORARY: Final = "temporary"
DIRECTORIES: Final = {
    "PRELUDE_STORAGE_ROOT": "storage",
    "PRELUDE_BASE_MODELS_ROOT": "base_models",
    "PRELUDE_STATIC_ROOT": "static",
    "TMPDIR": TEMPORARY,
}


# What a person may say of an embedded platform. All else of these names is meant for another one, in production say.
OVERRIDABLE: Final = (
    "PRELUDE_LOG_LEVEL",
    "PRELUDE_OPERATOR_PASSWORD",
    "PRELUDE_TRAINING_DTYPE",
    "PRELUDE_TRAINING_THREADS",
)
_SETTINGS: Final = ("PRELUDE_", "DJANGO_", "CELERY_", "GUNICORN_", LIBPQ)
_URLS: Final = ("DATABASE_URL", "OWNER_DATABASE_URL", "BROKER_URL")


def inherited() -> dict[str, str]:
    """This process's environment without what would lead a process of this platform elsewhere."""
    return {
        name: value
        for name, value in os.environ.items()
        if name in OVERRIDABLE or not (name.startswith(_SETTINGS) or name in _URLS)
    }


def application_environment(servers: Servers, *, directory: Path, url: str) -> dict[str, str]:
    """What Prelude reads from the environment, for every process of the application."""
    return {
        "DJANGO_SETTINGS_MODULE": "deploy.settings",
        "DATABASE_URL": servers.database_url,
        "BROKER_URL": servers.broker_url,
        "PRELUDE_SECRET_KEY": servers.secrets.django_secret_key,
        "PRELUDE_MASTER_KEY": servers.secrets.master_key,
        "PRELUDE_KEY_PEPPER": servers.secrets.key_pepper,
        "PRELUDE_ALLOWED_HOSTS": f"{LOOPBACK},localhost",
        "PRELUDE_PUBLIC_URL": url,
        "PRELUDE_HTTPS_ONLY": "false",  # loopback only: the web process listens nowhere else
        "PRELUDE_REQUIRE_TOTP": "false",  # whoever reaches it can read the password's file as well
        **{variable: str(directory / name) for variable, name in DIRECTORIES.items()},
    }
