"""Safetensors files read and written in parts, so that no tensor is ever in memory as a whole."""

import os
from collections.abc import Iterable, Mapping
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

import numpy as np
from numpy.typing import NDArray

from federation.aggregation.headers import (
    ITEM_BYTES,
    Entry,
    Header,
    TensorKind,
    header_bytes,
    largest_file_bytes,
    lay_out,
    read_header,
)
from federation.errors import (
    UpdateDtypeDiffers,
    UpdateNamesDiffer,
    UpdateNotSafetensors,
    UpdateShapeDiffers,
    UpdateTruncated,
)

Values = NDArray[Any]
_PIECE_VALUES: Final = 2**14

_NUMPY_DTYPES: Final[Mapping[str, np.dtype[Any]]] = {
    "F64": np.dtype("<f8"),
    "F32": np.dtype("<f4"),
    "F16": np.dtype("<f2"),
    "I8": np.dtype("i1"),
    "U8": np.dtype("u1"),
}


def numpy_dtype(dtype: str) -> np.dtype[Any]:
    """NumPy's dtype for one of the format's words."""
    return _NUMPY_DTYPES[dtype]


class TensorFile:
    """A safetensors file whose header was read and found to announce exactly the tensors that are expected."""

    def __init__(self, path: Path, header: Header) -> None:
        self._path = path
        self._header = header

    @classmethod
    def open(cls, path: Path, kinds: Mapping[str, TensorKind]) -> Self:
        """Read the header of a file that must hold exactly these tensors.

        Raises:
            UpdateRefused: one class per reason, see `federation.errors`.
        """
        header = read_header(path, max_bytes=largest_file_bytes(kinds.values()))
        check_kinds(header, kinds)
        return cls(path, header)

    @cached_property
    def kinds(self) -> dict[str, TensorKind]:
        """The tensors' dtypes and shapes."""
        return {name: TensorKind(entry.dtype, entry.shape) for name, entry in self._header.entries.items()}

    @property
    def metadata(self) -> Mapping[str, str]:
        """The file's metadata."""
        return self._header.metadata

    def read(self, name: str, start: int, stop: int) -> Values:
        """Values of a flattened tensor, in its own dtype. Raises UpdateTruncated for a file that was cut since."""
        entry = self._header.entries[name]
        dtype = _NUMPY_DTYPES[entry.dtype]
        offset = self._header.data_start + entry.start + start * dtype.itemsize
        values = np.fromfile(self._path, dtype=dtype, count=stop - start, offset=offset)
        if values.size != stop - start:
            raise self._truncated(offset + (stop - start) * dtype.itemsize)
        return values

    def read_into(self, target: NDArray[np.float64], name: str, start: int) -> None:
        """Fill `target` with a flattened tensor's values from `start` on. Raises UpdateTruncated, as `read` does.

        In pieces that stay in the processor's cache, and in memory that stays: fresh memory for each of many updates
        would cost more than reading them.
        """
        entry = self._header.entries[name]
        dtype = _NUMPY_DTYPES[entry.dtype]
        offset = self._header.data_start + entry.start + start * dtype.itemsize
        piece = np.empty(min(_PIECE_VALUES, target.size), dtype)
        with self._path.open("rb", buffering=0) as file:
            file.seek(offset)
            for done in range(0, target.size, _PIECE_VALUES):
                part = piece[: target.size - done]
                if file.readinto(part.data.cast("B")) != part.nbytes:
                    raise self._truncated(offset + target.size * dtype.itemsize)
                target[done : done + part.size] = part

    def _truncated(self, wanted_bytes: int) -> UpdateTruncated:
        return UpdateTruncated(size_bytes=self._path.stat().st_size, wanted_bytes=wanted_bytes)


def open_version(path: Path) -> TensorFile:
    """Open a stored version: our own bytes, whose digest was checked."""
    header = read_header(path, max_bytes=path.stat().st_size)
    for name, entry in header.entries.items():
        if entry.dtype not in ITEM_BYTES:
            raise UpdateDtypeDiffers(name=name, found=entry.dtype, expected=" or ".join(ITEM_BYTES))
    file = TensorFile(path, header)
    check_kinds(header, file.kinds)
    return file


def check_kinds(header: Header, kinds: Mapping[str, TensorKind]) -> None:
    """Check that a header announces exactly these tensors, each with as many bytes as it needs.

    Raises:
        UpdateNamesDiffer, UpdateDtypeDiffers, UpdateShapeDiffers, UpdateNotSafetensors.
    """
    if header.entries.keys() != kinds.keys():
        missing, unknown = kinds.keys() - header.entries.keys(), header.entries.keys() - kinds.keys()
        raise UpdateNamesDiffer(missing=sorted(missing), unknown=sorted(unknown))
    for name, kind in kinds.items():
        _check_kind(name, header.entries[name], kind)


def _check_kind(name: str, entry: Entry, kind: TensorKind) -> None:
    if entry.dtype != kind.dtype:
        raise UpdateDtypeDiffers(name=name, found=entry.dtype, expected=kind.dtype)
    if entry.shape != kind.shape:
        raise UpdateShapeDiffers(name=name, found=entry.shape, expected=kind.shape)
    if entry.end - entry.start != kind.n_bytes:
        raise UpdateNotSafetensors(
            problem=f"the data of {name[:80]!r} have {entry.end - entry.start} bytes and need {kind.n_bytes}"
        )


class TensorWriter:
    """Writes a safetensors file of known tensors, in any order; the same values and metadata give the same bytes."""

    def __init__(self, path: Path, kinds: Mapping[str, TensorKind], metadata: Mapping[str, str]) -> None:
        self._entries = lay_out(kinds)
        header = header_bytes(self._entries, metadata)
        self._data_start = len(header)
        self._descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        self._write_at(0, header)
        os.ftruncate(self._descriptor, len(header) + sum(kind.n_bytes for kind in kinds.values()))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        os.close(self._descriptor)

    def write(self, name: str, start: int, values: Values) -> None:
        """Write values of the tensor's own dtype, from its flattened value number `start` on."""
        entry = self._entries[name]
        dtype = _NUMPY_DTYPES[entry.dtype]
        assert values.dtype == dtype
        place = self._data_start + entry.start + start * dtype.itemsize
        self._write_at(place, np.ascontiguousarray(values).data.cast("B") if values.size else b"")

    def _write_at(self, place: int, data: bytes | memoryview) -> None:
        while data:
            n_written = os.pwrite(self._descriptor, data, place)
            data, place = data[n_written:], place + n_written


def to_bytes(tensors: Mapping[str, Values], metadata: Mapping[str, str]) -> bytes:
    """A safetensors file of whole tensors, the same bytes for the same content."""
    kinds = {name: TensorKind(_format_name(tensor.dtype), tensor.shape) for name, tensor in tensors.items()}
    entries = lay_out(kinds)
    data: Iterable[bytes] = (np.ascontiguousarray(tensors[name]).tobytes() for name in entries)
    return header_bytes(entries, metadata) + b"".join(data)


def _format_name(dtype: np.dtype[Any]) -> str:
    return next(name for name, known in _NUMPY_DTYPES.items() if known == dtype)
