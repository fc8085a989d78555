"""What an update must be to count: each kind of bad one is refused by a class and a code of its own."""

import copy
import gzip
import io
import json
import math
import pickle
import struct
import tracemalloc
import zipfile
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors import SafetensorError
from safetensors.numpy import load, save

from federation import errors
from federation.aggregation.columns import sends_all
from federation.aggregation.files import open_version
from federation.aggregation.headers import MAX_HEADER_BYTES, TensorKind, largest_file_bytes
from federation.aggregation.updates import Parent, UpdateFacts, check_update
from tenants.errors import PreludeError
from tests.federation.updates_made import (
    EXPECTED,
    METADATA,
    PARENT,
    PARENT_TENSORS,
    as_files,
    make_update,
    random_tensors,
)


def check(
    data: bytes,
    *,
    parent: bytes = PARENT,
    max_relative_norm: float = 1.0,
    sends: Callable[[str], bool] = sends_all,
) -> UpdateFacts:
    """Check `data` as the update that the tests expect."""
    with as_files(data, parent) as (update, version):
        return check_update(
            update,
            parent=Parent(version),
            expected=EXPECTED,
            max_relative_norm=max_relative_norm,
            sends=sends,
        )


def with_header(header: object, data: bytes = b"") -> bytes:
    """Safetensors bytes with any header: a value to write as JSON, or the bytes themselves."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + data


def honest_header() -> tuple[dict[str, Any], bytes]:
    """The header of an honest update, parsed, and its data."""
    update = make_update()
    length = struct.unpack("<Q", update[:8])[0]
    return json.loads(update[8 : 8 + length]), update[8 + length :]


def changed(name: str, position: int, value: float) -> bytes:
    """An honest update with one value replaced."""
    tensors = random_tensors(1, scale=0.01)
    tensors[name].flat[position] = value
    return make_update(tensors)


def test_an_honest_update_gives_its_size_and_norms() -> None:
    facts = check(make_update())

    values = np.concatenate([tensor.ravel() for tensor in random_tensors(1, scale=0.01).values()])
    parent = np.concatenate([tensor.ravel() for tensor in PARENT_TENSORS.values()])
    assert facts.n_values == values.size == 99
    assert facts.norm == pytest.approx(np.linalg.norm(values.astype(np.float64)), rel=1e-12)
    assert facts.relative_norm == pytest.approx(
        facts.norm / np.linalg.norm(parent.astype(np.float64)), rel=1e-12
    )


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("name", ["prompt_embeddings", "gate"])
def test_one_value_that_is_not_finite_is_refused(name: str, value: float) -> None:
    with pytest.raises(errors.UpdateNotFinite, match=f"'{name}' of the update holds 1 values"):
        check(changed(name, 2, value))


def test_the_norm_may_reach_its_bound_and_not_pass_it() -> None:
    relative_norm = check(make_update()).relative_norm

    assert check(make_update(), max_relative_norm=relative_norm).relative_norm == relative_norm
    with pytest.raises(errors.UpdateNormTooLarge, match="at most"):
        check(make_update(), max_relative_norm=math.nextafter(relative_norm, 0))
    with pytest.raises(errors.UpdateNormTooLarge):
        check(make_update(random_tensors(1, scale=1000)))


def test_against_a_parent_of_zeros_only_no_change_is_small() -> None:
    zeros = {name: np.zeros_like(tensor) for name, tensor in PARENT_TENSORS.items()}

    assert check(make_update(zeros), parent=save(zeros)).relative_norm == 0
    with pytest.raises(errors.UpdateNormTooLarge, match="inf"):
        check(make_update(), parent=save(zeros), max_relative_norm=1e300)


@pytest.mark.parametrize(
    ("field", "refusal"),
    [
        ("round", errors.UpdateFromWrongRound),
        ("tenant", errors.UpdateFromWrongTenant),
        ("attempt", errors.UpdateFromWrongAttempt),
        ("base", errors.UpdateForWrongBase),
        ("parent", errors.UpdateForWrongParent),
    ],
)
def test_an_update_made_for_something_else_is_refused(
    field: str, refusal: type[errors.UpdateRefused]
) -> None:
    with pytest.raises(refusal, match=f"names the {field} 'another'"):
        check(make_update(None, **{field: "another"}))
    without = {key: value for key, value in METADATA.items() if key != field}
    with pytest.raises(refusal, match=f"names the {field} None"):
        check(save(random_tensors(1, scale=0.01), without))


def test_other_names_are_refused() -> None:
    tensors = random_tensors(1)
    renamed = {"prompt_embeddings": tensors["prompt_embeddings"], "other": tensors["gate"]}

    with pytest.raises(errors.UpdateNamesDiffer, match="'gate' missing, 'other' unknown"):
        check(make_update(renamed))
    with pytest.raises(errors.UpdateNamesDiffer, match="'gate' missing, none unknown"):
        check(make_update({"prompt_embeddings": tensors["prompt_embeddings"]}))
    with pytest.raises(errors.UpdateNamesDiffer, match="none missing, 'more' unknown"):
        check(make_update({**tensors, "more": tensors["gate"]}))
    with pytest.raises(errors.UpdateNamesDiffer):
        check(save({}, METADATA))


@pytest.mark.parametrize("shape", [(24, 4), (1, 24), (96,), (4, 24, 1), (5, 24), (0, 24)])
def test_other_shapes_are_refused_also_those_that_would_broadcast(shape: tuple[int, ...]) -> None:
    tensors = {**random_tensors(1), "prompt_embeddings": np.zeros(shape, np.float32)}

    with pytest.raises(errors.UpdateShapeDiffers, match=r"\(4, 24\) is taken"):
        check(make_update(tensors))


@pytest.mark.parametrize("dtype", ["float16", "float64", "int32", "complex64", "bool"])
def test_other_dtypes_are_refused(dtype: str) -> None:
    tensors = {**random_tensors(1), "prompt_embeddings": np.zeros((4, 24), dtype)}

    with pytest.raises(errors.UpdateDtypeDiffers, match="F32 is taken"):
        check(make_update(tensors))


def test_a_pickle_is_refused_and_never_loaded() -> None:
    class Trap:
        def __reduce__(self) -> tuple[Any, tuple[str]]:
            return pytest.fail, ("the pickle was loaded",)

    for protocol in range(2, 6):
        with pytest.raises(errors.UpdateIsPickle):
            check(pickle.dumps({"trap": Trap()}, protocol))


def zip_bomb() -> bytes:
    """A zip of 64 entries that all lie at the same 64 MiB of zeros: four gigabytes in 70 kB."""
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("0.pkl", bytes(64 * 2**20))
        for number in range(1, 64):
            entry = copy.copy(archive.filelist[0])
            entry.filename = f"{number}.pkl"
            archive.filelist.append(entry)
    return content.getvalue()


def gzip_bomb() -> bytes:
    """A gzip of a gzip of four gigabytes of zeros, in 64 members."""
    return gzip.compress(64 * gzip.compress(bytes(64 * 2**20)))


@pytest.mark.parametrize(("bomb", "kind"), [(zip_bomb, "zip"), (gzip_bomb, "gzip")])
def test_an_archive_bomb_is_refused_and_never_unpacked(bomb: Callable[[], bytes], kind: str) -> None:
    data = bomb()
    assert len(data) < 100_000

    tracemalloc.start()
    try:
        with pytest.raises(errors.UpdateIsArchive, match=f"is a {kind} archive"):
            check(data)
        assert tracemalloc.get_traced_memory()[1] < 2**20
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("data", [b"<html>not found</html>", b"\x00" * 100, b"0" * 200])
def test_other_formats_are_refused(data: bytes) -> None:
    with pytest.raises(errors.UpdateNotSafetensors, match="no header"):
        check(data)


def test_more_bytes_than_the_parent_allows_are_refused_unread() -> None:
    limit = largest_file_bytes(TensorKind("F32", tensor.shape) for tensor in PARENT_TENSORS.values())

    with pytest.raises(errors.UpdateTooLarge, match=f"at most {limit}"):
        check(b"PK" + bytes(limit - 1))
    with pytest.raises(errors.UpdateIsArchive):
        check(b"PK" + bytes(limit - 2))


def test_a_header_over_the_limit_is_refused() -> None:
    for announced in (MAX_HEADER_BYTES + 1, 2**64 - 1):
        with pytest.raises(errors.UpdateHeaderTooLarge, match=str(announced)):
            check(struct.pack("<Q", announced) + b"{}")


def test_an_update_cut_anywhere_is_refused_as_truncated() -> None:
    update = make_update()
    for length in range(len(update)):
        with pytest.raises(errors.UpdateTruncated, match=f"ends after {length} bytes"):
            check(update[:length])


def test_bytes_after_the_last_tensor_are_refused() -> None:
    with pytest.raises(errors.UpdateNotSafetensors, match="1 bytes follow"):
        check(make_update() + b"\0")


@pytest.mark.parametrize(
    "header",
    [
        b"{",
        b"{}" + b"x",
        b'{"a": NaN}',
        b'{"a": {}, "a": {}}',
        b'{"\xff": 1}',
        b'{"a":' + b"[" * 100_000,
        b'{"a":' + b"9" * 10_000 + b"}",
        {"__metadata__": []},
        {"__metadata__": {"round": 7}},
        {"a": []},
        {"a": {"dtype": "F32", "shape": [1]}},
        {"a": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4], "more": 1}},
        {"a": {"dtype": 32, "shape": [1], "data_offsets": [0, 4]}},
        {"a": {"dtype": "F32", "shape": [True], "data_offsets": [0, 4]}},
        {"a": {"dtype": "F32", "shape": [-1], "data_offsets": [0, 4]}},
        {"a": {"dtype": "F32", "shape": [2**63], "data_offsets": [0, 4]}},
        {"a": {"dtype": "F32", "shape": 1, "data_offsets": [0, 4]}},
        {"a": {"dtype": "F32", "shape": [1], "data_offsets": [4]}},
        {"a": {"dtype": "F32", "shape": [1], "data_offsets": [0, 10**4299]}},
        {"a": {"dtype": "F32", "shape": [1], "data_offsets": [0.0, 4.0]}},
    ],
)
def test_a_header_of_another_form_is_refused(header: object) -> None:
    with pytest.raises(errors.UpdateNotSafetensors):
        check(with_header(header, bytes(4)))


@pytest.mark.parametrize("offsets", [[0, 400], [4, 384], [384, 0], [0, 380]])
def test_offsets_that_do_not_fit_the_shapes_are_refused(offsets: list[int]) -> None:
    header, data = honest_header()
    header["prompt_embeddings"]["data_offsets"] = offsets

    with pytest.raises((errors.UpdateNotSafetensors, errors.UpdateTruncated)):
        check(with_header(header, data))


def test_what_a_tenant_wrote_is_cut_and_escaped_in_error_texts() -> None:
    for hostile in ("x" * 100_000, "\x00\n" * 1000):
        with pytest.raises(errors.UpdateRefused) as refusal:
            check(make_update(round=hostile))
        assert len(str(refusal.value)) < 200
        assert "\x00" not in str(refusal.value)
        with pytest.raises(errors.UpdateNamesDiffer) as refusal_of_names:
            check(make_update({hostile + str(i): np.zeros(1, np.float32) for i in range(5)}))
        assert len(str(refusal_of_names.value)) < 600


def test_every_refusal_has_a_code_of_its_own() -> None:
    classes = [value for value in vars(errors).values() if isinstance(value, type)]
    codes = [refusal.code for refusal in classes if issubclass(refusal, PreludeError)]

    assert len(set(codes)) == len(codes) >= 20


@pytest.mark.parametrize("offsets", [[8, 392], [16, 400], [0, 384], [396, 12]])
def test_data_with_gaps_or_overlaps_are_refused_as_the_library_refuses_them(offsets: list[int]) -> None:
    header, _ = honest_header()
    assert header["gate"]["data_offsets"] == [0, 12]
    header["prompt_embeddings"]["data_offsets"] = offsets
    content = with_header(header, bytes(max(offsets[1], 12)))

    with pytest.raises(SafetensorError):
        load(content)
    with pytest.raises(errors.UpdateNotSafetensors):
        check(content)


honest = make_update()
n_header_bytes = struct.unpack("<Q", honest[:8])[0]
places = st.one_of(st.integers(0, 8 + n_header_bytes), st.integers(0, len(honest) - 1))
pieces = st.one_of(
    st.binary(min_size=1, max_size=8),
    st.text('{}[]":,0123456789-.eE \\u', min_size=1, max_size=8).map(str.encode),
)
mutations = st.lists(
    st.one_of(
        st.tuples(st.just("set"), places, pieces),
        st.tuples(st.just("insert"), places, pieces),
        st.tuples(st.just("cut"), st.integers(0, len(honest) - 1), st.binary(min_size=1, max_size=40)),
        st.tuples(st.just("insert"), st.integers(0, len(honest)), st.binary(min_size=1, max_size=40)),
    ),
    min_size=1,
    max_size=4,
)


def mutate(data: bytes, kind: str, position: int, piece: bytes) -> bytes:
    """One change: bytes set, cut out, or put in."""
    start = min(position, len(data))
    end = start if kind == "insert" else min(start + len(piece), len(data))
    return (
        data[:start]
        + (b"" if kind == "cut" else piece[: end - start] if kind == "set" else piece)
        + data[end:]
    )


@settings(max_examples=1_000, deadline=None)
@given(changes=mutations, is_length_right=st.booleans())
def test_a_mutated_update_is_refused_by_a_code_or_read_as_the_library_reads_it(
    changes: list[tuple[str, int, bytes]], is_length_right: bool
) -> None:
    data = honest
    for kind, position, piece in changes:
        data = mutate(data, kind, position, piece)
    if is_length_right and b"}}" in data:  # mutations of the header go further with its length put right
        end = data.rindex(b"}}") + 2
        data = struct.pack("<Q", max(end - 8, 0)) + data[8:]
    tracemalloc.start()
    try:
        facts = check(data)
    except errors.UpdateRefused as refusal:
        assert refusal.code.startswith("update_")
    else:
        assert facts.n_values == 99
        assert facts.relative_norm <= 1
        expected = load(data)
        for name, tensor in read_whole(data).items():
            np.testing.assert_array_equal(tensor, expected[name], strict=True)
    finally:
        peak_bytes = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert peak_bytes < 16 * 2**20  # what mutations announce goes to 2**63


def read_whole(data: bytes) -> dict[str, Any]:
    """The tensors as aggregation reads them."""
    with as_files(data) as (path,):
        file = open_version(path)
        return {
            name: file.read(name, 0, kind.n_values).reshape(kind.shape) for name, kind in file.kinds.items()
        }


@settings(max_examples=200, deadline=None)
@given(data=st.binary(max_size=300), brace=st.booleans())
def test_any_bytes_are_refused_by_a_code(data: bytes, brace: bool) -> None:
    with pytest.raises(errors.UpdateRefused):
        check(with_header(b"{" + data) if brace else data)


def test_an_update_holds_what_the_method_sends_and_no_more() -> None:
    gate = {"gate": np.ones(3, np.float32)}
    facts = check(make_update(gate), sends=lambda name: name == "gate", max_relative_norm=10.0)
    parent_norm = np.sqrt(sum(float((tensor**2).sum()) for tensor in PARENT_TENSORS.values()))
    assert facts.n_values == 3
    assert facts.relative_norm == pytest.approx(np.sqrt(3) / parent_norm, rel=1e-6)
    with pytest.raises(errors.UpdateNamesDiffer, match="prompt_embeddings"):
        check(make_update(), sends=lambda name: name == "gate")
    with pytest.raises(errors.UpdateNamesDiffer, match="prompt_embeddings"):
        check(make_update(gate))
