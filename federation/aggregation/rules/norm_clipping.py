"""Norm clipping (Sun et al. 2019, arXiv 1911.07963): each update is scaled down to `max_norm` at most, then averaged.

The mean's norm is at most `max_norm`, whatever was sent.
"""

import numpy as np

from federation.aggregation.columns import Block, Combine, UpdateBlocks, Vector
from federation.aggregation.rules.weighted_mean import weighted_mean
from federation.aggregation_settings import NormClipping


def prepare(settings: NormClipping, updates: UpdateBlocks, weights: Vector) -> Combine:
    """The weighted mean of the clipped updates."""
    squares = np.zeros(len(updates))
    with np.errstate(over="ignore"):
        for _, block in updates:
            squares += np.einsum("ij,ij->i", block, block)
        # A norm that overflows leaves nothing of its update.
        factors = settings.max_norm / np.maximum(np.sqrt(squares), settings.max_norm)

    def combine(block: Block) -> Vector:
        block *= factors[:, None]
        return weighted_mean(block, weights)

    return combine
