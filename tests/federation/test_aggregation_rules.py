"""Rules and server optimizers: their numbers against Flower's and NumPy's, and what bad updates can and cannot do."""

import json
import random
import tracemalloc
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from pydantic import TypeAdapter

from federation import errors
from federation.aggregation.rules import _CHANGES
from federation.aggregation.servers import OPTIMIZERS
from federation.aggregation_settings import Rule, Server
from tests.federation.updates_made import Made, combined

Values = NDArray[np.float64]

FLOWER: Mapping[str, Any] = json.loads(
    Path(__file__).with_name("oracles").joinpath("flower.json").read_text()
)
RULES: Mapping[str, Rule] = {
    rule.kind: rule
    for rule in (
        TypeAdapter[Rule](Rule).validate_python(settings)
        for settings in (
            {"kind": "weighted_mean"},
            {"kind": "median"},
            {"kind": "trimmed_mean", "n_trimmed": 2},
            {"kind": "krum", "n_byzantine": 2},
            {"kind": "multi_krum", "n_byzantine": 2, "n_selected": 3},
            {"kind": "norm_clipping", "max_norm": 0.05},
        )
    )
}
ROBUST = ("median", "trimmed_mean", "krum", "multi_krum")
SERVERS: Mapping[str, Server] = {
    server.kind: server
    for server in (
        TypeAdapter[Server](Server).validate_python(settings)
        for settings in (
            {"kind": "fedavgm", "learning_rate": 0.5, "momentum": 0.9},
            {"kind": "fedadam", "learning_rate": 0.06, "beta_1": 0.9, "beta_2": 0.99, "epsilon": 1e-6},
            {"kind": "fedyogi", "learning_rate": 0.01, "beta_1": 0.9, "beta_2": 0.99, "epsilon": 1e-3},
        )
    )
}
N = 7

drawn_changes = st.integers(0, 2**32 - 1).map(
    lambda seed: np.random.default_rng(seed).normal(scale=0.02, size=(N, 130)).astype(np.float32)
)


def change_by(
    kind: str, changes: NDArray[Any] | Sequence[Values], weights: Sequence[float] | None = None
) -> NDArray[np.float32]:
    """What the rule makes of these changes of a parent of zeros."""
    made = combined(
        [{"x": np.asarray(change, np.float32)} for change in changes],
        weights,
        parent={"x": np.zeros(len(changes[0]), np.float32)},
        rule=RULES[kind],
    )
    found: NDArray[np.float32] = made.tensors["x"]
    return found


def test_every_rule_and_optimizer_is_tested_here() -> None:
    assert set(RULES) == set(_CHANGES)
    assert set(SERVERS) == set(OPTIMIZERS)


@pytest.mark.parametrize("kind", FLOWER["rules"])
def test_a_rule_gives_what_flower_gives(kind: str) -> None:
    made = combined(
        [{"x": np.array(change, np.float32)} for change in FLOWER["rounds"][0]],
        FLOWER["weights"],
        parent={"x": np.array(FLOWER["parent"])},
        rule=RULES[kind],
    )
    np.testing.assert_allclose(made.tensors["x"], FLOWER["rules"][kind], rtol=0, atol=1e-7)


@pytest.mark.parametrize("kind", FLOWER["servers"])
def test_an_optimizer_takes_the_steps_that_flowers_takes(kind: str) -> None:
    made = Made(version=b"", broadcast=b"", server_state=None)
    parent: dict[str, NDArray[Any]] | bytes = {"x": np.array(FLOWER["parent"])}
    for changes, expected in zip(FLOWER["rounds"], FLOWER["servers"][kind], strict=True):
        made = combined(
            [{"x": np.array(change, np.float32)} for change in changes],
            FLOWER["weights"],
            parent=parent,
            server_state=made.server_state,
            server=SERVERS[kind],
        )
        parent = made.version
        np.testing.assert_allclose(made.tensors["x"], expected, rtol=0, atol=2e-6)


@settings(max_examples=30, deadline=None)
@given(changes=drawn_changes)
def test_norm_clipping_is_the_mean_of_updates_scaled_down(changes: NDArray[np.float32]) -> None:
    rows = changes.astype(np.float64)
    norms = np.linalg.norm(rows, axis=1, keepdims=True)
    clipped = rows * np.minimum(1, 0.05 / norms)

    np.testing.assert_allclose(
        change_by("norm_clipping", changes, FLOWER["weights"]),
        np.average(clipped, axis=0, weights=FLOWER["weights"]),
        atol=1e-9,
    )


@settings(max_examples=30, deadline=None)
@given(changes=drawn_changes)
def test_krum_and_multi_krum_choose_as_the_papers_sums_say(changes: NDArray[np.float32]) -> None:
    rows = changes.astype(np.float64)
    scores = [
        sum(sorted(float(np.sum((row - other) ** 2)) for j, other in enumerate(rows) if j != i)[: N - 2 - 2])
        for i, row in enumerate(rows)
    ]
    order = np.argsort(scores)

    np.testing.assert_array_equal(change_by("krum", changes), changes[order[0]])
    np.testing.assert_allclose(change_by("multi_krum", changes), rows[order[:3]].mean(axis=0), atol=1e-8)


@pytest.mark.parametrize("kind", RULES)
@settings(max_examples=20, deadline=None)
@given(changes=drawn_changes, order=st.randoms(use_true_random=False))
def test_the_order_of_updates_does_not_matter(
    kind: str, changes: NDArray[np.float32], order: random.Random
) -> None:
    shuffled = order.sample(range(N), N)

    np.testing.assert_allclose(
        change_by(kind, changes[shuffled]), change_by(kind, changes), rtol=1e-5, atol=1e-9
    )


@pytest.mark.parametrize("kind", RULES)
@settings(max_examples=20, deadline=None)
@given(changes=drawn_changes)
def test_identical_updates_give_that_update(kind: str, changes: NDArray[np.float32]) -> None:
    small = changes[0] / np.float32(100)  # within the bound of the norm

    np.testing.assert_allclose(change_by(kind, np.tile(small, (N, 1))), small, rtol=1e-6)


@pytest.mark.parametrize("kind", [kind for kind in RULES if kind != "norm_clipping"])
@settings(max_examples=20, deadline=None)
@given(changes=drawn_changes, power=st.integers(-8, 8))
def test_updates_on_another_scale_give_the_same_on_that_scale(
    kind: str, changes: NDArray[np.float32], power: int
) -> None:
    scale = np.float32(2.0**power)

    np.testing.assert_allclose(change_by(kind, changes * scale), change_by(kind, changes) * scale, rtol=1e-6)


@pytest.mark.parametrize("kind", ["weighted_mean", "median"])
@settings(max_examples=20, deadline=None)
@given(changes=drawn_changes)
def test_every_update_twice_changes_nothing(kind: str, changes: NDArray[np.float32]) -> None:
    np.testing.assert_allclose(
        change_by(kind, np.repeat(changes, 2, axis=0)), change_by(kind, changes), rtol=1e-5, atol=1e-9
    )


@pytest.mark.parametrize("kind", ROBUST)
@settings(max_examples=20, deadline=None)
@given(changes=drawn_changes, size=st.floats(1, 1e6), place=st.integers(0, N - 1))
def test_one_bad_update_leaves_a_robust_rule_within_the_good_ones(
    kind: str, changes: NDArray[np.float32], size: float, place: int
) -> None:
    good = np.delete(changes, place, axis=0)
    changes[place] = size * np.sign(changes[place])

    found = change_by(kind, changes)
    assert (found >= good.min(axis=0) - 1e-8).all()
    assert (found <= good.max(axis=0) + 1e-8).all()


@settings(max_examples=20, deadline=None)
@given(changes=drawn_changes, size=st.floats(1, 1e6))
def test_one_bad_update_moves_norm_clipping_by_its_share_of_the_bound(
    changes: NDArray[np.float32], size: float
) -> None:
    good = change_by("norm_clipping", changes)
    changes[0] *= np.float32(size)

    moved = np.linalg.norm(change_by("norm_clipping", changes).astype(np.float64) - good)
    assert moved <= 2 * 0.05 / N + 1e-7


def test_one_bad_update_ruins_the_plain_mean() -> None:
    changes = np.full((N, 4), 0.01, np.float32)
    changes[2] = 1e6

    assert change_by("weighted_mean", changes).min() > 1e5


@pytest.mark.parametrize("kind", RULES)
def test_fewer_updates_than_a_rule_needs_are_refused(kind: str) -> None:
    n_needed = RULES[kind].n_needed
    changes = np.random.default_rng(0).normal(size=(N, 8))

    change_by(kind, changes[:n_needed])
    if n_needed > 1:
        with pytest.raises(errors.TooFewUpdates, match=f"{kind} works on {n_needed}"):
            change_by(kind, changes[: n_needed - 1])


@pytest.mark.parametrize("kind", RULES)
def test_memory_holds_blocks_of_updates_and_never_all(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    block_bytes, n_updates = 2**20, 100
    monkeypatch.setattr("federation.aggregation.columns.BLOCK_BYTES", block_bytes)
    monkeypatch.setattr("federation.aggregation.columns.ROW_BYTES", block_bytes // 8)
    change = {"x": np.full(100_000, 1e-3, np.float32)}

    def peak_bytes() -> int:
        tracemalloc.reset_peak()
        before = tracemalloc.get_traced_memory()[0]
        combined([change] * n_updates, parent=change, rule=RULES[kind])
        return tracemalloc.get_traced_memory()[1] - before

    tracemalloc.start()
    try:
        overhead = (
            n_updates * 4 * change["x"].size
        )  # the test's own bytes of the updates, before they are files
        assert peak_bytes() <= overhead + 4 * block_bytes
    finally:
        tracemalloc.stop()
