"""A parent version and updates for the tests of aggregation, made with the safetensors library."""

import hashlib
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import load, save

from federation.aggregation.combining import Recipe, WeightedUpdate, combine
from federation.aggregation.updates import ExpectedUpdate
from federation.aggregation_settings import WeightedMean

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


@contextmanager
def as_files(*contents: bytes) -> Iterator[list[Path]]:
    """Files with these contents, in a directory that is gone afterwards."""
    with tempfile.TemporaryDirectory() as directory:
        paths = [Path(directory, str(number)) for number in range(len(contents))]
        for path, content in zip(paths, contents, strict=True):
            path.write_bytes(content)
        yield paths


Tensors = Mapping[str, NDArray[Any]]


@dataclass(frozen=True)
class Made:
    """A candidate's files as bytes."""

    version: bytes
    broadcast: bytes
    server_state: bytes | None

    @property
    def tensors(self) -> dict[str, NDArray[Any]]:
        """The version's."""
        found: dict[str, NDArray[Any]] = load(self.version)
        return found


def combined(
    changes: Sequence[Tensors | bytes],
    weights: Sequence[float] | None = None,
    *,
    parent: Tensors | bytes = PARENT_TENSORS,
    server_state: bytes | None = None,
    **recipe: Any,
) -> Made:
    """What aggregation makes of these updates, by the weighted mean if nothing else is said."""
    contents = [change if isinstance(change, bytes) else save(dict(change)) for change in changes]
    version = parent if isinstance(parent, bytes) else save(dict(parent))
    state = [] if server_state is None else [server_state]
    with as_files(version, *contents, *state) as paths:
        updates = paths[1 : 1 + len(contents)]
        weighted = zip(updates, weights or [1.0] * len(contents), strict=True)
        candidate = combine(
            version=paths[0],
            server_state=paths[-1] if state else None,
            updates=[WeightedUpdate(path, weight) for path, weight in weighted],
            recipe=Recipe(**{"rule": WeightedMean(kind="weighted_mean"), **recipe}),
            directory=paths[0].parent,
        )
        kept = candidate.server_state
        return Made(
            version=candidate.version.read_bytes(),
            broadcast=candidate.broadcast.read_bytes(),
            server_state=None if kept is None else kept.read_bytes(),
        )
