"""Envelope encryption of what a tenant uploads: a data key per tenant, wrapped by the platform's master key.

Streams follow the STREAM construction (Hoang, Reyhanitabar, Rogaway, Vizár 2015): chunks of 64 KiB under
AES-256-GCM, whose nonce is a random prefix, the chunk's number and a flag on the last chunk. So a chunk that
is changed, moved, dropped or taken from another stream does not decrypt, and a stream that was cut short has
no last chunk. Each stream has a key of its own, derived from the tenant's data key and a random salt, so that
nonces never meet under one key.

    header = "PRLS" | version (1 byte) | salt (32) | nonce prefix (7)
    body   = chunk 0 | chunk 1 | … , each ciphertext | tag (16)
"""

import io
import os
import secrets
from types import TracebackType
from typing import IO, ClassVar, Self
from uuid import UUID

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from tenants.errors import PreludeError

KEY_BYTES = 32
CHUNK_BYTES = 64 * 1024

_TAG_BYTES = 16
_SEALED_CHUNK_BYTES = CHUNK_BYTES + _TAG_BYTES
_MAX_CHUNKS = 2**32
_NONCE_BYTES = 12
_WRAP_VERSION = b"\x01"
_WRAP_PURPOSE = b"prelude tenant data key v1|"
_STREAM_MAGIC = b"PRLS\x01"
_STREAM_PURPOSE = b"prelude tenant stream v1"
_SALT_BYTES = 32
_PREFIX_BYTES = 7
_HEADER_BYTES = len(_STREAM_MAGIC) + _SALT_BYTES + _PREFIX_BYTES


class DecryptionFailed(PreludeError):
    """Ciphertext is damaged, cut short, or of another key, another tenant or another context."""

    code: ClassVar[str] = "decryption_failed"

    def __init__(self, *, subject: str, reason: str) -> None:
        super().__init__(f"{subject} could not be decrypted: {reason}.")


def new_data_key() -> bytes:
    """Make a tenant's data key: 32 random bytes."""
    return AESGCM.generate_key(bit_length=8 * KEY_BYTES)


def wrap(master_key: bytes, data_key: bytes, *, tenant_id: UUID) -> bytes:
    """Encrypt a data key by the master key; the result opens for this tenant only."""
    nonce = secrets.token_bytes(_NONCE_BYTES)
    sealed = _cipher(master_key).encrypt(nonce, _checked_key(data_key), _WRAP_PURPOSE + tenant_id.bytes)
    return _WRAP_VERSION + nonce + sealed


def unwrap(master_key: bytes, wrapped: bytes, *, tenant_id: UUID) -> bytes:
    """Return the data key that `wrap` encrypted.

    Raises:
        DecryptionFailed: the bytes are not a wrapped key, or are of another master key or another tenant.
    """
    subject = f"The data key of tenant {tenant_id}"
    if wrapped[:1] != _WRAP_VERSION or len(wrapped) != 1 + _NONCE_BYTES + KEY_BYTES + _TAG_BYTES:
        raise DecryptionFailed(subject=subject, reason="it is not a wrapped key of version 1")
    nonce, sealed = wrapped[1 : 1 + _NONCE_BYTES], wrapped[1 + _NONCE_BYTES :]
    try:
        return _cipher(master_key).decrypt(nonce, sealed, _WRAP_PURPOSE + tenant_id.bytes)
    except InvalidTag:
        raise DecryptionFailed(subject=subject, reason="another master key or tenant, or damage") from None


def derive(key: bytes, purpose: str) -> bytes:
    """A key for `purpose` alone, made of another one: no key ever serves two ends."""
    return HKDF(algorithm=SHA256(), length=KEY_BYTES, salt=None, info=purpose.encode()).derive(
        _checked_key(key)
    )


def seal(key: bytes, plain: bytes, *, context: str) -> bytes:
    """Encrypt a short value, which `unseal` opens with the same key and context: nonce (12) | ciphertext | tag (16)."""
    nonce = secrets.token_bytes(_NONCE_BYTES)
    return nonce + _cipher(key).encrypt(nonce, plain, context.encode())


def unseal(key: bytes, sealed: bytes, *, context: str) -> bytes:
    """Decrypt what `seal` made. Raises DecryptionFailed for another key or context, or damage."""
    nonce, ciphertext = sealed[:_NONCE_BYTES], sealed[_NONCE_BYTES:]
    if len(ciphertext) < _TAG_BYTES:
        raise DecryptionFailed(subject=f"The value of {context!r}", reason="it is cut short")
    try:
        return _cipher(key).decrypt(nonce, ciphertext, context.encode())
    except InvalidTag:
        raise DecryptionFailed(
            subject=f"The value of {context!r}", reason="another key or context, or damage"
        ) from None


class EncryptingWriter:
    """Encrypts what is pushed into it and writes the ciphertext to `sink`, holding at most one chunk.

    `close` writes the last chunk, without which no reader accepts the stream; it leaves the sink open. As a
    context manager it closes only when the block ended well, so that half a stream never looks complete.
    """

    def __init__(self, sink: IO[bytes], key: bytes, context: str) -> None:
        header = _STREAM_MAGIC + secrets.token_bytes(_SALT_BYTES + _PREFIX_BYTES)
        self._sink = sink
        self._chunks = _ChunkCipher(key=key, header=header, context=context)
        self._pending = bytearray()
        self._n_chunks = 0
        self._closed = False
        self.n_plain_bytes = 0
        _write_fully(sink, header)

    def write(self, data: bytes | bytearray | memoryview) -> int:
        """Take `data` in, write every chunk that is full by now, and return the number of bytes taken."""
        if self._closed:
            raise ValueError("write to a closed EncryptingWriter")
        view = memoryview(data).cast("B")
        taken = 0
        while taken < len(view):
            # A full chunk waits for the byte after it: only then is it known not to be the last.
            if len(self._pending) == CHUNK_BYTES:
                self._flush_chunk(is_last=False)
            piece = view[taken : taken + CHUNK_BYTES - len(self._pending)]
            self._pending += piece
            taken += len(piece)
        self.n_plain_bytes += taken
        return taken

    def close(self) -> None:
        """Write the last chunk (empty for an empty stream). A second call does nothing."""
        if not self._closed:
            self._flush_chunk(is_last=True)
            self._closed = True

    def _flush_chunk(self, *, is_last: bool) -> None:
        _write_fully(self._sink, self._chunks.seal(self._n_chunks, bytes(self._pending), is_last=is_last))
        self._n_chunks += 1
        self._pending.clear()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if kind is None:
            self.close()


class DecryptingReader(io.RawIOBase):
    """The plain bytes of an encrypted stream over a seekable `source`: seekable, holding one chunk at a time.

    Wrap it in `io.BufferedReader` for small reads. Opening it decrypts the last chunk, so a stream that was
    cut short is refused at once and `size_bytes` can be trusted. Closing it closes the source.

    Raises:
        DecryptionFailed: on opening, or on reading a chunk that is not what was written at its place.
    """

    def __init__(self, source: IO[bytes], key: bytes, context: str) -> None:
        super().__init__()
        self._source = source
        self._subject = f"The stream {context!r}"
        sealed_bytes = source.seek(0, os.SEEK_END) - _HEADER_BYTES
        source.seek(0)
        header = _read_fully(source, _HEADER_BYTES)
        if sealed_bytes < _TAG_BYTES or not header.startswith(_STREAM_MAGIC):
            raise DecryptionFailed(subject=self._subject, reason="it is not an encrypted stream of version 1")
        self._chunks = _ChunkCipher(key=key, header=header, context=context)
        self._n_chunks = -(-sealed_bytes // _SEALED_CHUNK_BYTES)
        self.size_bytes = sealed_bytes - _TAG_BYTES * self._n_chunks
        self._position = 0
        self._held_number = self._n_chunks - 1
        self._held = self._open_chunk(self._held_number)

    def readable(self) -> bool:
        """Say that this stream can be read."""
        return True

    def seekable(self) -> bool:
        """Say that this stream can be sought."""
        return True

    def tell(self) -> int:
        """Return the position among the plain bytes."""
        self._refuse_if_closed()
        return self._position

    def seek(self, offset: int, whence: int = os.SEEK_SET, /) -> int:
        """Move to a plain position, which may lie behind the end (reads then give nothing), and return it."""
        self._refuse_if_closed()
        starts = {os.SEEK_SET: 0, os.SEEK_CUR: self._position, os.SEEK_END: self.size_bytes}
        if whence not in starts:
            raise ValueError(f"whence is {whence}; it can be 0, 1 or 2")
        target = starts[whence] + offset
        if target < 0:
            raise ValueError(f"a seek to {target}, before the start of the stream")
        self._position = target
        return target

    # typeshed's parameter is collections.abc.Buffer, which Python 3.11 does not have at run time.
    def readinto(self, buffer: bytearray | memoryview, /) -> int:  # type: ignore[override]
        """Fill `buffer` from the chunk at the position, to that chunk's end at most; return their number."""
        self._refuse_if_closed()
        view = memoryview(buffer).cast("B")
        if self._position >= self.size_bytes or not view:
            return 0
        number, start = divmod(self._position, CHUNK_BYTES)
        if number != self._held_number:
            self._held, self._held_number = self._open_chunk(number), number
        piece = memoryview(self._held)[start : start + len(view)]
        view[: len(piece)] = piece
        self._position += len(piece)
        return len(piece)

    def close(self) -> None:
        """Close this stream and its source."""
        if not self.closed:
            self._source.close()
        super().close()

    def _open_chunk(self, number: int) -> bytes:
        self._source.seek(_HEADER_BYTES + number * _SEALED_CHUNK_BYTES)
        sealed = _read_fully(self._source, _SEALED_CHUNK_BYTES)
        try:
            return self._chunks.open(number, sealed, is_last=number == self._n_chunks - 1)
        except InvalidTag:
            reason = (
                f"chunk {number} of {self._n_chunks} was changed, cut, moved, or has another key or context"
            )
            raise DecryptionFailed(subject=self._subject, reason=reason) from None

    def _refuse_if_closed(self) -> None:
        if self.closed:
            raise ValueError("I/O operation on a closed DecryptingReader")


class _ChunkCipher:
    """Seals and opens the numbered chunks of one stream."""

    def __init__(self, *, key: bytes, header: bytes, context: str) -> None:
        salt = header[len(_STREAM_MAGIC) : -_PREFIX_BYTES]
        derivation = HKDF(algorithm=SHA256(), length=KEY_BYTES, salt=salt, info=_STREAM_PURPOSE)
        self._cipher = _cipher(derivation.derive(_checked_key(key)))
        self._prefix = header[-_PREFIX_BYTES:]
        self._bound = header + context.encode()

    def seal(self, number: int, plain: bytes, *, is_last: bool) -> bytes:
        return self._cipher.encrypt(self._nonce(number, is_last), plain, self._bound)

    def open(self, number: int, sealed: bytes, *, is_last: bool) -> bytes:
        return self._cipher.decrypt(self._nonce(number, is_last), sealed, self._bound)

    def _nonce(self, number: int, is_last: bool) -> bytes:
        if number >= _MAX_CHUNKS:
            raise ValueError(f"a stream holds at most {_MAX_CHUNKS} chunks of {CHUNK_BYTES} bytes")
        return self._prefix + number.to_bytes(4, "big") + bytes([is_last])


def _cipher(key: bytes) -> AESGCM:
    return AESGCM(_checked_key(key))


def _checked_key(key: bytes) -> bytes:
    # AESGCM would take 16 or 24 bytes too and silently give less than AES-256.
    if len(key) != KEY_BYTES:
        raise ValueError(f"a key has {KEY_BYTES} bytes; this one has {len(key)}")
    return key


def _write_fully(sink: IO[bytes], data: bytes) -> None:
    """Write all of `data`, also to a raw sink that takes less than it is given."""
    view = memoryview(data)
    while view:
        view = view[sink.write(view) :]


def _read_fully(source: IO[bytes], n_bytes: int) -> bytes:
    """Read `n_bytes`, or less at the end, also from a raw source that gives less than it is asked for."""
    pieces = []
    while n_bytes > 0 and (piece := source.read(n_bytes)):
        pieces.append(piece)
        n_bytes -= len(piece)
    return b"".join(pieces)
