"""States as bytes: PEFT's file, the same bytes for the same numbers, nothing but safetensors read."""

import hashlib
import io
import pickle
from pathlib import Path
from typing import get_args

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray
from safetensors import safe_open
from torch import Tensor

from federation.aggregation.updates import ExpectedUpdate, Parent, check_update
from federation.aggregation.wire import GROUP, decode, encode, in_broadcast_form
from federation.aggregation_settings import BroadcastDtype, WireDtype
from federation.specification import Upload
from training_workers.errors import StateUnreadable
from training_workers.states import from_bytes, send, to_bytes, unpacked

METADATA = {"round": "rnd_1", "tenant": "tnt_1", "attempt": "1", "base": "b", "parent": "p"}


def test_tensors_and_metadata_come_back(tmp_path: Path) -> None:
    state = {"values": torch.randn(3, 5), "keys": torch.zeros(2)}
    content = to_bytes(state, METADATA)
    assert {name: tensor.tolist() for name, tensor in from_bytes(content).items()} == {
        name: tensor.tolist() for name, tensor in state.items()
    }
    (tmp_path / "state").write_bytes(content)
    with safe_open(tmp_path / "state", "pt") as file:
        assert file.metadata() == {"format": "pt", **METADATA}


def test_the_same_numbers_are_the_same_bytes() -> None:
    written = {to_bytes({"keys": torch.arange(4.0)}, METADATA) for _ in range(20)}
    assert len(written) == 1
    assert b'"attempt":"1","base":"b","format":"pt"' in written.pop()


def test_what_is_no_safetensors_file_is_refused() -> None:
    pickled = io.BytesIO()
    torch.save({"keys": torch.zeros(2)}, pickled)
    whole = to_bytes({"keys": torch.zeros(2)}, {})
    for content in (b"", pickled.getvalue(), pickle.dumps({"keys": 1}), whole[:-1], whole + b"0"):
        with pytest.raises(StateUnreadable):
            from_bytes(content)


# How updates travel


LARGEST: dict[WireDtype, int] = {"int8": 127, "int4": 7}
UPLOADS = [Upload(dtype=dtype) for dtype in get_args(WireDtype)]
changes = arrays(np.float32, (5, 2 * GROUP + 3), elements=st.floats(-1, 1, width=32, allow_subnormal=False))


def arrived(content: bytes, dtype: WireDtype, update: dict[str, Tensor]) -> NDArray[np.float32]:
    return decode(content, dtype, {"x": tuple(update["x"].shape)})["x"]


@pytest.mark.parametrize("upload", UPLOADS, ids=lambda upload: upload.dtype)
def test_what_is_sent_passes_the_checks_and_holds_the_numbers(upload: Upload, tmp_path: Path) -> None:
    parent, update = tmp_path / "parent", tmp_path / "update"
    change = {"x": torch.randn(3, 50, generator=torch.Generator().manual_seed(0))}
    parent.write_bytes(to_bytes({"x": torch.ones(3, 50)}, {}))
    digest = hashlib.sha256(parent.read_bytes()).hexdigest()
    metadata = {"round": "rnd_1", "tenant": "tnt_1", "attempt": "2", "base": "b" * 64, "parent": digest}
    update.write_bytes(send(change, upload, metadata).content)

    expected = ExpectedUpdate(round="rnd_1", tenant="tnt_1", attempt=2, base="b" * 64, parent_sha256=digest)
    facts = check_update(
        update, parent=Parent(parent), expected=expected, max_relative_norm=10, dtype=upload.dtype
    )
    found = arrived(update.read_bytes(), upload.dtype, change)
    assert facts.n_values == 150
    assert facts.norm == pytest.approx(float(np.linalg.norm(found.astype(np.float64))))
    assert np.abs(found - change["x"].numpy()).max() < {"float32": 1e-9, "float16": 2e-3}.get(
        upload.dtype, 0.3
    )


@pytest.mark.parametrize("dtype", get_args(BroadcastDtype))
def test_a_broadcast_is_read_as_it_was_written(dtype: BroadcastDtype) -> None:
    version = {"x": torch.randn(3, 50), "y": torch.zeros(2)}
    found = unpacked(in_broadcast_form(to_bytes(version, {}), dtype), dtype)

    expected = decode(encode({name: tensor.numpy() for name, tensor in version.items()}, dtype, {}), dtype)
    assert {name: tensor.tolist() for name, tensor in found.items()} == {
        name: array.tolist() for name, array in expected.items()
    }
    assert {tensor.dtype for tensor in found.values()} == {torch.float32}


@pytest.mark.parametrize("dtype", get_args(BroadcastDtype))
def test_what_is_no_broadcast_is_refused(dtype: BroadcastDtype) -> None:
    with pytest.raises(StateUnreadable):
        unpacked(b"nothing", dtype)


def test_without_error_feedback_nothing_is_kept() -> None:
    assert send({"x": torch.randn(70)}, Upload(dtype="int4"), {}).residual is None


@pytest.mark.parametrize("dtype", LARGEST)
@settings(max_examples=30, deadline=None)
@given(drawn=st.lists(changes, min_size=1, max_size=6))
def test_with_error_feedback_uploads_sum_to_the_updates_but_for_one_step(
    dtype: WireDtype, drawn: list[NDArray[np.float32]]
) -> None:
    upload = Upload(dtype=dtype, error_feedback=True)
    residual: dict[str, Tensor] | None = None
    total = np.zeros(drawn[0].shape, np.float64)
    largest = 0.0
    for change in drawn:
        update = {"x": torch.from_numpy(change)}
        wanted = change if residual is None else change + residual["x"].numpy()
        largest = np.abs(wanted).max(initial=0)
        sent = send(update, upload, {}, residual=residual)
        residual = sent.residual
        total += arrived(sent.content, dtype, update)

    left = np.abs(total - np.sum(drawn, axis=0, dtype=np.float64)).max()
    assert left <= largest / LARGEST[dtype] / 2 * (1 + 1e-4) + 1e-5
