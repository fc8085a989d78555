"""How much an update counts."""

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from federation.errors import WeightInvalid


def capped_weight(n_examples: int, max_weight: int | None) -> float:
    """Weigh by examples, as FedAvg does, but no tenant by more than `max_weight` of them (None: no cap)."""
    weight = n_examples if max_weight is None else min(n_examples, max_weight)
    return checked_weight(float(weight))


def checked_weights(weights: Sequence[float]) -> NDArray[np.float64]:
    """The weights as [n_updates]. Raises WeightInvalid unless each is positive and finite, and their sum too."""
    total = 0.0
    for weight in weights:
        total = checked_weight(total + checked_weight(weight))
    return np.array(weights, np.float64)


def checked_weight(weight: float) -> float:
    """Return the weight. Raises WeightInvalid unless it is positive and finite."""
    if not (math.isfinite(weight) and weight > 0):
        raise WeightInvalid(weight=weight)
    return weight
