"""Multi-Krum (Blanchard et al. 2017, arXiv 1703.02757): the plain mean of the `n_selected` best by Krum's score."""

import numpy as np

from federation.aggregation.columns import Block, Combine, UpdateBlocks, Vector
from federation.aggregation.rules import krum
from federation.aggregation_settings import MultiKrum


def prepare(settings: MultiKrum, updates: UpdateBlocks, _: Vector) -> Combine:
    """The mean of the best; of several with the same score, the first are taken."""
    order = np.argsort(krum.scores(updates, n_byzantine=settings.n_byzantine), kind="stable")
    selected = np.sort(order[: settings.n_selected])

    def combine(block: Block) -> Vector:
        mean: Vector = block[selected].mean(axis=0)
        return mean

    return combine
