"""FedAdam (Reddi et al. 2020, arXiv 2003.00295), with the bias correction of Adam (Kingma and Ba 2014, 1412.6980).

The paper leaves the correction out; without it the first steps of short federations come out too long or too short.
"""

from collections.abc import Mapping
from typing import Final

import numpy as np

from federation.aggregation.columns import Vector
from federation.aggregation_settings import FedAdam

SLOTS: Final = ("first_moment", "second_moment")


def step(
    settings: FedAdam, change: Vector, state: Mapping[str, Vector], number: int
) -> tuple[Vector, Mapping[str, Vector]]:
    """The first moment over the root of the second; `epsilon` is the paper's tau."""
    first = settings.beta_1 * state["first_moment"] + (1 - settings.beta_1) * change
    second = settings.beta_2 * state["second_moment"] + (1 - settings.beta_2) * change**2
    rate = settings.learning_rate * np.sqrt(1 - settings.beta_2**number) / (1 - settings.beta_1**number)
    return rate * first / (np.sqrt(second) + settings.epsilon), {
        "first_moment": first,
        "second_moment": second,
    }
