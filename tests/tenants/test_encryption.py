"""Envelope encryption: what was written comes back, from any position, and nothing else is accepted."""

import io
import tracemalloc
from uuid import UUID, uuid4

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tenants import encryption
from tenants.encryption import CHUNK_BYTES, DecryptingReader, DecryptionFailed, EncryptingWriter

KEY = bytes(range(32))
ACME = UUID("6b0bb1f6-7b1c-4b6e-9a31-0b6a0c6f3a01")
SEALED_CHUNK_BYTES = CHUNK_BYTES + 16
HEADER_BYTES = 5 + 32 + 7

# Lengths around the chunk's border, where such code goes wrong.
lengths = st.one_of(
    st.integers(0, 40),
    st.builds(lambda n, d: max(0, n * CHUNK_BYTES + d), st.integers(1, 3), st.integers(-2, 2)),
)


def plain_bytes(length: int) -> bytes:
    """Bytes that differ from place to place and from chunk to chunk."""
    return bytes((i * 7 + i // 251 + i // CHUNK_BYTES) % 256 for i in range(length))


def encrypt(plain: bytes, *, key: bytes = KEY, context: str = "dst_1") -> bytes:
    """The whole ciphertext of `plain`."""
    sink = io.BytesIO()
    with EncryptingWriter(sink, key, context) as writer:
        writer.write(plain)
    return sink.getvalue()


def decrypt(sealed: bytes, *, key: bytes = KEY, context: str = "dst_1") -> bytes:
    """The whole plain text of `sealed`."""
    with io.BufferedReader(DecryptingReader(io.BytesIO(sealed), key, context)) as reader:
        return reader.read()


def chunks_of(sealed: bytes) -> tuple[bytes, list[bytes]]:
    """The header and the sealed chunks."""
    body = sealed[HEADER_BYTES:]
    return sealed[:HEADER_BYTES], [
        body[i : i + SEALED_CHUNK_BYTES] for i in range(0, len(body), SEALED_CHUNK_BYTES)
    ]


def test_wrapped_key_opens_with_the_same_master_key_and_tenant() -> None:
    data_key = encryption.new_data_key()
    wrapped = encryption.wrap(KEY, data_key, tenant_id=ACME)

    assert encryption.unwrap(KEY, wrapped, tenant_id=ACME) == data_key
    assert data_key not in wrapped
    assert wrapped != encryption.wrap(KEY, data_key, tenant_id=ACME)


def test_wrapped_key_does_not_open_for_another_tenant_or_master_key() -> None:
    wrapped = encryption.wrap(KEY, encryption.new_data_key(), tenant_id=ACME)

    with pytest.raises(DecryptionFailed, match="another master key or tenant"):
        encryption.unwrap(KEY, wrapped, tenant_id=uuid4())
    with pytest.raises(DecryptionFailed, match=str(ACME)):
        encryption.unwrap(bytes(32), wrapped, tenant_id=ACME)


@given(position=st.integers(0, 60), bit=st.integers(0, 7))
def test_wrapped_key_with_a_flipped_bit_does_not_open(position: int, bit: int) -> None:
    wrapped = bytearray(encryption.wrap(KEY, encryption.new_data_key(), tenant_id=ACME))
    wrapped[position] ^= 1 << bit

    with pytest.raises(DecryptionFailed):
        encryption.unwrap(KEY, bytes(wrapped), tenant_id=ACME)


@pytest.mark.parametrize("length", [0, 16, 24, 31, 33])
def test_only_keys_of_32_bytes_are_taken(length: int) -> None:
    with pytest.raises(ValueError, match="32 bytes"):
        encryption.wrap(KEY, bytes(length), tenant_id=ACME)
    with pytest.raises(ValueError, match="32 bytes"):
        EncryptingWriter(io.BytesIO(), bytes(length), "dst_1")


@settings(max_examples=40, deadline=None)
@given(length=lengths, piece=st.integers(1, 2 * CHUNK_BYTES))
def test_stream_comes_back_however_it_is_pushed(length: int, piece: int) -> None:
    plain, sink = plain_bytes(length), io.BytesIO()
    step = max(piece, length // 50 + 1)
    with EncryptingWriter(sink, KEY, "dst_1") as writer:
        taken = sum(writer.write(plain[i : i + step]) for i in range(0, length, step))

    assert decrypt(sink.getvalue()) == plain
    assert taken == writer.n_plain_bytes == length
    n_chunks = max(1, -(-length // CHUNK_BYTES))
    assert len(sink.getvalue()) == HEADER_BYTES + length + 16 * n_chunks


def test_two_streams_of_the_same_text_share_no_ciphertext() -> None:
    first, second = encrypt(b"marked text" * 5), encrypt(b"marked text" * 5)

    assert b"marked" not in first
    assert first[5:37] != second[5:37]
    assert first[HEADER_BYTES:] != second[HEADER_BYTES:]


@settings(max_examples=40, deadline=None)
@given(data=st.data(), length=lengths)
def test_seek_and_read_agree_with_the_plain_bytes(data: st.DataObject, length: int) -> None:
    plain = plain_bytes(length)
    reader = io.BufferedReader(DecryptingReader(io.BytesIO(encrypt(plain)), KEY, "dst_1"))
    expected = io.BytesIO(plain)
    for _ in range(6):
        offset = data.draw(st.integers(0, length + 20))
        n_bytes = data.draw(st.sampled_from([0, 1, 17, CHUNK_BYTES, CHUNK_BYTES + 1, -1]))
        assert reader.seek(offset) == expected.seek(offset)
        assert reader.read(n_bytes) == expected.read(n_bytes)
        assert reader.tell() == expected.tell()


def test_seek_counts_from_the_start_the_position_and_the_end() -> None:
    reader = DecryptingReader(io.BytesIO(encrypt(plain_bytes(100))), KEY, "dst_1")

    assert (reader.seek(10), reader.seek(5, io.SEEK_CUR), reader.seek(-1, io.SEEK_END)) == (10, 15, 99)
    assert reader.size_bytes == 100
    with pytest.raises(ValueError, match="before the start"):
        reader.seek(-101, io.SEEK_END)
    with pytest.raises(ValueError, match="whence"):
        reader.seek(0, 3)


def test_closing_the_reader_closes_its_source() -> None:
    source = io.BytesIO(encrypt(b"text"))
    reader = DecryptingReader(source, KEY, "dst_1")
    reader.close()

    assert source.closed
    for use in (reader.tell, lambda: reader.seek(0), lambda: reader.readinto(bytearray(1))):
        with pytest.raises(ValueError, match="closed"):
            use()


def test_another_key_or_context_is_refused() -> None:
    sealed = encrypt(b"a text of dataset 1")

    with pytest.raises(DecryptionFailed, match="dst_1"):
        decrypt(sealed, key=bytes(32))
    with pytest.raises(DecryptionFailed, match="dst_2"):
        decrypt(sealed, context="dst_2")


@settings(max_examples=60, deadline=None)
@given(data=st.data(), length=lengths)
def test_a_flipped_bit_anywhere_is_refused(data: st.DataObject, length: int) -> None:
    sealed = bytearray(encrypt(plain_bytes(length)))
    sealed[data.draw(st.integers(0, len(sealed) - 1))] ^= 1 << data.draw(st.integers(0, 7))

    with pytest.raises(DecryptionFailed):
        decrypt(bytes(sealed))


@settings(max_examples=60, deadline=None)
@given(data=st.data(), length=lengths)
def test_a_stream_cut_anywhere_is_refused_on_opening(data: st.DataObject, length: int) -> None:
    sealed = encrypt(plain_bytes(length))
    at_a_border = st.integers(0, len(sealed) // SEALED_CHUNK_BYTES).map(
        lambda n: min(HEADER_BYTES + n * SEALED_CHUNK_BYTES, len(sealed) - 1)
    )
    cut = data.draw(st.one_of(st.integers(0, len(sealed) - 1), at_a_border))

    with pytest.raises(DecryptionFailed):
        DecryptingReader(io.BytesIO(sealed[:cut]), KEY, "dst_1")


@pytest.mark.parametrize(
    "order", [[1, 0, 2], [0, 0, 2], [0, 2], [1, 2], [0, 1, 1, 2], [0, 2, 1], [0, 1, 2, 2]]
)
def test_chunks_moved_dropped_or_repeated_are_refused(order: list[int]) -> None:
    header, chunks = chunks_of(encrypt(plain_bytes(3 * CHUNK_BYTES)))

    with pytest.raises(DecryptionFailed):
        decrypt(header + b"".join(chunks[i] for i in order))


def test_chunks_of_another_stream_are_refused() -> None:
    header, chunks = chunks_of(encrypt(plain_bytes(2 * CHUNK_BYTES)))
    _, others = chunks_of(encrypt(plain_bytes(2 * CHUNK_BYTES)))

    with pytest.raises(DecryptionFailed):
        decrypt(header + others[0] + chunks[1])


def test_a_block_that_raises_leaves_no_stream_that_opens() -> None:
    sink = io.BytesIO()
    with pytest.raises(RuntimeError, match="upload broke"), EncryptingWriter(sink, KEY, "dst_1") as writer:
        writer.write(plain_bytes(2 * CHUNK_BYTES))
        raise RuntimeError("upload broke")

    with pytest.raises(DecryptionFailed):
        decrypt(sink.getvalue())


def test_a_closed_writer_takes_nothing_more() -> None:
    sink = io.BytesIO()
    writer = EncryptingWriter(sink, KEY, "dst_1")
    writer.close()
    size_bytes = len(sink.getvalue())
    writer.close()

    assert len(sink.getvalue()) == size_bytes
    with pytest.raises(ValueError, match="closed"):
        writer.write(b"late")


class _Trickle(io.RawIOBase):
    """A raw file that takes and gives at most 1,000 bytes a call, as pipes and sockets do."""

    def __init__(self, content: bytes = b"") -> None:
        super().__init__()
        self.held = io.BytesIO(content)

    def write(self, data: memoryview) -> int:  # type: ignore[override]
        return self.held.write(bytes(data[:1000]))

    def read(self, size: int = -1, /) -> bytes:
        return self.held.read(min(size, 1000))

    def seek(self, offset: int, whence: int = 0, /) -> int:
        return self.held.seek(offset, whence)


def test_raw_files_that_take_and_give_little_at_a_time_work() -> None:
    plain, sink = plain_bytes(CHUNK_BYTES + 10), _Trickle()
    with EncryptingWriter(sink, KEY, "dst_1") as writer:  # type: ignore[arg-type]
        writer.write(plain)
    source = _Trickle(sink.held.getvalue())

    assert io.BufferedReader(DecryptingReader(source, KEY, "dst_1")).read() == plain  # type: ignore[arg-type]


def test_parquet_is_read_through_the_decrypting_reader() -> None:
    table = pa.table({"text": [f"row {i}" for i in range(20_000)], "label": ["a", "b"] * 10_000})
    plain = io.BytesIO()
    pq.write_table(table, plain, row_group_size=1_000)
    sealed = encrypt(plain.getvalue())

    with io.BufferedReader(DecryptingReader(io.BytesIO(sealed), KEY, "dst_1")) as reader:
        assert pq.ParquetFile(reader).read_row_group(17).to_pylist() == table.slice(17_000, 1_000).to_pylist()


def test_memory_does_not_grow_with_the_stream() -> None:
    class Discard(io.BytesIO):
        def write(self, data: bytes | memoryview) -> int:  # type: ignore[override]
            return len(data)

    def peak_of_writing(n_mebibytes: int) -> int:
        piece = bytes(2**20)
        tracemalloc.start()
        with EncryptingWriter(Discard(), KEY, "dst_1") as writer:
            for _ in range(n_mebibytes):
                writer.write(piece)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return peak

    assert peak_of_writing(32) <= peak_of_writing(2) + CHUNK_BYTES


def test_a_sealed_value_opens_with_its_key_and_context_alone() -> None:
    key = encryption.derive(KEY, "tests")
    sealed = encryption.seal(key, b"secret", context="one")
    assert encryption.unseal(key, sealed, context="one") == b"secret"
    assert b"secret" not in sealed
    assert encryption.seal(key, b"secret", context="one") != sealed
    changed = sealed[:-1] + bytes([sealed[-1] ^ 1])
    for other_key, other_sealed, context in (
        (encryption.derive(KEY, "other"), sealed, "one"),
        (KEY, sealed, "one"),
        (key, sealed, "two"),
        (key, changed, "one"),
        (key, sealed[:20], "one"),
        (key, b"", "one"),
    ):
        with pytest.raises(DecryptionFailed):
            encryption.unseal(other_key, other_sealed, context=context)
