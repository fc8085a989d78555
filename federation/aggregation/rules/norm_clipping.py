"""Norm clipping (Sun et al. 2019, arXiv 1911.07963): each update is scaled down to `max_norm` at most, then averaged.

The mean's norm is at most `max_norm`, whatever was sent.
"""

import numpy as np

from federation.aggregation.columns import Changes, Updates, Vector
from federation.aggregation_settings import NormClipping


def changes(settings: NormClipping, updates: Updates, weights: Vector) -> Changes:
    """The weighted mean of the clipped updates."""
    # A norm that overflows leaves nothing of its update.
    factors = settings.max_norm / np.maximum(np.sqrt(updates.squared_norms()), settings.max_norm)
    total_weight = weights.sum()
    for columns, total in updates.sums(weights * factors):
        yield columns, total / total_weight
