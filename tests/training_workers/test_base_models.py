"""Looking at base models' directories: digests that pin them, and refusals of what cannot serve."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from training_workers import errors
from training_workers.base_models import (
    directory_stamp,
    inspect_directory,
    refuse_other_digests,
)


@pytest.fixture
def directory(tiny_directory: Path, tmp_path: Path) -> Path:
    """A copy that a test may spoil."""
    return Path(shutil.copytree(tiny_directory, tmp_path / "base"))


def _configure(directory: Path, **changes: object) -> None:
    path = directory / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def test_digests_belong_to_the_bytes_not_to_the_place(tiny_directory: Path, directory: Path) -> None:
    assert inspect_directory(directory) == inspect_directory(tiny_directory)


@pytest.mark.parametrize(
    ("file_name", "changes_weights", "changes_tokenizer"),
    [
        ("model.safetensors", True, False),
        ("config.json", True, False),
        ("tokenizer.json", False, True),
        ("generation_config.json", False, False),
    ],
)
def test_a_changed_byte_changes_its_own_digest(
    directory: Path, file_name: str, changes_weights: bool, changes_tokenizer: bool
) -> None:
    before = inspect_directory(directory)
    stamp = directory_stamp(directory)
    path = directory / file_name
    content = bytearray(path.read_bytes())
    if file_name == "model.safetensors":
        content[-1] ^= 1
    else:
        content += b"\n"
    path.write_bytes(content)
    after = inspect_directory(directory)
    assert (after.weights_sha256 != before.weights_sha256) is changes_weights
    assert (after.tokenizer_sha256 != before.tokenizer_sha256) is changes_tokenizer
    assert directory_stamp(directory) != stamp


def test_another_digest_than_the_registered_one_is_refused(directory: Path) -> None:
    facts = inspect_directory(directory)
    base = {"path": str(directory), "weights_sha256": facts.weights_sha256, "tokenizer_sha256": "0" * 64}
    with pytest.raises(errors.BaseModelDigestMismatch, match="tokenizer"):
        refuse_other_digests(facts, base)
    base["tokenizer_sha256"] = facts.tokenizer_sha256
    refuse_other_digests(facts, base)


def _remove(*names: str) -> Callable[[Path], None]:
    def spoil(directory: Path) -> None:
        for name in names:
            (directory / name).unlink()

    return spoil


def _pickle_weights(directory: Path) -> None:
    (directory / "model.safetensors").rename(directory / "pytorch_model.bin")


def _truncate(directory: Path) -> None:
    path = directory / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-1])


def _index_a_missing_part(directory: Path) -> None:
    index = {"weight_map": {"lm_head.weight": "model-00002-of-00002.safetensors"}}
    (directory / "model.safetensors.index.json").write_text(json.dumps(index))


@pytest.mark.parametrize(
    ("spoil", "refusal"),
    [
        (shutil.rmtree, errors.BaseModelNotFound),
        (_remove("config.json"), errors.BaseModelFileMissing),
        (_remove("model.safetensors"), errors.BaseModelFileMissing),
        (_remove("tokenizer.json"), errors.BaseModelFileMissing),
        (_index_a_missing_part, errors.BaseModelFileMissing),
        (_pickle_weights, errors.WeightsPickled),
        (_truncate, errors.BaseModelBroken),
        (
            lambda directory: (directory / "model.safetensors").write_bytes(b"\xff" * 64),
            errors.BaseModelBroken,
        ),
        (lambda directory: (directory / "config.json").write_text("{"), errors.BaseModelBroken),
        (lambda directory: (directory / "config.json").write_text("[]"), errors.BaseModelBroken),
        (lambda directory: _configure(directory, hidden_size=None), errors.BaseModelBroken),
        (lambda directory: _configure(directory, model_type="bert"), errors.ArchitectureUnsupported),
        (lambda directory: _configure(directory, architectures=None), errors.ArchitectureUnsupported),
        (
            lambda directory: _configure(directory, architectures=["LlamaForSequenceClassification"]),
            errors.ArchitectureUnsupported,
        ),
    ],
)
def test_refuses_what_cannot_serve(
    directory: Path, spoil: Callable[[Path], object], refusal: type[errors.BaseModelRefusal]
) -> None:
    spoil(directory)
    with pytest.raises(refusal):
        inspect_directory(directory)
