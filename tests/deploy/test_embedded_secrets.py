"""The file of secrets: private, stable, and refused when it is not."""

import base64
from pathlib import Path

import pytest

from deploy.embedded.errors import PlatformSecretsBroken, PlatformSecretsExposed, PlatformSecretsMissing
from deploy.embedded.secrets import load_or_create


def test_secrets_are_made_once_and_only_their_owner_can_read_them(tmp_path: Path) -> None:
    path = tmp_path / "secrets.json"
    first = load_or_create(path)
    assert path.stat().st_mode & 0o777 == 0o600
    assert load_or_create(path) == first
    assert [entry.name for entry in tmp_path.iterdir()] == ["secrets.json"]


def test_every_secret_is_its_own_and_long(tmp_path: Path) -> None:
    values = list(vars(load_or_create(tmp_path / "one.json")).values())
    others = list(vars(load_or_create(tmp_path / "other.json")).values())
    assert len({*values, *others}) == 2 * len(values)
    assert min(map(len, values)) >= 32


def test_the_master_key_is_32_bytes(tmp_path: Path) -> None:
    key = load_or_create(tmp_path / "secrets.json").master_key
    assert len(base64.b64decode(key, validate=True)) == 32


def test_no_secret_shows_in_a_repr(tmp_path: Path) -> None:
    secrets = load_or_create(tmp_path / "secrets.json")
    assert not any(value in repr(secrets) for value in vars(secrets).values())


def test_a_file_that_others_can_read_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "secrets.json"
    load_or_create(path)
    path.chmod(0o640)
    with pytest.raises(PlatformSecretsExposed, match=r"mode 0640; .* chmod 600"):
        load_or_create(path)


@pytest.mark.parametrize("text", ["", "[]", '{"master_key": "x"', '{"unknown": "x"}'])
def test_a_broken_file_is_refused_and_left_as_it_is(tmp_path: Path, text: str) -> None:
    path = tmp_path / "secrets.json"
    path.touch(mode=0o600)
    path.write_text(text)
    with pytest.raises(PlatformSecretsBroken, match="restore the file"):
        load_or_create(path)
    assert path.read_text() == text


def test_data_whose_secrets_are_gone_is_not_given_new_ones(tmp_path: Path) -> None:
    path, data = tmp_path / "secrets.json", tmp_path / "postgres"
    first = load_or_create(path, data=data)
    data.mkdir()
    assert load_or_create(path, data=data) == first
    path.unlink()
    with pytest.raises(PlatformSecretsMissing, match=str(data)):
        load_or_create(path, data=data)
    assert not path.exists()
