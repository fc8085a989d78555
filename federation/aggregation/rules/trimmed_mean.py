"""The coordinate-wise trimmed mean (Yin et al. 2018, arXiv 1803.01498): up to `n_trimmed` bad updates move it within
the rest. Each update counts once, whatever its examples.
"""

from federation.aggregation.columns import Changes, Updates, Vector
from federation.aggregation_settings import TrimmedMean


def changes(settings: TrimmedMean, updates: Updates, _: Vector) -> Changes:
    """The mean of what is left when the largest and the smallest values of each column are gone."""
    kept = slice(settings.n_trimmed, len(updates) - settings.n_trimmed)
    for columns, block in updates.blocks():
        block.sort(axis=0)
        yield columns, block[kept].mean(axis=0)
