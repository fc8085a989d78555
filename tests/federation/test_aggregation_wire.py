"""How tensors travel: what comes back, in how many bytes, and in which form other tools find it."""

import math
from pathlib import Path
from typing import get_args

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray
from safetensors.numpy import load

from federation import errors
from federation.aggregation.files import TensorFile
from federation.aggregation.wire import GROUP, decode, encode, read_columns, wire_kinds
from federation.aggregation_settings import WireDtype

DTYPES: tuple[WireDtype, ...] = get_args(WireDtype)
INTEGERS: tuple[WireDtype, ...] = ("int8", "int4")
LARGEST = {"int8": 127, "int4": 7}

tensors = st.integers(0, 5).flatmap(
    lambda rows: arrays(
        np.float32, (rows, 3 * 17), elements=st.floats(-6e4, 6e4, width=32, allow_subnormal=False)
    )
)


def normal(*shape: int, seed: int = 0) -> NDArray[np.float32]:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def there_and_back(tensor: NDArray[np.float32], dtype: WireDtype) -> NDArray[np.float32]:
    return decode(encode({"x": tensor}, dtype, {}), dtype, {"x": tensor.shape})["x"]


@settings(max_examples=60, deadline=None)
@given(tensor=tensors)
def test_float32_comes_back_as_it_was_and_float16_as_its_nearest_half(tensor: NDArray[np.float32]) -> None:
    np.testing.assert_array_equal(there_and_back(tensor, "float32"), tensor)
    np.testing.assert_array_equal(there_and_back(tensor, "float16"), tensor.astype(np.float16))


@pytest.mark.parametrize("dtype", INTEGERS)
@settings(max_examples=60, deadline=None)
@given(tensor=tensors)
def test_integers_are_off_by_half_a_step_of_their_group_at_most(
    dtype: WireDtype, tensor: NDArray[np.float32]
) -> None:
    back = there_and_back(tensor, dtype)

    assert back.shape == tensor.shape
    for start in range(0, tensor.size, GROUP):
        group = tensor.ravel()[start : start + GROUP].astype(np.float64)
        step = np.abs(group).max() / LARGEST[dtype]
        assert np.abs(group - back.ravel()[start : start + GROUP]).max() <= step / 2 * (1 + 1e-5)


@pytest.mark.parametrize("dtype", INTEGERS)
def test_integers_hold_zeros_and_each_groups_largest_value(dtype: WireDtype) -> None:
    values = np.zeros(3 * GROUP + 5, np.float32)
    values[7], values[GROUP + 1], values[-1] = 3.5, -1e-3, 1e-45

    back = there_and_back(values, dtype)
    np.testing.assert_allclose(back[[7, GROUP + 1]], [3.5, -1e-3], rtol=1e-6)
    back[[7, GROUP + 1, -1]] = 0
    assert not back.any()


@pytest.mark.parametrize("dtype", INTEGERS)
@settings(max_examples=60, deadline=None)
@given(
    values=arrays(np.float32, (2 * GROUP + 9,), elements=st.floats(-1, 1, width=32, allow_subnormal=False)),
    magnitudes=st.lists(st.sampled_from([0.0, 1e-30, 1e-12, 1.0, 1e12, 1e38]), min_size=3, max_size=3),
)
def test_no_group_suffers_from_anothers_magnitude(
    dtype: WireDtype, values: NDArray[np.float32], magnitudes: list[float]
) -> None:
    scaled = (values * np.repeat(magnitudes, GROUP)[: values.size]).astype(np.float32)

    back = there_and_back(scaled, dtype).astype(np.float64)
    for start in range(0, scaled.size, GROUP):
        group = scaled[start : start + GROUP].astype(np.float64)
        half_a_step = np.abs(group).max() / LARGEST[dtype] / 2
        assert np.abs(group - back[start : start + GROUP]).max() <= half_a_step * (1 + 1e-4) + 1e-44


def test_the_files_are_those_that_the_format_names() -> None:
    tensor = normal(5, 27)
    plain, half = (load(encode({"x": tensor}, dtype, {})) for dtype in ("float32", "float16"))
    assert (plain["x"].dtype.name, half["x"].dtype.name) == ("float32", "float16")
    assert plain["x"].shape == half["x"].shape == (5, 27)
    eight, four = (load(encode({"x": tensor}, dtype, {})) for dtype in INTEGERS)
    assert (eight["x"].dtype.name, eight["x"].shape) == ("int8", (5, 27))
    assert (four["x"].dtype.name, four["x"].shape) == ("uint8", (68,))
    for found in (eight, four):
        assert (found["x.scale"].dtype.name, found["x.scale"].shape) == ("float32", (3,))
    first, second = four["x"][0] & 15, four["x"][0] >> 4
    expected = np.rint(tensor.ravel()[:2] / four["x.scale"][0])
    assert [int(first) - 8, int(second) - 8] == expected.tolist()


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_file_holds_what_it_is_expected_to_hold_and_may_be_read_in_parts(
    dtype: WireDtype, tmp_path: Path
) -> None:
    sent = {"a": normal(3, 2 * GROUP + 7), "b": normal(1, seed=1), "empty": normal(0, 4)}
    shapes = {name: tensor.shape for name, tensor in sent.items()}
    path = tmp_path / "update"
    path.write_bytes(encode(sent, dtype, {"round": "rnd_1"}))

    file = TensorFile.open(path, wire_kinds(shapes, dtype))
    whole = decode(path.read_bytes(), dtype, shapes)
    assert file.metadata == {"round": "rnd_1"}
    for name, tensor in whole.items():
        for start in range(0, tensor.size, GROUP):
            stop = min(start + GROUP, tensor.size)
            columns = np.empty(stop - start)
            read_columns(columns, file, name, start, dtype)
            np.testing.assert_array_equal(columns.astype(np.float32), tensor.ravel()[start:stop])


@pytest.mark.parametrize("dtype", [dtype for dtype in DTYPES if dtype != "int4"])
def test_all_but_int4_tell_their_shapes(dtype: WireDtype) -> None:
    sent = {"a": normal(3, 5), "b": normal(2, seed=1)}

    back = decode(encode(sent, dtype, {}), dtype)
    assert {name: tensor.shape for name, tensor in back.items()} == {"a": (3, 5), "b": (2,)}


def test_smaller_dtypes_take_fewer_bytes() -> None:
    tensor = {"prompt_embeddings": normal(16, 11_520)}
    plain, half, eight, four = (len(encode(tensor, dtype, {})) for dtype in DTYPES)

    assert 2 * half == pytest.approx(plain, rel=1e-3)
    assert plain / eight == pytest.approx(3.76, rel=1e-2)
    assert plain / four == pytest.approx(7.1, rel=1e-2)


@pytest.mark.parametrize("dtype", DTYPES)
def test_the_same_tensors_give_the_same_bytes_in_any_order_of_names(dtype: WireDtype) -> None:
    one, other = normal(4, 40), normal(70, seed=1)
    metadata = {"round": "r", "tenant": "t", "base": "b"}
    first = encode({"one": one, "other": other}, dtype, metadata)

    assert encode({"other": other, "one": one}, dtype, dict(reversed(metadata.items()))) == first


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_what_is_not_finite_is_not_sent(dtype: WireDtype, value: float) -> None:
    tensor = normal(3, 50)
    tensor[1, 1] = value

    with pytest.raises(errors.UpdateNotFinite, match="'x' of the update holds 1 values"):
        encode({"x": tensor}, dtype, {})


def test_what_does_not_fit_into_a_half_is_not_sent_as_one() -> None:
    with pytest.raises(errors.UpdateNotFinite, match="holds 1 values"):
        encode({"x": np.array([70_000, 1], np.float32)}, "float16", {})
