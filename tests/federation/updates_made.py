"""A parent version and updates for the tests of aggregation, made with the safetensors library."""

import hashlib
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import save

from federation.aggregation.updates import ExpectedUpdate

ROUND, TENANT, BASE = "rnd_7", "tnt_acme", "b" * 64


def random_tensors(seed: int, *, scale: float = 1.0) -> dict[str, NDArray[np.float32]]:
    """Two tensors with names and shapes like those of a small method."""
    generator = np.random.default_rng(seed)
    shapes = {"prompt_embeddings": (4, 24), "gate": (3,)}
    return {
        name: (scale * generator.standard_normal(shape)).astype(np.float32) for name, shape in shapes.items()
    }


PARENT_TENSORS = random_tensors(0)
PARENT = save(PARENT_TENSORS, {"format": "pt"})

EXPECTED = ExpectedUpdate(
    round=ROUND, tenant=TENANT, attempt=2, base=BASE, parent_sha256=hashlib.sha256(PARENT).hexdigest()
)

METADATA = {
    "round": ROUND,
    "tenant": TENANT,
    "attempt": "2",
    "base": BASE,
    "parent": EXPECTED.parent_sha256,
}


def make_update(tensors: Mapping[str, NDArray[Any]] | None = None, **metadata: str) -> bytes:
    """An honest update, but for the tensors and metadata given."""
    chosen = random_tensors(1, scale=0.01) if tensors is None else dict(tensors)
    return save(chosen, {**METADATA, **metadata})
