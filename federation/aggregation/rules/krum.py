"""Krum (Blanchard et al. 2017, arXiv 1703.02757): the update whose nearest neighbours are nearest.

Each update counts once, whatever its examples: weights would let a bad tenant have more of them.
"""

import numpy as np

from federation.aggregation.columns import Changes, Updates, Vector
from federation.aggregation_settings import Krum


def changes(settings: Krum, updates: Updates, _: Vector) -> Changes:
    """One of the updates, unchanged; of several with the same score, the first."""
    best = int(np.argmin(scores(updates, n_byzantine=settings.n_byzantine)))
    return updates.of([best]).sums(np.ones(1))


def scores(updates: Updates, *, n_byzantine: int) -> Vector:
    """Each update's sum of squared distances to its n - f - 2 nearest others; [n_updates].

    Distances come from the updates' inner products, which are summed over the blocks.
    """
    products = np.zeros((len(updates), len(updates)))
    with np.errstate(over="ignore", invalid="ignore"):
        for _, block in updates.blocks():
            products += block @ block.T
        squares = products.diagonal().copy()
        distances = np.maximum(squares[:, None] + squares[None, :] - 2 * products, 0)
    np.fill_diagonal(distances, np.inf)
    distances.sort(axis=1)
    nearest: Vector = distances[:, : len(updates) - n_byzantine - 2].sum(axis=1)
    return nearest
