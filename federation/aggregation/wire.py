"""How tensors travel: as they are, as halves, or as small integers with a scale for every 64 values.

`float32` and `float16` keep a tensor's name and shape. `int8` keeps them too, and adds `NAME.scale`; `int4` flattens
the tensor to bytes of two values each, the first in the low four bits, and adds the same. A scale is the float32 by
which the 64 consecutive values of its group are multiplied; integers are symmetric about zero (int4: stored plus 8)
and rounded to the nearest.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from math import ceil, prod
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import load

from federation.aggregation.files import TensorFile, Values, to_bytes
from federation.aggregation.headers import Shape, TensorKind
from federation.aggregation_settings import BroadcastDtype, WireDtype
from federation.errors import UpdateNotFinite

# One entry only: it is what PEFT looks for.
VERSION_METADATA: Final = {"format": "pt"}
GROUP: Final = 64
_FLOATS: Final[Mapping[str, str]] = {"float32": "F32", "float16": "F16"}
_LARGEST: Final[Mapping[str, int]] = {"int8": 127, "int4": 7}
_INT4_ZERO: Final = 8


@dataclass(frozen=True)
class Packed:
    """Consecutive values of a flattened tensor as they travel: floats, or integers and their groups' scales."""

    codes: Values
    scales: NDArray[np.float32] | None

    @property
    def is_finite(self) -> bool:
        """Whether all values fitted."""
        return bool(np.isfinite(self.codes if self.scales is None else self.scales).all())


def scale_name(name: str) -> str:
    """The tensor that holds the scales of the tensor of this name."""
    return f"{name}.scale"


def wire_kinds(shapes: Mapping[str, Shape], dtype: WireDtype) -> dict[str, TensorKind]:
    """The tensors of a file in which tensors of these shapes travel."""
    return dict(kind for name, shape in shapes.items() for kind in _wire_kinds(name, shape, dtype))


def _wire_kinds(name: str, shape: Shape, dtype: WireDtype) -> Iterator[tuple[str, TensorKind]]:
    if dtype in _FLOATS:
        yield name, TensorKind(_FLOATS[dtype], shape)
        return
    yield name, TensorKind("I8", shape) if dtype == "int8" else TensorKind("U8", (ceil(prod(shape) / 2),))
    yield scale_name(name), TensorKind("F32", (ceil(prod(shape) / GROUP),))


def pack(values: NDArray[np.floating], dtype: WireDtype) -> Packed:
    """Put flat values into the form in which they travel; a part of a tensor begins at a multiple of `GROUP`."""
    with np.errstate(over="ignore", invalid="ignore"):
        if dtype in _FLOATS:
            return Packed(values.astype(dtype), None)
        groups = np.zeros((ceil(values.size / GROUP), GROUP), np.float64)
        groups.ravel()[: values.size] = values
        scales = (np.abs(groups).max(axis=1) / _LARGEST[dtype]).astype(np.float32)
        divisors = np.where(scales > 0, scales, 1).astype(np.float64)[:, None]
        largest = _LARGEST[dtype]
        codes = np.clip(np.rint(groups / divisors), -largest, largest).astype(np.int8).ravel()[: values.size]
    return Packed(codes if dtype == "int8" else _in_halves(codes), scales)


def unpack(packed: Packed, dtype: WireDtype, n_values: int) -> NDArray[np.float64]:
    """The flat values that `packed` stands for, as many as it was made from."""
    if packed.scales is None:
        return packed.codes.astype(np.float64)
    codes = packed.codes if dtype == "int8" else _from_halves(packed.codes)[:n_values]
    values = codes.astype(np.float64)
    n_whole = n_values - n_values % GROUP
    scales = packed.scales.astype(np.float64)
    with np.errstate(invalid="ignore"):  # a scale that is not finite is found by whoever reads the values
        values[:n_whole].reshape(-1, GROUP)[...] *= scales[: n_whole // GROUP, None]
        values[n_whole:] *= scales[n_whole // GROUP :]
    return values


def _in_halves(codes: NDArray[np.int8]) -> NDArray[np.uint8]:
    shifted = (codes + np.int8(_INT4_ZERO)).astype(np.uint8)
    if shifted.size % 2:
        shifted = np.append(shifted, np.uint8(_INT4_ZERO))
    halves: NDArray[np.uint8] = shifted[0::2] | (shifted[1::2] << np.uint8(4))
    return halves


def _from_halves(halves: Values) -> NDArray[np.int8]:
    codes = np.empty(2 * halves.size, np.int8)
    codes[0::2], codes[1::2] = halves & np.uint8(15), halves >> np.uint8(4)
    return codes - np.int8(_INT4_ZERO)


def read_columns(
    target: NDArray[np.float64], file: TensorFile, name: str, start: int, dtype: WireDtype
) -> None:
    """Fill `target` with a flattened tensor's values from `start` on, as they travel in `file`.

    `start` is a multiple of `GROUP`. A file of integers holds finite values if its scales are finite, which is for the
    caller to find out.
    """
    if dtype in _FLOATS:
        file.read_into(target, name, start)
        return
    stop = start + target.size
    scales = file.read(scale_name(name), start // GROUP, ceil(stop / GROUP))
    n_a_code = 1 if dtype == "int8" else 2
    codes = file.read(name, start // n_a_code, ceil(stop / n_a_code))
    target[:] = unpack(Packed(codes, scales), dtype, target.size)


def encode(
    tensors: Mapping[str, NDArray[np.floating]], dtype: WireDtype, metadata: Mapping[str, str]
) -> bytes:
    """A safetensors file of the tensors as they travel, the same bytes for the same values.

    Raises:
        UpdateNotFinite: a value is NaN or infinite, or does not fit into the dtype.
    """
    parts: dict[str, Values] = {}
    kinds = wire_kinds({name: tensor.shape for name, tensor in tensors.items()}, dtype)
    for name, tensor in tensors.items():
        packed = pack(tensor.ravel(), dtype)
        if not packed.is_finite:
            values = packed.codes if packed.scales is None else tensor
            raise UpdateNotFinite(name=name, n_values=int(np.count_nonzero(~np.isfinite(values))))
        parts[name] = packed.codes.reshape(kinds[name].shape)
        if packed.scales is not None:
            parts[scale_name(name)] = packed.scales
    return to_bytes(parts, metadata)


def decode(
    data: bytes, dtype: WireDtype, shapes: Mapping[str, Shape] | None = None
) -> dict[str, NDArray[np.float32]]:
    """The tensors that `encode` wrote. `int4` needs their shapes, which its file does not tell.

    For bytes whose digest is known: raises the library's SafetensorError or KeyError for others.
    """
    parts: dict[str, NDArray[Any]] = load(data)
    if shapes is None:
        assert dtype != "int4"
        scales = {scale_name(name) for name in parts} if dtype == "int8" else set()
        shapes = {name: part.shape for name, part in parts.items() if name not in scales}
    return {name: _decoded(parts, name, shape, dtype) for name, shape in shapes.items()}


def in_broadcast_form(version: bytes, dtype: BroadcastDtype) -> bytes:
    """A version of our own as tenants get it, of which an aggregation writes the later ones itself.

    Raises:
        UpdateNotFinite: a value does not fit into the dtype.
    """
    return version if dtype == "float32" else encode(decode(version, "float32"), dtype, VERSION_METADATA)


def _decoded(
    parts: Mapping[str, NDArray[Any]], name: str, shape: Shape, dtype: WireDtype
) -> NDArray[np.float32]:
    packed = Packed(parts[name].ravel(), None if dtype in _FLOATS else parts[scale_name(name)])
    return unpack(packed, dtype, prod(shape)).astype(np.float32).reshape(shape)
