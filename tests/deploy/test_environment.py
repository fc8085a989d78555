"""What the environment says, well and badly."""

import base64
from typing import Any

import pytest
from pydantic import SecretStr, ValidationError

from deploy.settings.environment import Environment, database

KEY = base64.b64encode(b"k" * 32).decode()
SOUND = {
    "DATABASE_URL": "postgresql://app@localhost/prelude",
    "BROKER_URL": "redis://localhost/0",
    "PRELUDE_SECRET_KEY": "s" * 40,
    "PRELUDE_MASTER_KEY": KEY,
    "PRELUDE_KEY_PEPPER": "p" * 40,
    "PRELUDE_STORAGE_ROOT": "/srv/blobs",
    "PRELUDE_BASE_MODELS_ROOT": "/srv/base_models",
}


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Reads the sound environment with changes."""

    def with_changes(**changes: str) -> Environment:
        for name, value in {**SOUND, **changes}.items():
            monkeypatch.setenv(name, value)
        return Environment()

    for name in Environment.model_fields:
        monkeypatch.delenv(f"PRELUDE_{name.upper()}", raising=False)
    return with_changes


def test_what_is_empty_is_not_there(read: Any) -> None:
    """A path that is empty would be the directory in which the process runs, and published where it is for files."""
    assert read(PRELUDE_STATIC_ROOT="").static_root is None
    for name in ("PRELUDE_STORAGE_ROOT", "PRELUDE_BASE_MODELS_ROOT", "BROKER_URL", "PRELUDE_MASTER_KEY"):
        with pytest.raises(ValidationError):
            read(**{name: ""})


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("PRELUDE_MASTER_KEY", "dGVsbHRhbGU="),
        ("PRELUDE_SECRET_KEY", "telltale"),
        ("PRELUDE_KEY_PEPPER", "telltale"),
        ("PRELUDE_BASE_MODELS_ROOT", ""),  # of a missing one pydantic would quote all others
        ("PRELUDE_LOG_LEVEL", "telltale"),
    ],
)
def test_what_is_malformed_is_named_and_not_quoted(read: Any, name: str, value: str) -> None:
    with pytest.raises(ValidationError) as refusal:
        read(**{name: value})
    told = str(refusal.value)
    assert name.removeprefix("PRELUDE_").lower() in told
    for secret in ("telltale", "dGVsbHRhbGU", KEY, "ssss", "pppp"):
        assert secret not in told


def test_a_key_may_end_with_a_line_break_and_a_level_be_in_small_letters(read: Any) -> None:
    found = read(PRELUDE_MASTER_KEY=f"{KEY}\n", PRELUDE_LOG_LEVEL="warning")
    assert found.master_key.get_secret_value() == KEY
    assert found.log_level == "WARNING"


@pytest.mark.parametrize("bucket", ["", "blobs"])
def test_blobs_have_one_place(read: Any, bucket: str) -> None:
    root = "/srv/blobs" if bucket else ""
    with pytest.raises(
        ValidationError, match="exactly one of PRELUDE_STORAGE_ROOT and PRELUDE_STORAGE_BUCKET"
    ):
        read(PRELUDE_STORAGE_ROOT=root, PRELUDE_STORAGE_BUCKET=bucket)


def test_the_databases_url_keeps_what_it_says_of_the_connection() -> None:
    """Dropped, an encrypted connection would silently be a plain one."""
    url = "postgresql://app:p%40ss@db.example:6432/prelude?sslmode=verify-full&sslrootcert=/etc/ca.pem"
    found = database(SecretStr(url))
    assert (found["USER"], found["PASSWORD"], found["PORT"]) == ("app", "p@ss", "6432")
    assert found["OPTIONS"] == {
        "connect_timeout": 5,
        "sslmode": "verify-full",
        "sslrootcert": "/etc/ca.pem",
    }
