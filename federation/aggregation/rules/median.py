"""The coordinate-wise median (Yin et al. 2018, arXiv 1803.01498): fewer than half bad updates move it within the rest.

Each update counts once, whatever its examples.
"""

import numpy as np

from federation.aggregation.columns import Changes, Updates, Vector
from federation.aggregation_settings import Median


def changes(_: Median, updates: Updates, __: Vector) -> Changes:
    """Of an even number of updates: the mean of the two in the middle."""
    for columns, block in updates.blocks():
        yield columns, np.median(block, axis=0, overwrite_input=True)
