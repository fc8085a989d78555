"""States and updates as safetensors bytes, the same bytes for the same numbers."""

import json
import struct
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from safetensors import SafetensorError
from safetensors.torch import load as load_tensors
from safetensors.torch import save as save_tensors
from torch import Tensor

from federation.aggregation import wire
from federation.aggregation_settings import BroadcastDtype
from federation.specification import Upload
from training_workers.errors import StateIncompatible, StateUnreadable

_LENGTH = struct.Struct("<Q")
_ALIGNMENT = 8


def to_bytes(state: Mapping[str, Tensor], metadata: Mapping[str, str]) -> bytes:
    """A safetensors file; `format: pt` is added to the metadata, as PEFT wants it.

    The library writes several metadata in an order that changes from process to process, and with it the file's
    digest: the header is written again, sorted.
    """
    content = save_tensors(dict(state), metadata={"format": "pt", **metadata})
    (n_header_bytes,) = _LENGTH.unpack_from(content)
    body = content[_LENGTH.size + n_header_bytes :]
    header = json.loads(content[_LENGTH.size : _LENGTH.size + n_header_bytes])
    written = json.dumps(header, sort_keys=True, separators=(",", ":")).encode()
    written += b" " * (-len(written) % _ALIGNMENT)
    return _LENGTH.pack(len(written)) + written + body


def from_bytes(content: bytes) -> dict[str, Tensor]:
    """The tensors of a safetensors file, on the CPU.

    Raises:
        StateUnreadable: the bytes are no such file.
    """
    try:
        return load_tensors(content)
    except SafetensorError as error:
        raise StateUnreadable(reason=str(error)[:200]) from None


@dataclass(frozen=True)
class Sent:
    """An update as it travels, and what error feedback keeps of it: None without."""

    content: bytes
    residual: dict[str, Tensor] | None


def send(
    update: Mapping[str, Tensor],
    upload: Upload,
    metadata: Mapping[str, str],
    *,
    residual: Mapping[str, Tensor] | None = None,
) -> Sent:
    """Put an update into the form in which it travels.

    With error feedback `residual`, what the last accepted upload left out, is added first (Seide et al. 2014;
    Karimireddy et al. 2019, arXiv 1901.09847).

    Raises:
        UpdateNotFinite: a value is NaN or infinite, or does not fit into the dtype.
    """
    wanted = update if residual is None else moved(update, residual)
    values = {name: tensor.numpy() for name, tensor in wanted.items()}
    content = wire.encode(values, upload.dtype, {**wire.VERSION_METADATA, **metadata})
    if not upload.error_feedback:
        return Sent(content, None)
    found = wire.decode(content, upload.dtype, {name: array.shape for name, array in values.items()})
    return Sent(content, {name: tensor - torch.from_numpy(found[name]) for name, tensor in wanted.items()})


def unpacked(content: bytes, dtype: BroadcastDtype) -> dict[str, Tensor]:
    """The float32 tensors of a version as tenants get it. Raises StateUnreadable for other bytes."""
    try:
        return {name: torch.from_numpy(array) for name, array in wire.decode(content, dtype).items()}
    except (SafetensorError, KeyError) as error:
        raise StateUnreadable(reason=str(error)[:200]) from None


def check_like(shapes: Mapping[str, tuple[int, ...]], state: Mapping[str, Tensor]) -> None:
    """Refuses a state that has not these finite float32 tensors and no other.

    Raises:
        StateIncompatible: the first tensor that differs, and how.
    """
    for name in sorted(set(state) ^ set(shapes)):
        found, expected = ("missing", "present") if name in shapes else ("present", "no tensor of the method")
        raise StateIncompatible(tensor=name, found=found, expected=expected)
    for name, shape in shapes.items():
        tensor = state[name]
        if tuple(tensor.shape) != shape or tensor.dtype != torch.float32:
            found = f"{tensor.dtype} {tuple(tensor.shape)}"
            raise StateIncompatible(tensor=name, found=found, expected=f"torch.float32 {shape}")
        if not bool(torch.isfinite(tensor).all()):
            raise StateIncompatible(tensor=name, found="not finite", expected="finite")


def moved(state: Mapping[str, Tensor], update: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The state with an update added; tensors that the update does not hold stay as they are."""
    return {name: tensor + update[name] if name in update else tensor for name, tensor in state.items()}
