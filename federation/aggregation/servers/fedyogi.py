"""FedYogi (Reddi et al. 2020, arXiv 2003.00295): FedAdam with a second moment that moves evenly up and down."""

from collections.abc import Mapping
from typing import Final

import numpy as np

from federation.aggregation.columns import Vector
from federation.aggregation_settings import FedYogi

SLOTS: Final = ("first_moment", "second_moment")


def step(
    settings: FedYogi, change: Vector, state: Mapping[str, Vector], _: int
) -> tuple[Vector, Mapping[str, Vector]]:
    """The first moment over the root of the second; `epsilon` is the paper's tau."""
    first = settings.beta_1 * state["first_moment"] + (1 - settings.beta_1) * change
    square = change**2
    before = state["second_moment"]
    second = before - (1 - settings.beta_2) * square * np.sign(before - square)
    return settings.learning_rate * first / (np.sqrt(second) + settings.epsilon), {
        "first_moment": first,
        "second_moment": second,
    }
