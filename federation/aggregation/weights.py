"""How much an update counts."""

import math
from collections.abc import Callable
from dataclasses import dataclass

from federation.errors import WeightInvalid


@dataclass(frozen=True)
class WeightedUpdate:
    """An accepted update: its weight, and how to get its bytes when its turn comes."""

    weight: float
    load: Callable[[], bytes]


def capped_weight(n_examples: int, max_weight: int | None) -> float:
    """Weigh by examples, as FedAvg does, but no tenant by more than `max_weight` of them (None: no cap)."""
    weight = n_examples if max_weight is None else min(n_examples, max_weight)
    return checked_weight(float(weight))


def checked_weight(weight: float) -> float:
    """Return the weight. Raises WeightInvalid unless it is positive and finite."""
    if not (math.isfinite(weight) and weight > 0):
        raise WeightInvalid(weight=weight)
    return weight
