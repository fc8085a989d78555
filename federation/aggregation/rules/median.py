"""The coordinate-wise median (Yin et al. 2018, arXiv 1803.01498): fewer than half bad updates move it within the rest.

Each update counts once, whatever its examples.
"""

import numpy as np

from federation.aggregation.columns import Block, Combine, UpdateBlocks, Vector
from federation.aggregation_settings import Median


def prepare(_: Median, __: UpdateBlocks, ___: Vector) -> Combine:
    """Of an even number of updates: the mean of the two in the middle."""
    return _median


def _median(block: Block) -> Vector:
    middle: Vector = np.median(block, axis=0, overwrite_input=True)
    return middle
