"""The demo's files: packages by digest, private keys, unpacked archives."""

import hashlib
import io
import stat
import zipfile
from pathlib import Path

import pytest

from deploy.demo.errors import PackageAltered, PackageOutOfReach
from deploy.demo.keys import Keys
from deploy.demo.packages import Package, obtain
from deploy.demo.paths import PROJECT, shown
from deploy.demo.results import unpack

PACKAGE = Package(
    requirement="some-package==1.0",
    file_name="some_package-1.0.zip",
    sha256=hashlib.sha256(b"content").hexdigest(),
)


def test_a_package_that_is_there_is_used_without_a_download(tmp_path: Path) -> None:
    (tmp_path / PACKAGE.file_name).write_bytes(b"content")

    assert obtain(PACKAGE, tmp_path) == tmp_path / PACKAGE.file_name


def test_a_package_with_another_digest_is_refused(tmp_path: Path) -> None:
    (tmp_path / PACKAGE.file_name).write_bytes(b"other")

    with pytest.raises(PackageAltered, match=PACKAGE.sha256):
        obtain(PACKAGE, tmp_path)


def test_a_package_out_of_reach_is_named_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path))

    with pytest.raises(
        PackageOutOfReach, match=r"(?s)some-package==1\.0.*No matching distribution"
    ) as refusal:
        obtain(PACKAGE, tmp_path / "packages")
    assert refusal.value.code == "package_out_of_reach"
    assert list((tmp_path / "packages").iterdir()) == []


def test_keys_come_back_from_a_file_that_only_its_owner_reads(tmp_path: Path) -> None:
    file = tmp_path / "demo" / "state.json"
    assert Keys.load(file) == Keys(file=file)
    keys = Keys(file=file, operator="prl_secret_1", tenants={"movies": "prl_secret_2"})
    keys.save()
    keys.save()

    assert Keys.load(file) == keys
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert "secret" not in repr(keys)
    assert [path.name for path in file.parent.iterdir()] == ["state.json"]


def test_an_archive_writes_only_into_its_directory(tmp_path: Path) -> None:
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as content:
        content.writestr("adapter_config.json", "{}")
        content.writestr("../../adapter_model.safetensors", b"tensor")

    file = unpack(archive.getvalue(), tmp_path / "versions" / "001")
    assert file.read_bytes() == b"tensor"
    assert sorted(path.name for path in tmp_path.rglob("*") if path.is_file()) == [
        "adapter_config.json",
        "adapter_model.safetensors",
    ]


def test_paths_are_shown_from_the_projects_root(tmp_path: Path) -> None:
    assert shown(PROJECT / "var" / "demo") == "var/demo"
    assert shown(tmp_path) == str(tmp_path.resolve())
