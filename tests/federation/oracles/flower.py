"""Writes flower.json beside this file: what Flower's strategies make of some updates, for our rules to be held to.

Run it in an environment that has flwr, which the project's own has not: `python tests/federation/oracles/flower.py`.
"""

import json
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

import numpy as np
from flwr.app import Array, ArrayRecord, Message, MetricRecord, RecordDict
from flwr.serverapp.strategy import (
    FedAdam,
    FedAvg,
    FedAvgM,
    FedMedian,
    FedTrimmedAvg,
    FedYogi,
    Krum,
    MultiKrum,
)
from flwr.supercore.task_identity import TaskIdentity
from numpy.typing import NDArray

FILE: Final = Path(__file__).with_suffix(".json")
N_ROUNDS: Final = 3
WEIGHTS: Final = [120, 800, 43, 260, 900, 75, 310]

Values = NDArray[np.float64]


def reply(values: Values, n_examples: int) -> Message:
    """A client's answer to a training message: its parameters and its number of examples."""
    content = RecordDict(
        {
            "arrays": ArrayRecord({"x": Array(values)}),
            "metrics": MetricRecord({"num-examples": n_examples}),
        }
    )
    asked = Message(content=RecordDict(), dst_node_id=1, message_type="train")
    return Message(content=content, reply_to=asked)


def aggregated(strategy: Any, parent: Values, changes: Values, weights: list[int], number: int) -> Values:
    """The parameters after one round."""
    replies = [reply(parent + change, weight) for change, weight in zip(changes, weights, strict=True)]
    arrays, _ = strategy.aggregate_train(number, replies)
    result: Values = arrays["x"].numpy()
    return result


def rules(parent: Values, changes: Values) -> dict[str, list[float]]:
    """One round by each rule. Multi-Krum's mean is weighted in Flower and plain in the paper: equal weights, then."""
    n, equal = len(changes), [1] * len(changes)
    cases: dict[str, tuple[Any, list[int]]] = {
        "weighted_mean": (FedAvg(), WEIGHTS),
        "median": (FedMedian(), WEIGHTS),
        "trimmed_mean": (FedTrimmedAvg(beta=2.5 / n), WEIGHTS),
        "krum": (Krum(num_malicious_nodes=2), equal),
        "multi_krum": (MultiKrum(num_malicious_nodes=2, num_nodes_to_select=3), equal),
    }
    return {
        name: aggregated(strategy, parent, changes, weights, 1).tolist()
        for name, (strategy, weights) in cases.items()
    }


def servers(parent: Values, rounds: Values) -> dict[str, list[list[float]]]:
    """Several rounds by each server optimizer, the parameters after each."""
    moments = {"beta_1": 0.9, "beta_2": 0.99}
    strategies: dict[str, Any] = {
        "fedavgm": FedAvgM(server_learning_rate=0.5, server_momentum=0.9),
        "fedadam": FedAdam(eta=0.06, tau=1e-6, **moments),
        "fedyogi": FedYogi(eta=0.01, tau=1e-3, **moments),
    }
    as_current: dict[str, Callable[[Values], Any]] = {
        "fedavgm": lambda values: ArrayRecord({"x": Array(values)}),
        "fedadam": lambda values: {"x": values},
        "fedyogi": lambda values: {"x": values},
    }
    found: dict[str, list[list[float]]] = {}
    for name, strategy in strategies.items():
        values, found[name] = parent, []
        # Flower corrects round r as Adam would its step r + 1; from 0 on, its rounds are Adam's steps.
        for number, changes in enumerate(rounds):
            strategy.current_arrays = as_current[name](values)
            values = aggregated(strategy, values, changes, WEIGHTS, number)
            found[name].append(values.tolist())
    return found


def main() -> None:
    """Draw inputs, ask Flower, write both down."""
    TaskIdentity.run_id = TaskIdentity.node_id = TaskIdentity.task_id = 1  # messages want to be someone's
    generator = np.random.default_rng(5)
    parent = generator.normal(size=10)
    rounds = generator.normal(scale=0.02, size=(N_ROUNDS, len(WEIGHTS), parent.size))
    rounds[0, 3] *= 40  # one bad update
    told = {
        "made_by": f"flwr {version('flwr')}, numpy {version('numpy')}",
        "parent": parent.tolist(),
        "weights": WEIGHTS,
        "rounds": rounds.tolist(),
        "rules": rules(parent, rounds[0]),
        "servers": servers(parent, rounds),
    }
    FILE.write_text(json.dumps(told, indent=1) + "\n")


if __name__ == "__main__":
    main()
