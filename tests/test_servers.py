"""The servers that a test session is given."""

from pathlib import Path

import pytest

from tests.servers import start_servers


def test_a_database_of_which_the_roles_are_not_named_is_refused(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("DATABASE_URL", "postgresql://somebody@127.0.0.1:1/else")
    monkeypatch.delenv("SUPERUSER_DATABASE_URL", raising=False)
    with pytest.raises(pytest.UsageError, match="Unset it"):
        start_servers(tmp_path)
    assert list(tmp_path.iterdir()) == []
