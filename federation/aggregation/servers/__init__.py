"""Server optimizers, by which the updates' change becomes a step of the version: one file each, with its paper.

All work value by value: on any part of the tensors, and on the same part of their state, which begins with zeros.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from federation.aggregation.columns import Vector
from federation.aggregation.servers import fedadam, fedavgm, fedyogi
from federation.aggregation_settings import Server

State = Mapping[str, Vector]


@dataclass(frozen=True)
class Optimizer:
    """`slots` names the parts of its state; `step` takes its settings, the change, the state and the step's number.

    Steps are counted from 1. What comes back is the step and the state after it.
    """

    slots: tuple[str, ...]
    step: Callable[[Any, Vector, State, int], tuple[Vector, State]]


OPTIMIZERS: Final[Mapping[str, Optimizer]] = {
    "fedadam": Optimizer(fedadam.SLOTS, fedadam.step),
    "fedavgm": Optimizer(fedavgm.SLOTS, fedavgm.step),
    "fedyogi": Optimizer(fedyogi.SLOTS, fedyogi.step),
}


def slots_of(server: Server | None) -> tuple[str, ...]:
    """The parts of the optimizer's state; none where the change is the step."""
    return () if server is None else OPTIMIZERS[server.kind].slots


def take_step(server: Server | None, change: Vector, state: State, number: int) -> tuple[Vector, State]:
    """The step that the change leads to, and the state after it."""
    return (change, {}) if server is None else OPTIMIZERS[server.kind].step(server, change, state, number)
