"""A pytest plugin that is loaded before Django's settings: starts PostgreSQL and Valkey and tells the environment.

Every process of a session that runs tests has servers of its own, so that no two share a database.
"""

import base64
import os
import secrets
import shutil
import tempfile
from pathlib import Path

import pytest

from tests import openid
from tests.servers import start_servers

DIRECTORY = Path(tempfile.mkdtemp(prefix="prl"))
# What the environment of one of pytest-xdist's processes names are the servers of the process that started it.
SERVERS = start_servers(DIRECTORY / "s", named="PYTEST_XDIST_WORKER" not in os.environ)

os.environ.update(
    DATABASE_URL=SERVERS.database_url,
    OWNER_DATABASE_URL=SERVERS.owner_database_url,
    BROKER_URL=SERVERS.broker_url,
    PRELUDE_SECRET_KEY=secrets.token_urlsafe(48),
    PRELUDE_KEY_PEPPER=secrets.token_urlsafe(48),
    PRELUDE_MASTER_KEY=base64.b64encode(secrets.token_bytes(32)).decode(),
    PRELUDE_STORAGE_ROOT=str(DIRECTORY / "storage"),
    PRELUDE_BASE_MODELS_ROOT=str(DIRECTORY / "base-models"),
    PRELUDE_ALLOWED_HOSTS="testserver,127.0.0.1,localhost",
    PRELUDE_HTTPS_ONLY="false",
    PRELUDE_REQUIRE_TOTP="false",
    **openid.ENVIRONMENT,
    DJANGO_SETTINGS_MODULE="deploy.settings",
    HF_HUB_OFFLINE="1",
    OMP_NUM_THREADS="1",
)


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Keep tests of real processes in one process: two platforms at a time would be too much for two cores."""
    for item in items:
        if item.get_closest_marker("processes"):
            item.add_marker(pytest.mark.xdist_group("processes"))


def pytest_unconfigure() -> None:
    """Stop the servers, let their ports go and forget their data."""
    SERVERS.stop()
    openid.PORTS.close()
    shutil.rmtree(DIRECTORY, ignore_errors=True)
