"""The weighted mean: its laws, against an independent NumPy mean, in bounded memory."""

import math
import random
import tracemalloc
from collections.abc import Sequence
from functools import partial

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from safetensors.numpy import load, save

from federation import errors
from federation.aggregation import RULES, WeightedUpdate, capped_weight, get_rule, weighted_mean
from tests.federation.updates_made import PARENT, PARENT_TENSORS, make_update, random_tensors

aggregate = partial(weighted_mean.aggregate, sends=lambda _name: True)
weights = st.floats(min_value=1e-3, max_value=1e6)
contributions = st.lists(st.tuples(st.integers(1, 10_000), weights), min_size=1, max_size=8)


def weighted(seed: int, weight: float) -> WeightedUpdate:
    """An update drawn by `seed`, loaded when asked for."""
    return WeightedUpdate(weight=weight, load=lambda: make_update(random_tensors(seed, scale=0.01)))


def independent_mean(drawn: Sequence[tuple[int, float]]) -> dict[str, NDArray[np.float64]]:
    """The same mean, written the other way round: float64 arrays, all at once, by np.average."""
    return {
        name: parent.astype(np.float64)
        + np.average(
            [random_tensors(seed, scale=0.01)[name].astype(np.float64) for seed, _ in drawn],
            axis=0,
            weights=[weight for _, weight in drawn],
        )
        for name, parent in PARENT_TENSORS.items()
    }


def assert_within_one_rounding(one: bytes, other: bytes) -> None:
    """Equal but for the last bit of a float32."""
    for name, tensor in load(one).items():
        np.testing.assert_array_max_ulp(tensor, load(other)[name], maxulp=1)


@settings(max_examples=50, deadline=None)
@given(drawn=contributions)
def test_it_is_the_weighted_mean_on_top_of_the_parent(drawn: list[tuple[int, float]]) -> None:
    result = load(aggregate(PARENT, [weighted(seed, weight) for seed, weight in drawn]))

    expected = independent_mean(drawn)
    assert result.keys() == expected.keys()
    for name, tensor in result.items():
        assert tensor.dtype == np.float32
        np.testing.assert_array_max_ulp(tensor, expected[name].astype(np.float32), maxulp=1)


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(1, 10_000), drawn=st.lists(weights, min_size=1, max_size=8))
def test_the_mean_of_identical_updates_is_that_update(seed: int, drawn: list[float]) -> None:
    result = aggregate(PARENT, [weighted(seed, weight) for weight in drawn])

    assert_within_one_rounding(result, aggregate(PARENT, [weighted(seed, 1.0)]))


@settings(max_examples=50, deadline=None)
@given(drawn=contributions, order=st.randoms(use_true_random=False))
def test_the_order_matters_by_float64_rounding_only(
    drawn: list[tuple[int, float]], order: random.Random
) -> None:
    updates = [weighted(seed, weight) for seed, weight in drawn]
    shuffled = order.sample(updates, len(updates))

    assert_within_one_rounding(aggregate(PARENT, updates), aggregate(PARENT, shuffled))


def test_another_order_of_everyday_weights_gives_the_same_bytes() -> None:
    updates = [
        weighted(seed, float(weight)) for seed, weight in enumerate((800, 1200, 950, 2000, 801), start=1)
    ]

    assert aggregate(PARENT, updates) == aggregate(PARENT, updates[::-1])


@settings(max_examples=50, deadline=None)
@given(drawn=contributions, factor=st.floats(1e-6, 1e6))
def test_the_scale_of_the_weights_does_not_matter(drawn: list[tuple[int, float]], factor: float) -> None:
    scaled = [weighted(seed, weight * factor) for seed, weight in drawn]

    assert_within_one_rounding(
        aggregate(PARENT, [weighted(s, w) for s, w in drawn]), aggregate(PARENT, scaled)
    )


def test_a_second_run_gives_the_same_bytes_and_only_the_format_as_metadata() -> None:
    updates = [weighted(seed, 1.0 + seed) for seed in range(1, 6)]
    first = aggregate(PARENT, iter(updates))

    assert all(aggregate(PARENT, updates) == first for _ in range(5))
    assert b'"__metadata__":{"format":"pt"}' in first


def test_small_changes_are_not_lost_in_long_sums() -> None:
    ones = {"x": np.ones(3, np.float16)}
    updates = [WeightedUpdate(weight=1.0, load=lambda: save(ones))] * 5_000

    moved = load(aggregate(save({"x": np.zeros(3, np.float16)}), updates))["x"]
    assert moved.dtype == np.float16
    assert moved.tolist() == [1.0, 1.0, 1.0]


@pytest.mark.parametrize("weight", [0.0, -1.0, math.nan, math.inf])
def test_a_weight_that_is_not_positive_and_finite_is_refused(weight: float) -> None:
    with pytest.raises(errors.WeightInvalid, match=str(weight)):
        aggregate(PARENT, [weighted(1, 1.0), weighted(2, weight)])


def test_weights_whose_sum_overflows_are_refused() -> None:
    with pytest.raises(errors.WeightInvalid, match="inf"):
        aggregate(PARENT, [weighted(1, 1e308), weighted(2, 1e308)])


def test_no_update_at_all_is_refused() -> None:
    with pytest.raises(errors.NothingToAggregate):
        aggregate(PARENT, [])


def test_an_update_that_numpy_would_broadcast_is_refused() -> None:
    narrow = {**random_tensors(1), "prompt_embeddings": np.zeros((1, 24), np.float32)}

    with pytest.raises(errors.UpdateShapeDiffers):
        aggregate(PARENT, [weighted(1, 1.0), WeightedUpdate(1.0, lambda: make_update(narrow))])


def test_a_result_that_does_not_fit_the_dtype_is_refused() -> None:
    half = save({"x": np.full(2, 60_000, np.float16)})

    with pytest.raises(errors.AggregateNotFinite, match="'x' does not fit into float16"):
        aggregate(half, [WeightedUpdate(1.0, lambda: half)])


def test_memory_does_not_grow_with_the_number_of_updates() -> None:
    parent = save({"x": np.zeros(100_000, np.float32)})

    def load_one() -> bytes:
        return save({"x": np.ones(100_000, np.float32)})

    def peak(n_updates: int) -> int:
        tracemalloc.start()
        aggregate(parent, (WeightedUpdate(1.0, load_one) for _ in range(n_updates)))
        highest = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return highest

    peak(2)
    assert peak(64) <= peak(4) + 10_000


def test_rules_are_found_by_name() -> None:
    assert get_rule("weighted_mean") is weighted_mean.aggregate
    assert set(RULES) == {"weighted_mean"}
    with pytest.raises(errors.AggregationRuleUnknown, match=r"'median'; there are 'weighted_mean'"):
        get_rule("median")


def test_weights_are_examples_up_to_the_cap() -> None:
    assert [capped_weight(n, 1000) for n in (1, 999, 1000, 1001)] == [1.0, 999.0, 1000.0, 1000.0]
    assert capped_weight(10**6, None) == 1e6
    with pytest.raises(errors.WeightInvalid):
        capped_weight(0, None)


def test_what_the_method_does_not_send_stays_as_it_is() -> None:
    changes = {"gate": np.ones(3, np.float32)}
    update = WeightedUpdate(1.0, lambda: make_update(changes))
    result = load(weighted_mean.aggregate(PARENT, [update], sends=lambda name: name == "gate"))
    np.testing.assert_array_equal(result["prompt_embeddings"], PARENT_TENSORS["prompt_embeddings"])
    np.testing.assert_array_equal(result["gate"], PARENT_TENSORS["gate"] + 1)
