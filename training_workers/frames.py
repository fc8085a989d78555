"""Messages between a worker and its trainer over pipes: a JSON object and named binary blobs, lengths first.

A frame is four bytes (the JSON's length, big-endian), the JSON, then the blobs in the order in which the
JSON's `blobs` names them with their sizes. Nothing is ever unpickled.
"""

import json
import struct
from collections.abc import Mapping
from typing import Any, BinaryIO

from training_workers.errors import FrameBroken

MAX_JSON_BYTES = 1 << 28
MAX_BLOB_BYTES = 1 << 32
_LENGTH = struct.Struct(">I")


def write_frame(file: BinaryIO, message: Mapping[str, Any], blobs: Mapping[str, bytes] | None = None) -> None:
    """Writes one frame and flushes.

    Raises:
        FrameBroken: the message is larger than the other side reads; nothing is written then.
    """
    blobs = blobs or {}
    sizes = [[name, len(blob)] for name, blob in blobs.items()]
    header = json.dumps({**message, "blobs": sizes}, allow_nan=False).encode()
    if len(header) > MAX_JSON_BYTES:
        raise FrameBroken(reason=f"{len(header)} bytes of JSON are above the limit of {MAX_JSON_BYTES}")
    file.write(_LENGTH.pack(len(header)) + header)
    for blob in blobs.values():
        file.write(blob)
    file.flush()


def read_frame(file: BinaryIO) -> tuple[dict[str, Any], dict[str, bytes]] | None:
    """The next frame's message and blobs; None where the other side has closed the pipe.

    Raises:
        FrameBroken: the bytes are no frame, or end in the middle of one.
    """
    length = file.read(_LENGTH.size)
    if not length:
        return None
    if len(length) < _LENGTH.size:
        raise FrameBroken(reason="it ends in its length")
    (n_header_bytes,) = _LENGTH.unpack(length)
    if n_header_bytes > MAX_JSON_BYTES:
        raise FrameBroken(reason=f"{n_header_bytes} bytes of JSON are above the limit of {MAX_JSON_BYTES}")
    message = _header(_exactly(file, n_header_bytes))
    blobs = {}
    for name, size in message.pop("blobs"):
        if size > MAX_BLOB_BYTES:
            raise FrameBroken(reason=f"a blob of {size} bytes is above the limit of {MAX_BLOB_BYTES}")
        blobs[name] = _exactly(file, size)
    return message, blobs


def _header(raw: bytes) -> dict[str, Any]:
    try:
        message = json.loads(raw)
    except ValueError:
        raise FrameBroken(reason="its header is no JSON") from None
    if not isinstance(message, dict) or not isinstance(message.get("blobs"), list):
        raise FrameBroken(reason="its header is no message")
    return message


def _exactly(file: BinaryIO, size: int) -> bytes:
    content = file.read(size)
    if len(content) < size:
        raise FrameBroken(reason=f"{size - len(content)} bytes are missing at its end")
    return content
