"""The weighted mean of updates: FedAvg (McMahan et al. 2017, arXiv 1602.05629), on the change of a prefix.

A mean of changes upon the broadcast parent is the mean of the prefixes, since all tenants started from the
same one.
"""

import numpy as np

from federation.aggregation.columns import Block, Combine, UpdateBlocks, Vector
from federation.aggregation_settings import WeightedMean


def prepare(_: WeightedMean, __: UpdateBlocks, weights: Vector) -> Combine:
    """Sum of weight times update over the sum of weights."""
    return lambda block: weighted_mean(block, weights)


def weighted_mean(block: Block, weights: Vector) -> Vector:
    """The rows' weighted mean, summed in their order: unlike by BLAS, the same bits on any number of threads."""
    with np.errstate(over="ignore", invalid="ignore"):
        mean: Vector = np.einsum("i,ij->j", weights, block) / weights.sum()
    return mean
