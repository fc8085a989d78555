"""The checks that an update passes before it may count.

An update is a safetensors file with the parent version's tensors (those that its method sends, in the dtype in which
they travel) holding trained - parent, and metadata that name what it was made for: `round`, `tenant`, `attempt`, `base`
and `parent`. The norm bound against the parent version is the plain defence against one tenant who outweighs all (Sun
et al. 2019, arXiv 1911.07963).
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from federation.aggregation.columns import (
    ROW_BYTES,
    Updates,
    columns_of,
    sends_all,
    shapes_of,
    sum_of_squares,
)
from federation.aggregation.files import TensorFile, check_kinds, open_version
from federation.aggregation.headers import largest_file_bytes, read_header
from federation.aggregation.wire import wire_kinds
from federation.aggregation_settings import WireDtype
from federation.errors import (
    UpdateForWrongBase,
    UpdateForWrongParent,
    UpdateFromWrongAttempt,
    UpdateFromWrongRound,
    UpdateFromWrongTenant,
    UpdateNormTooLarge,
    UpdateOriginDiffers,
)


@dataclass(frozen=True, kw_only=True)
class ExpectedUpdate:
    """What an update's metadata must say: public ids, the attempt's number, and SHA-256 digests in hex.

    `base` is the digest of the base model's weights, `parent_sha256` that of the file that tenants trained from.
    """

    round: str
    tenant: str
    attempt: int
    base: str
    parent_sha256: str


@dataclass(frozen=True, kw_only=True)
class UpdateFacts:
    """What is kept of an accepted update: its size, its L2 norm, and that norm over its parent's."""

    n_values: int
    norm: float
    relative_norm: float


class Parent:
    """The version that a round's updates change: opened once for all of them, and measured once."""

    def __init__(self, path: Path) -> None:
        self.file = open_version(path)

    @cached_property
    def norm(self) -> float:
        """The L2 norm over all values of all tensors."""
        n_values = {name: kind.n_values for name, kind in self.file.kinds.items()}
        squares = []
        for columns in columns_of(n_values, n_bytes=ROW_BYTES):
            row = np.empty(columns.stop - columns.start)
            self.file.read_into(row, columns.name, columns.start)
            squares.append(sum_of_squares(row))
        return math.sqrt(math.fsum(squares))


_ORIGIN_ERRORS: dict[str, type[UpdateOriginDiffers]] = {
    "base": UpdateForWrongBase,
    "round": UpdateFromWrongRound,
    "tenant": UpdateFromWrongTenant,
    "attempt": UpdateFromWrongAttempt,
    "parent": UpdateForWrongParent,
}


def check_update(
    update: Path,
    *,
    parent: Parent,
    expected: ExpectedUpdate,
    max_relative_norm: float,
    dtype: WireDtype = "float32",
    sends: Callable[[str], bool] = sends_all,
) -> UpdateFacts:
    """Check an update's file against its parent version's and against what it was asked for, in bounded memory.

    `dtype` is the one in which the federation's updates travel; `sends` tells which of the version's tensors they hold.

    Its norm is measured against the whole parent's: what LoRA trains begins at zero.

    Raises:
        UpdateRefused: one class with a code of its own per reason, see `federation.errors`.
    """
    shapes = shapes_of(parent.file, sends)
    kinds = wire_kinds(shapes, dtype)
    header = read_header(update, max_bytes=largest_file_bytes(kinds.values()))
    _check_origin(header.metadata, expected)
    check_kinds(header, kinds)
    n_values = {name: parent.file.kinds[name].n_values for name in shapes}
    facts = _measure(Updates([TensorFile(update, header)], n_values, dtype), parent)
    if facts.relative_norm > max_relative_norm:
        raise UpdateNormTooLarge(relative_norm=facts.relative_norm, max_relative_norm=max_relative_norm)
    return facts


def _check_origin(metadata: Mapping[str, str], expected: ExpectedUpdate) -> None:
    wanted = {
        "base": expected.base,
        "round": expected.round,
        "tenant": expected.tenant,
        "attempt": str(expected.attempt),
        "parent": expected.parent_sha256,
    }
    for field, error in _ORIGIN_ERRORS.items():
        found = metadata.get(field)
        if found != wanted[field]:
            raise error(found=found, expected=wanted[field])


def _measure(update: Updates, parent: Parent) -> UpdateFacts:
    [square] = update.squared_norms()
    norm = math.sqrt(square)
    # A change of nothing is measured against nothing: only no change at all is small beside it.
    relative = norm / parent.norm if parent.norm > 0 else (math.inf if norm > 0 else 0.0)
    return UpdateFacts(n_values=update.n_values, norm=norm, relative_norm=relative)
