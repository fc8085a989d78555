"""The coordinate-wise trimmed mean (Yin et al. 2018, arXiv 1803.01498): up to `n_trimmed` bad updates move it within
the rest. Each update counts once, whatever its examples.
"""

from federation.aggregation.columns import Block, Combine, UpdateBlocks, Vector
from federation.aggregation_settings import TrimmedMean


def prepare(settings: TrimmedMean, updates: UpdateBlocks, _: Vector) -> Combine:
    """The mean of what is left when the largest and the smallest values of each column are gone."""
    kept = slice(settings.n_trimmed, len(updates) - settings.n_trimmed)

    def combine(block: Block) -> Vector:
        block.sort(axis=0)
        mean: Vector = block[kept].mean(axis=0)
        return mean

    return combine
