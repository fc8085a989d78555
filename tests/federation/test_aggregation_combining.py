"""From a parent version and updates to a candidate: the weighted mean's laws, server state, wires, bounded memory."""

import math
import random
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from safetensors.numpy import load, save

from federation import errors
from federation.aggregation.weights import capped_weight
from federation.aggregation.wire import decode, encode
from federation.aggregation_settings import FedAvgM, Median, WeightedMean, WireDtype
from tests.federation.updates_made import PARENT_TENSORS, Made, combined, random_tensors

weights = st.floats(min_value=1e-3, max_value=1e6)
contributions = st.lists(st.tuples(st.integers(1, 10_000), weights), min_size=1, max_size=8)


def drawn_updates(drawn: Sequence[tuple[int, float]]) -> Made:
    """The candidate from updates drawn by a seed each, with their weights."""
    return combined([random_tensors(seed, scale=0.01) for seed, _ in drawn], [weight for _, weight in drawn])


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


def assert_within_one_rounding(one: Made, other: Made) -> None:
    """Equal but for the last bit of a float32."""
    for name, tensor in one.tensors.items():
        np.testing.assert_array_max_ulp(tensor, other.tensors[name], maxulp=1)


@settings(max_examples=50, deadline=None)
@given(drawn=contributions)
def test_it_is_the_weighted_mean_on_top_of_the_parent(drawn: list[tuple[int, float]]) -> None:
    result = drawn_updates(drawn).tensors

    expected = independent_mean(drawn)
    assert result.keys() == expected.keys()
    for name, tensor in result.items():
        assert tensor.dtype == np.float32
        np.testing.assert_array_max_ulp(tensor, expected[name].astype(np.float32), maxulp=1)


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(1, 10_000), drawn=st.lists(weights, min_size=1, max_size=8))
def test_the_mean_of_identical_updates_is_that_update(seed: int, drawn: list[float]) -> None:
    assert_within_one_rounding(
        drawn_updates([(seed, weight) for weight in drawn]), drawn_updates([(seed, 1.0)])
    )


@settings(max_examples=50, deadline=None)
@given(drawn=contributions, order=st.randoms(use_true_random=False))
def test_the_order_matters_by_float64_rounding_only(
    drawn: list[tuple[int, float]], order: random.Random
) -> None:
    assert_within_one_rounding(drawn_updates(drawn), drawn_updates(order.sample(drawn, len(drawn))))


def test_another_order_of_everyday_weights_gives_the_same_bytes() -> None:
    drawn = list(enumerate((800.0, 1200.0, 950.0, 2000.0, 801.0), start=1))

    assert drawn_updates(drawn) == drawn_updates(drawn[::-1])


@settings(max_examples=50, deadline=None)
@given(drawn=contributions, factor=st.floats(1e-6, 1e6))
def test_the_scale_of_the_weights_does_not_matter(drawn: list[tuple[int, float]], factor: float) -> None:
    scaled = [(seed, weight * factor) for seed, weight in drawn]

    assert_within_one_rounding(drawn_updates(drawn), drawn_updates(scaled))


def test_a_second_run_gives_the_same_bytes_and_only_the_format_as_metadata() -> None:
    drawn = [(seed, 1.0 + seed) for seed in range(1, 6)]
    first = drawn_updates(drawn)

    assert all(drawn_updates(drawn) == first for _ in range(5))
    assert b'"__metadata__":{"format":"pt"}' in first.version


def test_small_changes_are_not_lost_in_long_sums() -> None:
    ones = {"x": np.ones(3, np.float16)}

    made = combined([ones] * 500, parent={"x": np.zeros(3, np.float16)}, upload_dtype="float16")
    moved = made.tensors["x"]
    assert moved.dtype == np.float16
    np.testing.assert_array_equal(moved, 1)


@pytest.mark.parametrize("weight", [0.0, -1.0, math.nan, math.inf])
def test_weights_that_are_not_positive_and_finite_are_refused(weight: float) -> None:
    with pytest.raises(errors.WeightInvalid, match=str(weight)):
        drawn_updates([(1, 1.0), (2, weight)])


def test_weights_whose_sum_overflows_are_refused() -> None:
    with pytest.raises(errors.WeightInvalid, match="inf"):
        drawn_updates([(1, 1e308), (2, 1e308)])


def test_no_update_at_all_is_refused() -> None:
    with pytest.raises(errors.NothingToAggregate):
        combined([])


def test_an_update_that_numpy_would_broadcast_is_refused() -> None:
    narrow = {**random_tensors(1), "prompt_embeddings": np.zeros((1, 24), np.float32)}

    with pytest.raises(errors.UpdateShapeDiffers):
        combined([random_tensors(1), narrow])


def test_a_value_that_is_not_finite_is_refused_here_too() -> None:
    bad = random_tensors(1)
    bad["gate"][1] = np.nan

    with pytest.raises(errors.UpdateNotFinite, match="'gate' of the update holds 1 values"):
        combined([random_tensors(2), bad])


def test_a_result_that_does_not_fit_the_dtype_is_refused() -> None:
    half = {"x": np.full(2, 60_000, np.float16)}

    with pytest.raises(errors.AggregateNotFinite, match="'x' does not fit into float16"):
        combined([half], parent=half, upload_dtype="float16")


def test_a_broadcast_that_does_not_fit_its_dtype_is_refused() -> None:
    large = {"x": np.full(2, 60_000, np.float32)}

    with pytest.raises(errors.AggregateNotFinite, match="'x' does not fit into float16"):
        combined([large], parent=large, broadcast_dtype="float16")


@pytest.mark.parametrize("dtype", ["float16", "int8", "int4"])
def test_updates_count_as_what_they_are_when_they_arrive(dtype: WireDtype) -> None:
    sent = [random_tensors(seed, scale=0.01) for seed in range(1, 5)]
    files = [encode(tensors, dtype, {}) for tensors in sent]
    shapes = {name: tensor.shape for name, tensor in PARENT_TENSORS.items()}
    received = [decode(file, dtype, shapes) for file in files]

    assert_within_one_rounding(combined(files, upload_dtype=dtype), combined(received))


def test_tensors_that_are_not_sent_stay_as_they_are() -> None:
    sent = [{"gate": random_tensors(seed)["gate"]} for seed in (1, 2)]

    made = combined(
        sent, sends=lambda name: name == "gate", average_decay=0.5, server=FedAvgM(kind="fedavgm")
    )
    found, broadcast = made.tensors, decode(made.broadcast, "float32")
    for tensors in (found, broadcast):
        np.testing.assert_array_equal(
            tensors["prompt_embeddings"], PARENT_TENSORS["prompt_embeddings"], strict=True
        )
        assert not np.array_equal(tensors["gate"], PARENT_TENSORS["gate"])
    with pytest.raises(errors.UpdateNamesDiffer, match="'prompt_embeddings' unknown"):
        combined([random_tensors(1)], sends=lambda name: name == "gate")


def test_without_optimizer_average_or_small_broadcast_the_version_is_all_there_is() -> None:
    made = combined([random_tensors(1)])

    assert made.broadcast == made.version
    assert made.server_state is None


def test_a_broadcast_is_the_iterate_in_its_dtype() -> None:
    for dtype in ("float16", "int8"):
        made = combined([random_tensors(1)], broadcast_dtype=dtype)
        assert made.broadcast == encode(made.tensors, dtype, {"format": "pt"})
        assert made.server_state is None


def test_an_average_follows_the_iterates_that_tenants_train_from() -> None:
    """Three rounds against the same in float64: the average is the version, the iterate is broadcast."""
    made = Made(version=save(PARENT_TENSORS), broadcast=b"", server_state=None)
    iterate = average = PARENT_TENSORS["gate"].astype(np.float64)
    for seed in range(1, 4):
        change = random_tensors(seed, scale=0.1)
        made = combined([change], parent=made.version, server_state=made.server_state, average_decay=0.8)
        iterate = iterate + change["gate"].astype(np.float64)
        average = 0.8 * average + 0.2 * iterate
        np.testing.assert_allclose(decode(made.broadcast, "float32")["gate"], iterate, atol=1e-6)
        np.testing.assert_allclose(made.tensors["gate"], average, atol=1e-6)


def test_the_average_of_a_small_broadcast_goes_on_from_the_whole_iterate() -> None:
    first = combined([random_tensors(1)], average_decay=0.8, broadcast_dtype="int8")
    second = combined(
        [random_tensors(2)],
        parent=first.version,
        server_state=first.server_state,
        average_decay=0.8,
        broadcast_dtype="int8",
    )
    iterate = sum(tensors["gate"] for tensors in (PARENT_TENSORS, random_tensors(1), random_tensors(2)))

    assert second.server_state is not None
    np.testing.assert_allclose(load(second.server_state)["iterate:gate"], iterate, atol=1e-6)


def test_the_same_files_give_the_same_server_state() -> None:
    rules: dict[str, Any] = {"server": FedAvgM(kind="fedavgm"), "average_decay": 0.5}
    first = combined([random_tensors(1)], **rules)

    assert combined([random_tensors(1)], **rules) == first
    assert first.server_state is not None
    assert set(load(first.server_state)) == {
        f"{slot}:{name}" for slot in ("momentum", "iterate") for name in PARENT_TENSORS
    }


@pytest.mark.parametrize("rule", [Median(kind="median"), WeightedMean(kind="weighted_mean")])
def test_values_read_in_many_parts_are_the_same_as_in_one(
    rule: Median | WeightedMean, monkeypatch: pytest.MonkeyPatch
) -> None:
    changes = [random_tensors(seed) for seed in range(1, 6)]
    rules: dict[str, Any] = {"rule": rule, "average_decay": 0.5, "broadcast_dtype": "int8"}
    whole = combined(changes, **rules)

    for name in ("BLOCK_BYTES", "ROW_BYTES"):
        monkeypatch.setattr(f"federation.aggregation.columns.{name}", 1)
    assert combined(changes, **rules) == whole


def test_weights_are_examples_up_to_the_cap() -> None:
    assert [capped_weight(n, 1000) for n in (1, 999, 1000, 1001)] == [1.0, 999.0, 1000.0, 1000.0]
    assert capped_weight(10**6, None) == 1e6
    with pytest.raises(errors.WeightInvalid):
        capped_weight(0, None)
