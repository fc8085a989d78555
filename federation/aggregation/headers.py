"""Headers of safetensors files that somebody else sent: bounded, and never read by code that they could choose.

What the format demands is checked here, at least as strictly as the safetensors library does; no other reader follows.
"""

import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import IO, Any, Final, NoReturn

from federation.errors import (
    UpdateHeaderTooLarge,
    UpdateIsArchive,
    UpdateIsPickle,
    UpdateNotSafetensors,
    UpdateTooLarge,
    UpdateTruncated,
)

Shape = tuple[int, ...]

# A prefix needs 300 bytes; a method with a thousand small tensors about 130,000.
MAX_HEADER_BYTES: Final = 512 * 1024
ITEM_BYTES: Final[Mapping[str, int]] = {"F64": 8, "F32": 4, "F16": 2, "I8": 1, "U8": 1}

_LENGTH_BYTES: Final = 8
_ALIGNMENT: Final = 8


@dataclass(frozen=True)
class TensorKind:
    """A tensor's dtype, in the format's word (one of `ITEM_BYTES`), and its shape."""

    dtype: str
    shape: Shape

    @property
    def n_values(self) -> int:
        return prod(self.shape)

    @property
    def n_bytes(self) -> int:
        return ITEM_BYTES[self.dtype] * self.n_values


@dataclass(frozen=True, slots=True)  # a round holds those of all its updates
class Entry:
    """What a header says of one tensor; its data lie from `start` to `end`, counted from the header's end."""

    dtype: str
    shape: Shape
    start: int
    end: int


@dataclass(frozen=True)
class Header:
    """What a safetensors file says of itself, and at which byte its data begin."""

    entries: Mapping[str, Entry]
    metadata: Mapping[str, str]
    data_start: int


def largest_file_bytes(kinds: Iterable[TensorKind]) -> int:
    """The most bytes that a file with these tensors can have."""
    return _LENGTH_BYTES + MAX_HEADER_BYTES + sum(kind.n_bytes for kind in kinds)


def lay_out(kinds: Mapping[str, TensorKind]) -> dict[str, Entry]:
    """Where each tensor's data lie: the widest dtype first, then by name, as the safetensors library has them."""
    entries, start = {}, 0
    for name in sorted(kinds, key=lambda name: (-ITEM_BYTES[kinds[name].dtype], name)):
        kind = kinds[name]
        entries[name] = Entry(kind.dtype, kind.shape, start, start + kind.n_bytes)
        start += kind.n_bytes
    return entries


def header_bytes(entries: Mapping[str, Entry], metadata: Mapping[str, str]) -> bytes:
    """The header with its length before it; the same bytes for the same content. The library's own vary in order."""
    told: dict[str, Any] = {
        name: {"dtype": entry.dtype, "shape": entry.shape, "data_offsets": (entry.start, entry.end)}
        for name, entry in entries.items()
    }
    text = json.dumps(
        {**told, "__metadata__": dict(metadata)}, sort_keys=True, separators=(",", ":")
    ).encode()
    text += b" " * (-len(text) % _ALIGNMENT)
    return len(text).to_bytes(_LENGTH_BYTES, "little") + text


def read_header(path: Path, *, max_bytes: int) -> Header:
    """Read a file's header, and check that all it announces is there and nothing else.

    Raises:
        UpdateRefused: one class per reason, see `federation.errors`.
    """
    with path.open("rb") as file:
        n_bytes = os.fstat(file.fileno()).st_size
        if n_bytes > max_bytes:
            raise UpdateTooLarge(size_bytes=n_bytes, max_bytes=max_bytes)
        text = _header_text(file, n_bytes)
    entries = _parse_json(text)
    metadata = _checked_metadata(entries.pop("__metadata__", {}))
    checked = {name: _checked_entry(name, entry) for name, entry in entries.items()}
    data_start = _LENGTH_BYTES + len(text)
    _check_extent(checked, n_bytes, data_start)
    return Header(entries=checked, metadata=metadata, data_start=data_start)


def _header_text(file: IO[bytes], n_bytes: int) -> bytes:
    """The header's JSON, whose length stands in the first eight bytes (little-endian)."""
    if n_bytes <= _LENGTH_BYTES:
        raise UpdateTruncated(size_bytes=n_bytes, wanted_bytes=_LENGTH_BYTES + len("{}"))
    beginning = file.read(_LENGTH_BYTES + 1)
    # Every safetensors header begins with a brace: what does not is named and never opened.
    if beginning[_LENGTH_BYTES] != ord("{"):
        _refuse_foreign_format(beginning)
    length = int.from_bytes(beginning[:_LENGTH_BYTES], "little")
    if length > MAX_HEADER_BYTES:
        raise UpdateHeaderTooLarge(header_bytes=length, max_bytes=MAX_HEADER_BYTES)
    if n_bytes < _LENGTH_BYTES + length:
        raise UpdateTruncated(size_bytes=n_bytes, wanted_bytes=_LENGTH_BYTES + length)
    file.seek(_LENGTH_BYTES)
    return file.read(length)


def _refuse_foreign_format(beginning: bytes) -> NoReturn:
    if beginning.startswith(b"PK"):
        raise UpdateIsArchive(kind="zip")
    if beginning.startswith(b"\x1f\x8b"):
        raise UpdateIsArchive(kind="gzip")
    # Protocols 2 to 5 begin with PROTO and the number; both of PyTorch's older formats are pickles too.
    if beginning[0] == 0x80 and beginning[1] in range(2, 6):
        raise UpdateIsPickle
    raise UpdateNotSafetensors(problem="no header follows its first eight bytes")


def _parse_json(text: bytes) -> dict[str, Any]:
    """Parse the header strictly: Unicode text, no name twice, no NaN, no number below zero."""
    try:
        entries = json.loads(
            text.decode(),
            object_pairs_hook=_refuse_repeated,
            parse_constant=_refuse_constant,
            parse_int=_parse_size,
        )
        json.dumps(entries, ensure_ascii=False).encode()  # escaped lone surrogates are no text
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


def _parse_size(digits: str) -> int:
    if digits.startswith("-"):  # "-0" too
        raise ValueError("a size has a sign")
    return int(digits)


def _checked_metadata(metadata: object) -> dict[str, str]:
    if not isinstance(metadata, dict) or not all(isinstance(value, str) for value in metadata.values()):
        raise UpdateNotSafetensors(problem="its metadata are not a map of strings")
    return metadata


def _checked_entry(name: str, entry: object) -> Entry:
    if not isinstance(entry, dict) or entry.keys() != {"dtype", "shape", "data_offsets"}:
        raise UpdateNotSafetensors(problem=f"the entry {name[:80]!r} is not a tensor's")
    shape, offsets = entry["shape"], entry["data_offsets"]
    well_formed = isinstance(entry["dtype"], str) and _is_sizes(shape) and _is_sizes(offsets)
    if not well_formed or len(offsets) != 2:
        raise UpdateNotSafetensors(
            problem=f"the entry {name[:80]!r} has a dtype, shape or offsets of a wrong form"
        )
    return Entry(entry["dtype"], tuple(shape), *offsets)


def _is_sizes(value: object) -> bool:
    # bool is an int in Python, not in JSON; and no size needs more than the format's 64 bits.
    return isinstance(value, list) and all(type(size) is int and 0 <= size < 2**63 for size in value)


def _check_extent(entries: Mapping[str, Entry], n_bytes: int, data_start: int) -> None:
    """The tensors' data follow one another without gap or overlap, from the header's end to the file's."""
    wanted = data_start + max((entry.end for entry in entries.values()), default=0)
    if n_bytes < wanted:
        raise UpdateTruncated(size_bytes=n_bytes, wanted_bytes=wanted)
    if n_bytes > wanted:
        raise UpdateNotSafetensors(problem=f"{n_bytes - wanted} bytes follow its last tensor")
    place = 0
    for name, entry in sorted(entries.items(), key=lambda item: (item[1].start, item[1].end)):
        if entry.start != place or entry.end < place:
            raise UpdateNotSafetensors(problem=f"the data of {name[:80]!r} do not begin where others end")
        place = entry.end
