"""The weighted mean of updates: FedAvg (McMahan et al. 2017, arXiv 1602.05629), on the change of a prefix.

A mean of changes upon the broadcast parent is the mean of the prefixes, since all tenants started from the
same one.
"""

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import save

from federation.aggregation.tensors import (
    Sends,
    Tensors,
    largest_update_bytes,
    load_like,
    load_parent,
    read_header,
    sent_tensors,
)
from federation.aggregation.weights import WeightedUpdate, checked_weight
from federation.errors import AggregateNotFinite, NothingToAggregate


def aggregate(parent: bytes, updates: Iterable[WeightedUpdate], *, sends: Sends) -> bytes:
    """Return parent + sum(weight * update) / sum(weight), with the parent's names, dtypes and shapes.

    What the method does not send stays as it is in the parent.

    Sums are kept in float64 and cast once; one update is in memory at a time. The same updates in the same
    order give the same bytes. Another order, or all weights times a factor, changes the float64 sums by
    rounding only; after the cast to float32 that is nothing, or the last bit of a few values (more where
    terms cancel almost wholly). So callers feed them sorted.

    Raises:
        NothingToAggregate: there is no update.
        WeightInvalid: a weight is not positive and finite, or their sum is not finite.
        UpdateRefused: an update has other tensors than the parent, or a value that is not finite.
        AggregateNotFinite: a result does not fit into the parent's dtype.
    """
    parent_tensors = load_parent(parent)
    sent = sent_tensors(parent_tensors, sends)
    sums = {name: np.zeros(tensor.shape, np.float64) for name, tensor in sent.items()}
    total_weight = 0.0
    for update in updates:
        weight = checked_weight(update.weight)
        total_weight = checked_weight(total_weight + weight)
        _add(sums, weight, sent, update.load())
    if not total_weight:
        raise NothingToAggregate
    moved = {name: _moved(name, tensor, sums[name] / total_weight) for name, tensor in sent.items()}
    # One metadata entry only: the library writes several in an order that changes from call to call.
    return save({**parent_tensors, **moved}, metadata={"format": "pt"})


def _add(sums: dict[str, NDArray[np.float64]], weight: float, parent: Tensors, data: bytes) -> None:
    """Add one update into the sums; its arrays are gone before the next one loads.

    Values so large that a sum overflows give an infinity or NaN here, which `_moved` finds in the result.
    """
    header = read_header(data, max_bytes=largest_update_bytes(parent))
    with np.errstate(over="ignore", invalid="ignore"):
        for name, change in load_like(parent, data, header).items():
            sums[name] += weight * change.astype(np.float64)


def _moved(name: str, tensor: NDArray[np.floating], change: NDArray[np.float64]) -> NDArray[np.floating]:
    """Return tensor + change, summed in float64 and cast to the tensor's dtype."""
    with np.errstate(over="ignore", invalid="ignore"):
        moved = (tensor.astype(np.float64) + change).astype(tensor.dtype)
    if not np.isfinite(moved).all():
        raise AggregateNotFinite(name=name, dtype=tensor.dtype.name)
    return moved
