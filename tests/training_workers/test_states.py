"""States as bytes: PEFT's file, the same bytes for the same numbers, nothing but safetensors read."""

import io
import pickle
from pathlib import Path

import pytest
import torch
from safetensors import safe_open

from training_workers.errors import StateUnreadable
from training_workers.states import from_bytes, to_bytes

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
