"""Blobs over Django's storage API: files by default, S3 through django-storages in production.

Two kinds share `STORAGES["blobs"]`: content-addressed blobs (prefix versions and updates; their name is their
SHA-256, so a second `put` of the same bytes is harmless) and tenants' encrypted files, under random names
that tell nothing.

A name opens nothing by itself: no path of the web serves one, and whoever reads takes it from a row that the scope in
force let it read. Whoever can name a content-addressed blob has its bytes already. No two tenants share one that is
theirs: an update names its tenant, round and attempt within, or is refused. Blobs of this kind are never deleted.
"""

import hashlib
import os
import re
import secrets
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, ClassVar

from django.core.files.base import ContentFile, File
from django.core.files.storage import FileSystemStorage, Storage, storages
from django.utils.deconstruct import deconstructible

from tenants.errors import PreludeError

_SHA256 = re.compile(r"[0-9a-f]{64}")
_CHUNK_BYTES = 2**20
_N_VERIFIED = 4_096
_TICK_NS = 20_000_000  # twice as long as the coarsest clock of a file system's times
# Files whose bytes were compared with their digest, as they were then.
_verified: dict[Path, tuple[int, ...]] = {}


@dataclass(frozen=True)
class Stored:
    """A content-addressed blob: its digest and its size."""

    sha256: str
    size_bytes: int


class BlobMissing(PreludeError):
    """The storage holds nothing under this name."""

    code: ClassVar[str] = "blob_missing"

    def __init__(self, *, name: str) -> None:
        super().__init__(f"The storage has no blob {name!r}.")


class BlobCorrupt(PreludeError):
    """The bytes held under a digest are not the bytes that were put there."""

    code: ClassVar[str] = "blob_corrupt"

    def __init__(self, *, sha256: str, found_sha256: str) -> None:
        super().__init__(f"The blob {sha256} is damaged: its bytes have the digest {found_sha256}.")


class BlobTooLarge(PreludeError):
    """A blob is larger than its reader allows; nothing past the limit was read."""

    code: ClassVar[str] = "blob_too_large"

    def __init__(self, *, sha256: str, max_bytes: int) -> None:
        super().__init__(f"The blob {sha256} has more than {max_bytes} bytes, the most that is read here.")


def put(data: bytes) -> str:
    """Store bytes under their SHA-256 and return it. Putting them again changes nothing, or heals damage."""
    sha256 = hashlib.sha256(data).hexdigest()
    _save(_content_name(sha256), ContentFile(data))
    return sha256


def put_path(path: Path) -> Stored:
    """Store a local file under its SHA-256, never in memory as a whole. Putting it again changes nothing."""
    with path.open("rb") as file:
        sha256 = hashlib.file_digest(file, "sha256").hexdigest()
        size_bytes = file.tell()
        file.seek(0)
        _save(_content_name(sha256), File(file))
    return Stored(sha256, size_bytes)


def get(sha256: str, *, max_bytes: int) -> bytes:
    """Return the bytes with this digest.

    Raises:
        BlobMissing: nothing has this digest.
        BlobTooLarge: there are more than `max_bytes`.
        BlobCorrupt: what is held under the digest has another one.
    """
    return b"".join(get_chunks(sha256, max_bytes=max_bytes))


def get_chunks(sha256: str, *, max_bytes: int) -> Iterator[bytes]:
    """The same in chunks: whoever uses them waits for the end, where damage shows. Raises as `get` does."""
    if not _SHA256.fullmatch(sha256):
        raise BlobMissing(name=sha256)
    digest, n_bytes = hashlib.sha256(), 0
    with open_blob(_content_name(sha256)) as blob:
        while chunk := blob.read(min(_CHUNK_BYTES, max_bytes + 1 - n_bytes)):
            n_bytes += len(chunk)
            if n_bytes > max_bytes:
                raise BlobTooLarge(sha256=sha256, max_bytes=max_bytes)
            digest.update(chunk)
            yield chunk
    if digest.hexdigest() != sha256:
        raise BlobCorrupt(sha256=sha256, found_sha256=digest.hexdigest())


def stage(sha256: str, directory: Path, *, max_bytes: int) -> Path:
    """A local file with the bytes of this digest, for reading: the storage's own where it has one, else a copy.

    The copy is in `directory`, which the caller removes. Raises as `get` does. A file of the storage's own whose bytes
    this process has compared with their digest is not read again until it is written.
    """
    if not _SHA256.fullmatch(sha256):
        raise BlobMissing(name=sha256)
    own = _own_path(sha256)
    if own is not None:
        _verify(own, sha256, max_bytes)
        return own
    copy = directory / sha256
    with copy.open("wb") as file:
        file.writelines(get_chunks(sha256, max_bytes=max_bytes))
    return copy


def _verify(path: Path, sha256: str, max_bytes: int) -> None:
    with open_blob(_content_name(sha256)) as blob:
        found = os.stat(blob.fileno())
        if found.st_size > max_bytes:
            raise BlobTooLarge(sha256=sha256, max_bytes=max_bytes)
        written = (found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns)
        if _verified.get(path) == written:
            return
        found_sha256 = hashlib.file_digest(blob, "sha256").hexdigest()  # type: ignore[arg-type]  # a binary file
    if found_sha256 != sha256:
        raise BlobCorrupt(sha256=sha256, found_sha256=found_sha256)
    if time.time_ns() - found.st_ctime_ns < _TICK_NS:
        return  # another write might bear the same time
    if len(_verified) >= _N_VERIFIED:
        _verified.clear()
    _verified[path] = written


def _own_path(sha256: str) -> Path | None:
    try:
        return Path(_storage().path(_content_name(sha256)))
    except NotImplementedError:  # Django's word for a storage that has no local files
        return None


def put_file(ciphertext: IO[bytes]) -> str:
    """Store an encrypted file, read from its start, under a random name and return the name."""
    token = secrets.token_hex(32)
    name = f"encrypted/{token[:2]}/{token}"
    _save(name, File(ciphertext))
    return name


def open_blob(name: str) -> IO[bytes]:
    """Open a blob for reading; the result is seekable, and the caller closes it.

    Raises:
        BlobMissing: there is no such blob.
    """
    try:
        return _storage().open(name, "rb")
    except FileNotFoundError:
        raise BlobMissing(name=name) from None


def delete(name: str) -> None:
    """Remove a blob; one that is gone already is no error, so that a repeated task ends well."""
    _storage().delete(name)


def _storage() -> Storage:
    return storages["blobs"]


def _content_name(sha256: str) -> str:
    return f"content/{sha256[:2]}/{sha256}"


# `File` is generic for the type checker only: hence the quotes here and below.
def _save(name: str, content: "File[bytes]") -> None:
    stored_name = _storage().save(name, content)
    if stored_name != name:
        _storage().delete(stored_name)
        raise RuntimeError(
            f"STORAGES['blobs'] stored {name!r} as {stored_name!r}; it must keep names and overwrite"
        )


@deconstructible(path="tenants.storage.AtomicFileSystemStorage")
class AtomicFileSystemStorage(FileSystemStorage):
    """Files that are there whole or not at all, readable by this process's user only.

    A file is written beside its place, forced to the disk, and renamed: after a crash there may be a stray
    `.part`, never half a blob under a final name. Saving under a name that exists replaces the file.
    """

    def __init__(self, location: str | os.PathLike[str] | None = None) -> None:
        super().__init__(location=location, allow_overwrite=True)

    def _save(self, name: str, content: "File[bytes]") -> str:
        path = Path(self.path(name))
        _make_private_directories(path.parent)
        # mkstemp makes the file with mode 0600.
        descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=".", suffix=".part")
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.writelines(content.chunks())
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, path)
        except BaseException:
            Path(temporary).unlink(missing_ok=True)
            raise
        _force_to_disk(path.parent)
        return name


def _make_private_directories(directory: Path) -> None:
    """Make a directory and its missing parents with mode 0700, each on the disk before it is filled."""
    if directory.is_dir():
        return
    _make_private_directories(directory.parent)
    directory.mkdir(mode=0o700, exist_ok=True)
    _force_to_disk(directory.parent)


def _force_to_disk(directory: Path) -> None:
    """Make the names in a directory outlast a power cut, as the files themselves do."""
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
