"""Multi-Krum (Blanchard et al. 2017, arXiv 1703.02757): the plain mean of the `n_selected` best by Krum's score."""

import numpy as np

from federation.aggregation.columns import Changes, Updates, Vector
from federation.aggregation.rules import krum
from federation.aggregation_settings import MultiKrum


def changes(settings: MultiKrum, updates: Updates, _: Vector) -> Changes:
    """The mean of the best; of several with the same score, the first are taken."""
    order = np.argsort(krum.scores(updates, n_byzantine=settings.n_byzantine), kind="stable")
    selected = updates.of(np.sort(order[: settings.n_selected]))
    for columns, total in selected.sums(np.ones(len(selected))):
        yield columns, total / len(selected)
