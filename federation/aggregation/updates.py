"""The checks that an update passes before it may count.

An update is a safetensors file with those tensors of the parent version (names, dtypes, shapes) that the method
trains, holding trained - parent, and metadata that name what it was made for: `round`, `tenant`, `attempt`,
`base` and `parent`. The norm bound against the parent version is the plain defence against one tenant who
outweighs all (Sun et al. 2019, arXiv 1911.07963).
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from federation.aggregation.tensors import (
    Sends,
    Tensors,
    largest_update_bytes,
    load_like,
    load_parent,
    read_header,
    sent_tensors,
)
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

    `base` is the digest of the base model's weights, `parent_sha256` that of the parent version's file.
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


_ORIGIN_ERRORS: dict[str, type[UpdateOriginDiffers]] = {
    "base": UpdateForWrongBase,
    "round": UpdateFromWrongRound,
    "tenant": UpdateFromWrongTenant,
    "attempt": UpdateFromWrongAttempt,
    "parent": UpdateForWrongParent,
}


def check_update(
    data: bytes, *, parent: bytes, expected: ExpectedUpdate, max_relative_norm: float, sends: Sends
) -> UpdateFacts:
    """Check an update against its parent version and against what it was asked for.

    Its norm is measured against the whole parent's: what LoRA trains begins at zero.

    Raises:
        UpdateRefused: one class with a code of its own per reason, see `federation.errors`.
    """
    parent_tensors = load_parent(parent)
    sent = sent_tensors(parent_tensors, sends)
    header = read_header(data, max_bytes=largest_update_bytes(sent))
    _check_origin(header.metadata, expected)
    update = load_like(sent, data, header)
    facts = _measure(update, parent_tensors)
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


def _measure(update: Tensors, parent: Tensors) -> UpdateFacts:
    norm, parent_norm = _norm(update), _norm(parent)
    # A change of nothing is measured against nothing: only no change at all is small beside it.
    relative = norm / parent_norm if parent_norm > 0 else (math.inf if norm > 0 else 0.0)
    return UpdateFacts(
        n_values=sum(tensor.size for tensor in update.values()), norm=norm, relative_norm=relative
    )


def _norm(tensors: Mapping[str, NDArray[np.floating]]) -> float:
    """The L2 norm over all values of all tensors, in float64."""
    with np.errstate(over="ignore"):
        squares = [float(np.sum(np.square(tensor, dtype=np.float64))) for tensor in tensors.values()]
    return math.sqrt(math.fsum(squares))
