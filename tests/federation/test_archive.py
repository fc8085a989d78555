"""Archives of versions: the same bytes for the same version, and plain PEFT can use them."""

import hashlib
import json
import subprocess
import sys
import tracemalloc
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch
from django.core.files.storage import storages

from federation.archive import Archive, build_archive
from federation.specification import FederationSpecification, parse_specification
from tenants import storage
from tenants.storage import BlobCorrupt, BlobMissing
from tests.factories import (
    SPECIFICATION,
    BaseModelFactory,
    FederationFactory,
    PrefixVersionFactory,
    prefix_bytes,
)
from tests.score_with_peft import score
from tests.training_workers.conftest import CPU_FLOAT32, METHODS
from tests.training_workers.tiny_model import make_tiny_base
from training_workers.evaluation import evaluate
from training_workers.examples import LabelExample
from training_workers.loading import BaseModel, load_base_model
from training_workers.methods import State, get_method
from training_workers.readouts import COSINE_SCALE
from training_workers.states import to_bytes

pytestmark = pytest.mark.django_db


def members(archive: Archive) -> dict[str, bytes]:
    with archive.file, zipfile.ZipFile(archive.file) as file:
        assert all(member.compress_type == zipfile.ZIP_STORED for member in file.infolist())
        return {member.filename: file.read(member) for member in file.infolist()}


def test_an_archive_holds_all_that_its_use_takes() -> None:
    version = PrefixVersionFactory.create()
    found = members(build_archive(version=version))
    assert list(found) == ["adapter_config.json", "adapter_model.safetensors", "prelude.json", "README.md"]
    assert found["adapter_model.safetensors"] == prefix_bytes()
    assert json.loads(found["adapter_config.json"]) == version.federation.configuration
    about = json.loads(found["prelude.json"])
    assert about["version"] == {"id": version.public_id, "number": 0, "sha256": version.sha256}
    assert about["federation"]["id"] == version.federation.public_id
    assert about["base_model"]["weights_sha256"] == "a" * 64
    assert about["base_model"]["tokenizer_sha256"] == "b" * 64
    assert about["task"] == SPECIFICATION["task"]
    assert about["method"] == "prefix"
    assert "max_text_characters" in about["scoring"]


def test_the_same_version_gives_the_same_bytes() -> None:
    version = PrefixVersionFactory.create()
    first, second = build_archive(version=version), build_archive(version=version)
    with first.file, second.file:
        content = first.file.read()
        assert (content, first.etag) == (second.file.read(), second.etag)
    assert first.size_bytes == len(content)
    assert first.sha256 == hashlib.sha256(content).digest()
    other = PrefixVersionFactory.create(federation=version.federation, number=1, parent=version)
    third = build_archive(version=other)
    third.file.close()
    assert third.etag != first.etag


def test_a_large_version_is_zipped_a_chunk_at_a_time() -> None:
    content = bytes(32 * 2**20)
    version = PrefixVersionFactory.create(sha256=storage.put(content), size_bytes=len(content))
    tracemalloc.start()
    try:
        archive = build_archive(version=version)
        peak_bytes = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak_bytes < 8 * 2**20
    assert members(archive)["adapter_model.safetensors"] == content


def test_a_damaged_version_is_not_zipped() -> None:
    version = PrefixVersionFactory.create()
    blob = Path(storages["blobs"].path(f"content/{version.sha256[:2]}/{version.sha256}"))
    sound = blob.read_bytes()
    blob.write_bytes(sound[:-1] + b"x")
    with pytest.raises(BlobCorrupt):
        build_archive(version=version)
    blob.write_bytes(sound)


def test_a_version_whose_bytes_are_gone_is_not_zipped() -> None:
    with pytest.raises(BlobMissing):
        build_archive(version=PrefixVersionFactory.create(sha256="e" * 64))


def test_a_federation_for_completions_is_described_as_one() -> None:
    rules = {**SPECIFICATION, "task": {"kind": "completion", "max_tokens": 64}}
    federation = FederationFactory.create(specification=parse_specification(rules).as_json())
    found = members(build_archive(version=PrefixVersionFactory.create(federation=federation)))
    assert "completion" in json.loads(found["prelude.json"])["scoring"]
    assert b"generate" in found["README.md"]


@pytest.fixture(scope="module")
def tiny_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A two-layer base model's directory."""
    return make_tiny_base(tmp_path_factory.mktemp("bases") / "tiny")


@pytest.fixture(scope="module")
def tiny_base(tiny_path: Path) -> BaseModel:
    """The same in memory."""
    return load_base_model(tiny_path, CPU_FLOAT32)


@pytest.fixture(scope="module")
def encoder_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A two-layer encoder's directory."""
    return make_tiny_base(tmp_path_factory.mktemp("bases") / "encoder", architecture="bert")


def adapter_archive(base: BaseModel, **changes: Any) -> tuple[Archive, State, FederationSpecification]:
    """A version as the training side would have made it."""
    rules = {**SPECIFICATION, **changes}
    specification = parse_specification(rules)
    method = get_method(specification.method)
    state = method.start(base, seed=0)
    federation = FederationFactory.create(
        base_model=BaseModelFactory.create(facts=base.facts.to_dict()),
        specification=specification.as_json(),
        configuration=method.configuration(base),
    )
    data = to_bytes(state, {"format": "pt"})
    version = PrefixVersionFactory.create(
        federation=federation, sha256=storage.put(data), size_bytes=len(data)
    )
    return build_archive(version=version), state, specification


def follow_readme(archive: Archive, base: Path, directory: Path) -> str:
    """Run the readme's program where it says, with the base model's path filled in, and return what it prints."""
    with archive.file, zipfile.ZipFile(archive.file) as file:
        file.extractall(directory)
    program = (directory / "README.md").read_text().split("```python\n")[1].split("```")[0]
    program = program.replace("path/to/the/base/model", str(base))
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", program],
        cwd=directory,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.mark.parametrize("settings", METHODS.values(), ids=METHODS)
def test_the_readme_gives_the_answer_that_the_platform_scores(
    tiny_base: BaseModel, tiny_path: Path, tmp_path: Path, settings: dict[str, Any]
) -> None:
    archive, state, specification = adapter_archive(tiny_base, method=settings)
    answer = follow_readme(archive, tiny_path, tmp_path)
    method = get_method(specification.method)
    for label in ("positive", "negative"):
        example = LabelExample(text="What a fine day.", label=label)
        score = evaluate(tiny_base, method, state, [example], specification)
        assert score.accuracy == (label == answer)


@pytest.mark.filterwarnings("ignore:.is_gradient_checkpointing.:FutureWarning")
@pytest.mark.parametrize("settings", METHODS.values(), ids=METHODS)
def test_plain_peft_scores_an_encoders_archive_as_the_platform_does(
    encoder_path: Path, tmp_path: Path, settings: dict[str, Any]
) -> None:
    encoder = load_base_model(encoder_path, CPU_FLOAT32)
    archive, state, specification = adapter_archive(encoder, method=settings)
    method = get_method(specification.method)
    rows = []
    for text in ("What a fine day.", "bad food", "The acting was good, the story was not.", "no", "yes"):
        positive = evaluate(encoder, method, state, [LabelExample(text, "positive")], specification)
        rows.append({"text": text, "label": "positive" if positive.accuracy else "negative"})
    with archive.file:
        (tmp_path / "version.zip").write_bytes(archive.file.read())
    assert score(tmp_path / "version.zip", encoder_path, rows, torch.float32) == 1.0


@pytest.mark.parametrize("kind", ["prefix", "full"])
def test_the_readme_of_an_encoder_gives_the_answer_that_the_platform_scores(
    encoder_path: Path, tmp_path: Path, kind: str
) -> None:
    encoder = load_base_model(encoder_path, CPU_FLOAT32)
    archive, state, specification = adapter_archive(encoder, method=METHODS[kind])
    answer = follow_readme(archive, encoder_path, tmp_path)
    example = LabelExample("What a fine day.", answer)
    assert evaluate(encoder, get_method(specification.method), state, [example], specification).accuracy == 1


def test_the_scale_of_an_encoders_logits_is_told(encoder_path: Path) -> None:
    archive, _, _ = adapter_archive(load_base_model(encoder_path, CPU_FLOAT32))
    about = json.loads(members(archive)["prelude.json"])
    assert about["base_model"]["kind"] == "encoder"
    assert f"{COSINE_SCALE:g} times the cosine" in about["scoring"]


def test_the_readme_of_a_completion_task_runs(tiny_base: BaseModel, tiny_path: Path, tmp_path: Path) -> None:
    archive, _, _ = adapter_archive(tiny_base, task={"kind": "completion", "max_tokens": 64})
    assert follow_readme(archive, tiny_path, tmp_path)
