"""Updates in blocks of columns: a row for each update, a column for each value, and never more than fits in memory."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from federation.aggregation.files import TensorFile
from federation.aggregation.headers import Shape
from federation.aggregation.wire import GROUP, read_columns
from federation.aggregation_settings import WireDtype
from federation.errors import UpdateNotFinite

BLOCK_BYTES: Final = 8 * 2**20  # what 4 updates of 0.9 MB take: more tenants shall not take more

Vector = NDArray[np.float64]
"""[n_columns]: one value for each column of a block."""

Block = NDArray[np.float64]
"""[n_updates, n_columns]; whoever is given one may write into it."""

Combine = Callable[[Block], Vector]
"""What a rule makes of each block, once it has seen all that it needs."""

Beat = Callable[[], None]
"""Called again and again while files are read: whoever waits sees that there is progress. What it raises ends it."""


def nothing() -> None:
    """The beat of a process that nobody waits for."""


@dataclass(frozen=True)
class Columns:
    """Values `start` to `stop` of a flattened tensor; `start` is a multiple of the wire's group."""

    name: str
    start: int
    stop: int


def columns_of(n_values: Mapping[str, int], *, n_rows: int) -> Iterator[Columns]:
    """All columns of tensors of these sizes, by name, in blocks that fit into `BLOCK_BYTES` where one group does."""
    width = max(BLOCK_BYTES // (np.dtype(np.float64).itemsize * n_rows) // GROUP, 1) * GROUP
    for name in sorted(n_values):
        for start in range(0, n_values[name], width):
            yield Columns(name, start, min(start + width, n_values[name]))


class UpdateBlocks:
    """The updates of a round, which hold tensors of the same shapes and travel in the same dtype."""

    def __init__(
        self, files: Sequence[TensorFile], n_values: Mapping[str, int], dtype: WireDtype, beat: Beat = nothing
    ) -> None:
        self._beat = beat
        self._files = files
        self._n_values = n_values
        self._dtype: WireDtype = dtype

    @property
    def n_values(self) -> int:
        """Values of one update."""
        return sum(self._n_values.values())

    def __len__(self) -> int:
        return len(self._files)

    def __iter__(self) -> Iterator[tuple[Columns, Block]]:
        """All blocks, from the first to the last. Raises UpdateNotFinite."""
        for columns in columns_of(self._n_values, n_rows=len(self)):
            self._beat()
            yield columns, self._read(columns)

    def _read(self, columns: Columns) -> Block:
        block = np.empty((len(self), columns.stop - columns.start))
        for row, file in zip(block, self._files, strict=True):
            row[:] = read_columns(file, columns.name, columns.start, columns.stop, self._dtype)
        check_finite(columns.name, block)
        return block


def check_finite(name: str, values: NDArray[np.float64]) -> None:
    """Raises UpdateNotFinite for a NaN or an infinity."""
    n_bad = values.size - int(np.count_nonzero(np.isfinite(values)))
    if n_bad:
        raise UpdateNotFinite(name=name, n_values=n_bad)


def sends_all(_: str) -> bool:
    """Updates hold every tensor of the version."""
    return True


def shapes_of(file: TensorFile, sends: Callable[[str], bool]) -> dict[str, Shape]:
    """The shapes of those tensors of a version that its federation's updates hold."""
    return {name: kind.shape for name, kind in file.kinds.items() if sends(name)}
