"""What the rounds move: random float32 numbers that no compression makes smaller. The peers import this, too."""

from typing import Any

import numpy as np

from tests.benchmarks.rounds import marks

Values = np.ndarray[Any, np.dtype[np.float32]]
NOISE_SCALE = 0.01
_WIDTH = 64


def payload() -> Values:
    """The numbers that a round begins with."""
    return _normal(0)


def noise(seed: int) -> Values:
    """What a tenant adds to the payload."""
    return _normal(seed) * np.float32(NOISE_SCALE)


def _normal(seed: int) -> Values:
    n_values = marks.number(marks.PAYLOAD_BYTES) // 4
    values = np.random.default_rng(seed).standard_normal(n_values, dtype=np.float32)
    return values[: n_values // _WIDTH * _WIDTH].reshape(-1, _WIDTH)
