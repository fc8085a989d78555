"""FedAvgM (Hsu et al. 2019, arXiv 1909.06335): server momentum."""

from collections.abc import Mapping
from typing import Final

from federation.aggregation.columns import Vector
from federation.aggregation_settings import FedAvgM

SLOTS: Final = ("momentum",)


def step(
    settings: FedAvgM, change: Vector, state: Mapping[str, Vector], _: int
) -> tuple[Vector, Mapping[str, Vector]]:
    """Momentum times what was, plus the change; times the rate."""
    momentum = settings.momentum * state["momentum"] + change
    return settings.learning_rate * momentum, {"momentum": momentum}
