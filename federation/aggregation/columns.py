"""Updates read by columns, and never more of them than fits in memory: a row is an update, a column one value.

What adds updates up reads them one after the other; what compares them reads blocks of all rows and few columns.
"""

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from federation.aggregation.files import TensorFile
from federation.aggregation.headers import Shape
from federation.aggregation.wire import GROUP, read_columns
from federation.aggregation_settings import WireDtype
from federation.errors import UpdateNotFinite

ROW_BYTES: Final = 2**18  # of what is read one row after the other
BLOCK_BYTES: Final = 8 * 2**20  # of what is read with all rows: more tenants shall not take more

Vector = NDArray[np.float64]
"""[n_columns]: one value for each column of a block."""

Block = NDArray[np.float64]
"""[n_updates, n_columns]; whoever is given one may write into it."""

Changes = Iterator[tuple["Columns", Vector]]
"""What a rule makes of the updates, from the first columns to the last."""

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


def columns_of(n_values: Mapping[str, int], *, n_bytes: int) -> Iterator[Columns]:
    """All columns of tensors of these sizes, by name; a row of them has `n_bytes` at most where one group fits."""
    width = max(n_bytes // np.dtype(np.float64).itemsize // GROUP, 1) * GROUP
    for name in sorted(n_values):
        for start in range(0, n_values[name], width):
            yield Columns(name, start, min(start + width, n_values[name]))


class Updates:
    """The updates of a round, which hold tensors of the same shapes and travel in the same dtype.

    All that reads them raises UpdateNotFinite for a NaN or an infinity among their values.
    """

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

    def of(self, numbers: Iterable[int]) -> "Updates":
        """Those of these numbers, counted from 0."""
        files = [self._files[number] for number in numbers]
        return Updates(files, self._n_values, self._dtype, self._beat)

    def blocks(self) -> Iterator[tuple[Columns, Block]]:
        """All rows of some columns at once, from the first columns to the last."""
        for columns in columns_of(self._n_values, n_bytes=BLOCK_BYTES // len(self)):
            block = np.empty((len(self), columns.stop - columns.start))
            for row, file in zip(block, self._files, strict=True):
                self._read(row, columns, file)
            check_finite(columns.name, block)
            yield columns, block

    def sums(self, scales: Vector) -> Changes:
        """The sum of all updates, each times its own scale ([n_updates]).

        They are added in their order: unlike by BLAS, the same bits on any number of threads.
        """
        for columns in columns_of(self._n_values, n_bytes=ROW_BYTES):
            total = np.zeros(columns.stop - columns.start)
            with np.errstate(over="ignore", invalid="ignore"):
                for scale, row in zip(scales, self._rows(columns), strict=True):
                    row *= scale
                    total += row
            self._judge_sum(columns, total)
            yield columns, total

    def squared_norms(self) -> Vector:
        """The sum of each update's squares, [n_updates]."""
        squares = np.zeros(len(self))
        for columns in columns_of(self._n_values, n_bytes=ROW_BYTES):
            for number, row in enumerate(self._rows(columns)):
                square = sum_of_squares(row)
                if not math.isfinite(square):  # what is finite may still have squares that are not
                    check_finite(columns.name, row)
                squares[number] += square
        return squares

    def _rows(self, columns: Columns) -> Iterator[Vector]:
        """These columns of one update after the other, in the same memory, into which one may write."""
        row = np.empty(columns.stop - columns.start)
        for file in self._files:
            self._read(row, columns, file)
            yield row

    def _read(self, row: Vector, columns: Columns, file: TensorFile) -> None:
        self._beat()
        read_columns(row, file, columns.name, columns.start, self._dtype)

    def _judge_sum(self, columns: Columns, total: Vector) -> None:
        """Finite is what has a finite sum; where that is not, an update is to blame, or the scales are."""
        if not np.isfinite(total).all():
            for row in self._rows(columns):
                check_finite(columns.name, row)


def sum_of_squares(values: Vector) -> float:
    """Infinite where it does not fit."""
    with np.errstate(over="ignore", invalid="ignore"):
        return float(np.einsum("i,i->", values, values))


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
