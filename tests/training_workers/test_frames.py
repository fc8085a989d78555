"""Messages over a pipe: what is written is read, and what is no frame is refused."""

import io
import struct

import pytest

from training_workers import frames
from training_workers.errors import FrameBroken
from training_workers.frames import MAX_JSON_BYTES, read_frame, write_frame


def test_messages_and_blobs_come_back_in_order_until_the_end() -> None:
    pipe = io.BytesIO()
    write_frame(pipe, {"event": "progress", "text": "größer"})
    write_frame(pipe, {"event": "done"}, {"state": b"\x00\xff", "empty": b""})
    pipe.seek(0)
    assert read_frame(pipe) == ({"event": "progress", "text": "größer"}, {})
    assert read_frame(pipe) == ({"event": "done"}, {"state": b"\x00\xff", "empty": b""})
    assert read_frame(pipe) is None


def _framed(header: bytes) -> bytes:
    return struct.pack(">I", len(header)) + header


@pytest.mark.parametrize(
    "content",
    [
        b"\x00\x00",
        struct.pack(">I", MAX_JSON_BYTES + 1),
        struct.pack(">I", 10) + b"{",
        _framed(b"no JSON at all"),
        _framed(b"[]"),
        _framed(b'{"event": "done"}'),
        _framed(b'{"blobs": [["state", 5]]}') + b"1234",
        _framed(b'{"blobs": [["state", 99999999999]]}'),
        b"Loading weights: 100%|####|\n",
    ],
)
def test_what_is_no_frame_is_refused(content: bytes) -> None:
    with pytest.raises(FrameBroken):
        read_frame(io.BytesIO(content))


def test_what_nobody_would_read_is_not_written(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(frames, "MAX_JSON_BYTES", 50)
    pipe = io.BytesIO()
    with pytest.raises(FrameBroken, match="above the limit of 50"):
        write_frame(pipe, {"text": "x" * 50})
    assert pipe.getvalue() == b""


def test_a_number_that_is_none_is_not_written() -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_frame(io.BytesIO(), {"loss": float("nan")})
