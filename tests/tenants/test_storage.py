"""Blobs: whole or absent, checked by digest, private to the process's user."""

import hashlib
import io
import os
import stat
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from django.core.files.base import ContentFile, File
from pytest_django import Settings

from tenants import storage
from tenants.storage import AtomicFileSystemStorage, BlobCorrupt, BlobMissing, BlobTooLarge


@pytest.fixture(autouse=True)
def blobs(tmp_path: Path, settings: Settings) -> Path:
    """An empty storage of blobs in a directory of this test."""
    root = tmp_path / "blobs"
    backend = {"BACKEND": "tenants.storage.AtomicFileSystemStorage", "OPTIONS": {"location": str(root)}}
    settings.STORAGES = {**settings.STORAGES, "blobs": backend}
    return root


def files_in(root: Path) -> list[Path]:
    """All files below `root`, hidden ones too."""
    return sorted(path for path in root.rglob("*") if path.is_file())


def test_put_returns_the_digest_under_which_get_finds_the_bytes(blobs: Path) -> None:
    data = b"a prefix" * 1000
    sha256 = storage.put(data)

    assert sha256 == hashlib.sha256(data).hexdigest()
    assert storage.get(sha256, max_bytes=len(data)) == data
    assert [path.name for path in files_in(blobs)] == [sha256]


def test_putting_the_same_bytes_again_keeps_one_blob_and_heals_damage(blobs: Path) -> None:
    sha256 = storage.put(b"same")
    files_in(blobs)[0].write_bytes(b"rotten")

    assert storage.put(b"same") == sha256
    assert storage.get(sha256, max_bytes=10) == b"same"
    assert len(files_in(blobs)) == 1


def test_a_damaged_blob_is_refused(blobs: Path) -> None:
    sha256 = storage.put(b"good")
    files_in(blobs)[0].write_bytes(b"goof")

    with pytest.raises(BlobCorrupt, match=hashlib.sha256(b"goof").hexdigest()) as refusal:
        storage.get(sha256, max_bytes=10)
    assert refusal.value.code == "blob_corrupt"


def test_a_blob_over_the_readers_limit_is_refused() -> None:
    sha256 = storage.put(b"12345")

    assert storage.get(sha256, max_bytes=5) == b"12345"
    with pytest.raises(BlobTooLarge, match="more than 4 bytes"):
        storage.get(sha256, max_bytes=4)


@pytest.mark.parametrize(
    "sha256", ["0" * 64, "", "abc", "../" * 20 + "etc/passwd", "A" * 64, "0" * 64 + "\n"]
)
def test_a_digest_that_nothing_has_is_missing(sha256: str) -> None:
    with pytest.raises(BlobMissing) as refusal:
        storage.get(sha256, max_bytes=10)
    assert refusal.value.code == "blob_missing"


def test_files_get_random_names_and_come_back_whole(blobs: Path) -> None:
    content = os.urandom(200_000)
    source = io.BytesIO(content)
    source.seek(77)
    names = {storage.put_file(source), storage.put_file(source)}

    assert len(names) == 2
    for name in names:
        with storage.open_blob(name) as blob:
            assert blob.read() == content
            assert blob.seek(100) == 100
        assert hashlib.sha256(content).hexdigest() not in name


def test_deleting_twice_leaves_nothing_and_raises_nothing(blobs: Path) -> None:
    name = storage.put_file(io.BytesIO(b"text"))
    storage.delete(name)
    storage.delete(name)

    assert files_in(blobs) == []
    with pytest.raises(BlobMissing, match=name):
        storage.open_blob(name)


def test_files_and_directories_are_private(blobs: Path) -> None:
    storage.put(b"secret")
    previous = os.umask(0)
    try:
        storage.put_file(io.BytesIO(b"secret"))
    finally:
        os.umask(previous)

    modes = {stat.S_IMODE(path.stat().st_mode) for path in files_in(blobs)}
    directory_modes = {
        stat.S_IMODE(path.stat().st_mode) for path in [blobs, *blobs.rglob("*")] if path.is_dir()
    }
    assert (modes, directory_modes) == ({0o600}, {0o700})


def test_a_source_that_breaks_leaves_the_old_file_and_no_other(tmp_path: Path) -> None:
    class Breaking(io.BytesIO):
        def read(self, size: int | None = -1, /) -> bytes:
            if self.tell():
                raise OSError("the upload broke")
            return super().read(4)

    target = AtomicFileSystemStorage(tmp_path)
    target.save("a/b", ContentFile(b"old"))
    with pytest.raises(OSError, match="the upload broke"):
        target.save("a/b", File(Breaking(b"half of it")))

    assert [path.read_bytes() for path in files_in(tmp_path)] == [b"old"]


def test_a_killed_process_leaves_no_half_blob_under_a_final_name(tmp_path: Path) -> None:
    script = """
import os, signal, sys
from django.conf import settings
settings.configure()
from django.core.files.base import ContentFile, File
from tenants.storage import AtomicFileSystemStorage

class Killing(ContentFile):
    def chunks(self, chunk_size=None):
        yield b"x" * 1_000_000
        os.kill(os.getpid(), signal.SIGKILL)

AtomicFileSystemStorage(sys.argv[1]).save("final", Killing(b""))
"""
    ended = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path)], cwd=Path(__file__).parents[2], check=False
    )

    assert ended.returncode == -9
    assert not (tmp_path / "final").exists()
    assert all(path.suffix == ".part" for path in files_in(tmp_path))


def test_a_backend_that_renames_is_refused(tmp_path: Path, settings: Settings) -> None:
    backend = {
        "BACKEND": "django.core.files.storage.FileSystemStorage",
        "OPTIONS": {"location": str(tmp_path / "renaming")},
    }
    settings.STORAGES = {**settings.STORAGES, "blobs": backend}
    storage.put(b"same")

    with pytest.raises(RuntimeError, match="must keep names and overwrite"):
        storage.put(b"same")
    assert len(files_in(tmp_path)) == 1


def test_a_name_outside_the_storage_is_refused(tmp_path: Path) -> None:
    target = AtomicFileSystemStorage(tmp_path / "inside")
    with pytest.raises(Exception, match=r"outside|traversal"):
        target.save("../outside", ContentFile(b"x"))
    assert files_in(tmp_path) == []


def test_a_local_file_is_put_under_its_digest_as_its_bytes_would_be(blobs: Path, tmp_path: Path) -> None:
    content = os.urandom(3 * 2**20 + 5)
    path = tmp_path / "candidate"
    path.write_bytes(content)

    stored = storage.put_path(path)
    assert (stored.sha256, stored.size_bytes) == (hashlib.sha256(content).hexdigest(), len(content))
    assert storage.get(stored.sha256, max_bytes=len(content)) == content
    assert storage.put(content) == stored.sha256
    assert len(files_in(blobs)) == 1


def test_a_blob_among_local_files_is_staged_where_it_lies(blobs: Path, tmp_path: Path) -> None:
    sha256 = storage.put(b"an update")
    directory = tmp_path / "staged"
    directory.mkdir()

    assert storage.stage(sha256, directory, max_bytes=9) == files_in(blobs)[0]
    assert files_in(directory) == []


def test_a_blob_elsewhere_is_copied_where_it_is_staged(
    blobs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def elsewhere(*_: object) -> str:
        raise NotImplementedError

    sha256 = storage.put(b"an update")
    blob = files_in(blobs)[0]
    stored = {sha256: blob.open("rb")}
    monkeypatch.setattr(AtomicFileSystemStorage, "open", lambda _, name, mode: stored[Path(name).name])
    monkeypatch.setattr(AtomicFileSystemStorage, "path", elsewhere)

    staged = storage.stage(sha256, tmp_path, max_bytes=9)
    assert staged == tmp_path / sha256
    assert staged.read_bytes() == b"an update"


def test_what_is_staged_is_checked_as_what_is_got(blobs: Path, tmp_path: Path) -> None:
    sha256 = storage.put(b"12345")
    with pytest.raises(BlobTooLarge):
        storage.stage(sha256, tmp_path, max_bytes=4)
    with pytest.raises(BlobMissing):
        storage.stage("0" * 64, tmp_path, max_bytes=4)
    files_in(blobs)[0].write_bytes(b"1234x")
    with pytest.raises(BlobCorrupt):
        storage.stage(sha256, tmp_path, max_bytes=5)


def test_what_was_checked_is_not_read_again_until_it_is_written(
    blobs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    digested: list[str] = []
    file_digest = hashlib.file_digest

    def note_and_digest(file: Any, name: str) -> Any:
        digested.append(name)
        return file_digest(file, name)

    sha256 = storage.put(b"an update")
    monkeypatch.setattr("tenants.storage.hashlib.file_digest", note_and_digest)
    storage.stage(sha256, tmp_path, max_bytes=9)  # so new that it might still be written unseen
    digested.clear()
    time.sleep(0.05)
    for _ in range(3):
        file = storage.stage(sha256, tmp_path, max_bytes=9)
    assert len(digested) == 1
    with pytest.raises(BlobTooLarge):
        storage.stage(sha256, tmp_path, max_bytes=8)

    times = file.stat()
    with file.open("r+b") as content:
        content.write(b"AN")
    os.utime(file, ns=(times.st_atime_ns, times.st_mtime_ns))  # as if nothing had been written
    with pytest.raises(BlobCorrupt):
        storage.stage(sha256, tmp_path, max_bytes=9)
    storage.put(b"an update")
    storage.stage(sha256, tmp_path, max_bytes=9)
    assert len(digested) == 3
