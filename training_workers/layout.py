"""A batch without its padding: every row's real positions side by side, as one long row.

All of a model but attention works on each position by itself, so that padding costs nothing there. Attention spreads
the positions over their rows again.
"""

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class Layout:
    """Where real positions stand in a batch's rows.

    `places`, [n_real], are numbers of positions in rows that lie one after the other; `mask`, [n_rows, n_columns],
    tells real from padding.
    """

    mask: Tensor
    places: Tensor

    @classmethod
    def of(cls, mask: Tensor) -> "Layout":
        """Of a batch's `mask`, [n_rows, n_columns], nonzero where a position is real."""
        mask = mask.bool()
        return cls(mask=mask, places=mask.flatten().nonzero().squeeze(1))

    @property
    def has_padding(self) -> bool:
        """Whether there is anything to leave out."""
        return len(self.places) < self.mask.numel()

    def pack(self, rows: Tensor) -> Tensor:
        """[n_rows, n_columns, ...] -> [n_real, ...]."""
        positions = rows.flatten(0, 1)
        return positions.index_select(0, self.places) if self.has_padding else positions

    def spread(self, positions: Tensor) -> Tensor:
        """[n_real, ...] -> [n_rows, n_columns, ...], zero at padding."""
        if self.has_padding:
            empty = positions.new_zeros(self.mask.numel(), *positions.shape[1:])
            positions = empty.index_copy(0, self.places, positions)
        return positions.view(*self.mask.shape, *positions.shape[1:])
