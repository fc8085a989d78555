"""Reading safetensors bytes that somebody else sent: bounded, and never by code that they could choose.

The header is parsed here first, under limits of our own, and compared with the parent version's; only then
does the safetensors library (which checks offsets and lengths) make arrays of the rest.
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NoReturn

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load

from federation.errors import (
    UpdateDtypeDiffers,
    UpdateHeaderTooLarge,
    UpdateIsArchive,
    UpdateIsPickle,
    UpdateNamesDiffer,
    UpdateNotFinite,
    UpdateNotSafetensors,
    UpdateShapeDiffers,
    UpdateTooLarge,
    UpdateTruncated,
)

Tensors = dict[str, NDArray[np.floating]]
Sends = Callable[[str], bool]
"""Whether the method trains the tensor of this name, so that an update holds its change."""

# A prefix needs 300 bytes; a method with a thousand small tensors about 130,000.
MAX_HEADER_BYTES = 512 * 1024

_LENGTH_BYTES = 8
_DTYPE_NAMES = {"float64": "F64", "float32": "F32", "float16": "F16"}


@dataclass(frozen=True)
class Header:
    """What a safetensors file says of itself: each tensor's entry, its metadata, and where its data end."""

    entries: dict[str, dict[str, Any]]
    metadata: dict[str, str]


def load_parent(data: bytes) -> Tensors:
    """Load a stored version: our own bytes, whose digest was checked."""
    tensors: Tensors = load(data)
    return tensors


def sent_tensors(parent: Tensors, sends: Sends) -> Tensors:
    """The tensors of the parent version that an update changes."""
    return {name: tensor for name, tensor in parent.items() if sends(name)}


def largest_update_bytes(parent: Mapping[str, NDArray[np.floating]]) -> int:
    """The most bytes that an update with the parent version's tensors can have."""
    return _LENGTH_BYTES + MAX_HEADER_BYTES + sum(tensor.nbytes for tensor in parent.values())


def read_header(data: bytes, *, max_bytes: int) -> Header:
    """Parse the header of safetensors bytes, and check that all it announces is there and nothing more.

    Raises:
        UpdateRefused: one class per reason, see `federation.errors`.
    """
    if len(data) > max_bytes:
        raise UpdateTooLarge(size_bytes=len(data), max_bytes=max_bytes)
    data_start = _find_data_start(data)
    entries = _parse_json(data[_LENGTH_BYTES:data_start])
    metadata = _checked_metadata(entries.pop("__metadata__", {}))
    data_end = data_start + max((_data_end(name, entry) for name, entry in entries.items()), default=0)
    if len(data) < data_end:
        raise UpdateTruncated(size_bytes=len(data), wanted_bytes=data_end)
    if len(data) > data_end:
        raise UpdateNotSafetensors(problem=f"{len(data) - data_end} bytes follow its last tensor")
    return Header(entries=entries, metadata=metadata)


def load_like(parent: Mapping[str, NDArray[np.floating]], data: bytes, header: Header) -> Tensors:
    """Load an update that has exactly the names, dtypes and shapes of what is sent of the parent, all values finite.

    Raises:
        UpdateRefused: one class per reason, see `federation.errors`.
    """
    _check_like(parent, header)
    try:
        tensors: Tensors = load(data)
    except SafetensorError as error:
        raise UpdateNotSafetensors(problem=str(error)[:200]) from None
    for name, tensor in tensors.items():
        n_bad = tensor.size - int(np.count_nonzero(np.isfinite(tensor)))
        if n_bad:
            raise UpdateNotFinite(name=name, n_values=n_bad)
    return tensors


def _check_like(parent: Mapping[str, NDArray[np.floating]], header: Header) -> None:
    if header.entries.keys() != parent.keys():
        missing, unknown = parent.keys() - header.entries.keys(), header.entries.keys() - parent.keys()
        raise UpdateNamesDiffer(missing=sorted(missing), unknown=sorted(unknown))
    for name, tensor in parent.items():
        entry = header.entries[name]
        dtype = _DTYPE_NAMES[tensor.dtype.name]
        if entry["dtype"] != dtype:
            raise UpdateDtypeDiffers(name=name, found=entry["dtype"], expected=dtype)
        if tuple(entry["shape"]) != tensor.shape:
            raise UpdateShapeDiffers(name=name, found=tuple(entry["shape"]), expected=tensor.shape)


def _find_data_start(data: bytes) -> int:
    """Return where the header ends, from the length in the first eight bytes (little-endian)."""
    if len(data) <= _LENGTH_BYTES:
        raise UpdateTruncated(size_bytes=len(data), wanted_bytes=_LENGTH_BYTES + len("{}"))
    # Every safetensors header begins with a brace: what does not is named and never opened.
    if data[_LENGTH_BYTES] != ord("{"):
        _refuse_foreign_format(data)
    header_bytes = int.from_bytes(data[:_LENGTH_BYTES], "little")
    if header_bytes > MAX_HEADER_BYTES:
        raise UpdateHeaderTooLarge(header_bytes=header_bytes, max_bytes=MAX_HEADER_BYTES)
    if len(data) < _LENGTH_BYTES + header_bytes:
        raise UpdateTruncated(size_bytes=len(data), wanted_bytes=_LENGTH_BYTES + header_bytes)
    return _LENGTH_BYTES + header_bytes


def _refuse_foreign_format(data: bytes) -> NoReturn:
    if data.startswith(b"PK"):
        raise UpdateIsArchive(kind="zip")
    if data.startswith(b"\x1f\x8b"):
        raise UpdateIsArchive(kind="gzip")
    # Protocols 2 to 5 begin with PROTO and the number; both of PyTorch's older formats are pickles too.
    if data[0] == 0x80 and data[1] in range(2, 6):
        raise UpdateIsPickle
    raise UpdateNotSafetensors(problem="no header follows its first eight bytes")


def _parse_json(header: bytes) -> dict[str, Any]:
    """Parse the header strictly: UTF-8, no name twice, no NaN."""
    try:
        entries = json.loads(
            header.decode(), object_pairs_hook=_refuse_repeated, parse_constant=_refuse_constant
        )
    except (ValueError, RecursionError) as error:
        raise UpdateNotSafetensors(problem=f"its header is not JSON ({str(error)[:200]})") from None
    if not isinstance(entries, dict):
        raise UpdateNotSafetensors(problem="its header is not a JSON object")
    return entries


def _refuse_repeated(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    if len({name for name, _ in pairs}) != len(pairs):
        raise ValueError("a name stands twice")
    return dict(pairs)


def _refuse_constant(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is no JSON")


def _checked_metadata(metadata: object) -> dict[str, str]:
    if not isinstance(metadata, dict) or not all(isinstance(value, str) for value in metadata.values()):
        raise UpdateNotSafetensors(problem="its metadata are not a map of strings")
    return metadata


def _data_end(name: str, entry: object) -> int:
    """Check the form of one tensor's entry and return where its data end, counted from the header's end."""
    if not isinstance(entry, dict) or entry.keys() != {"dtype", "shape", "data_offsets"}:
        raise UpdateNotSafetensors(problem=f"the entry {name[:80]!r} is not a tensor's")
    shape, offsets = entry["shape"], entry["data_offsets"]
    well_formed = isinstance(entry["dtype"], str) and _is_sizes(shape) and _is_sizes(offsets)
    if not well_formed or len(offsets) != 2:
        raise UpdateNotSafetensors(
            problem=f"the entry {name[:80]!r} has a dtype, shape or offsets of a wrong form"
        )
    return int(offsets[1])


def _is_sizes(value: object) -> bool:
    # bool is an int in Python, not in JSON; and no size needs more than the format's 64 bits.
    return isinstance(value, list) and all(type(size) is int and 0 <= size < 2**63 for size in value)
