"""The weighted mean of updates: FedAvg (McMahan et al. 2017, arXiv 1602.05629), on the change of a prefix.

A mean of changes upon the broadcast parent is the mean of the prefixes, since all tenants started from the
same one.
"""

from federation.aggregation.columns import Changes, Updates, Vector
from federation.aggregation_settings import WeightedMean


def changes(_: WeightedMean, updates: Updates, weights: Vector) -> Changes:
    """Sum of weight times update over the sum of weights."""
    total_weight = weights.sum()
    for columns, total in updates.sums(weights):
        yield columns, total / total_weight
