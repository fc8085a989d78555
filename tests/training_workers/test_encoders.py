"""Encoders answer by the cosine of embeddings, with the very numbers that plain PEFT and transformers give."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel, get_peft_config, get_peft_model
from safetensors.torch import save_file
from torch import Tensor
from torch.nn.functional import cosine_similarity
from transformers import AutoModel, AutoTokenizer

from federation.specification import CompletionTask, FederationSpecification, LabelTask
from tests.training_workers.conftest import CPU_BFLOAT16, CPU_FLOAT32, SPECIFICATION
from tests.training_workers.tiny_model import ENCODERS, make_tiny_base
from training_workers import errors
from training_workers.base_models import inspect_directory
from training_workers.data import make_batch
from training_workers.evaluation import evaluate
from training_workers.examples import Example, LabelExample
from training_workers.loading import BaseModel, load_base_model
from training_workers.local_training import train_locally
from training_workers.methods import Method, get_method
from training_workers.readouts import COSINE_SCALE
from training_workers.states import moved

pytestmark = pytest.mark.filterwarnings("ignore:.is_gradient_checkpointing.:FutureWarning")


@pytest.fixture(scope="module", params=ENCODERS)
def directory(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A two-layer encoder's directory."""
    return make_tiny_base(tmp_path_factory.mktemp("bases") / request.param, architecture=request.param)


@pytest.fixture(scope="module")
def encoder(directory: Path) -> BaseModel:
    """The same in memory, in float32."""
    return load_base_model(directory, CPU_FLOAT32)


@pytest.fixture
def method(any_specification: FederationSpecification) -> Method:
    """One method after the other."""
    return get_method(any_specification.method)


@pytest.fixture
def state(
    encoder: BaseModel, method: Method, any_specification: FederationSpecification, reviews: list[Example]
) -> dict[str, Tensor]:
    """A state after six steps."""
    start = method.start(encoder, seed=0)
    update = train_locally(encoder, method, start, reviews, any_specification, seed=1).update
    return moved(start, update)


@pytest.fixture
def exported(encoder: BaseModel, method: Method, state: dict[str, Tensor], tmp_path: Path) -> Path:
    """The state as a directory that PEFT or transformers loads."""
    is_whole = method.settings.is_whole_model
    (tmp_path / ("config.json" if is_whole else "adapter_config.json")).write_text(
        json.dumps(method.configuration(encoder))
    )
    tensors = "model.safetensors" if is_whole else "adapter_model.safetensors"
    save_file(state, tmp_path / tensors, metadata={"format": "pt"})
    return tmp_path


def _plain_embedding(model: Any, tokenizer: Any, text: str) -> Tensor:
    """What anybody can write down, for one text and without padding."""
    inputs = tokenizer(text, return_tensors="pt")
    with torch.no_grad():
        states = model(
            input_ids=inputs["input_ids"], attention_mask=inputs["attention_mask"]
        ).last_hidden_state
    # Prompt tuning's own positions come first.
    embedding: Tensor = states[0, -inputs["input_ids"].shape[1] :].mean(dim=0)
    return embedding


def _plain_logits(directory: Path, exported: Path | None, texts: Sequence[str]) -> Tensor:
    """[n_texts, n_labels], of what was exported or of the bare base model."""
    tokenizer, model = AutoTokenizer.from_pretrained(directory), AutoModel.from_pretrained(directory)
    words = SPECIFICATION["task"]["label_words"].values()
    labels = torch.stack([_plain_embedding(model, tokenizer, word) for word in words])
    if exported is not None:
        is_whole = (exported / "config.json").exists()
        model = (
            AutoModel.from_pretrained(exported) if is_whole else PeftModel.from_pretrained(model, exported)
        )
    rows = [_plain_embedding(model, tokenizer, f"{text}\nSentiment:") for text in texts]
    return 20 * torch.stack([cosine_similarity(row, labels) for row in rows])


@pytest.mark.parametrize("is_bare", [False, True], ids=["prefix", "bare"])
def test_logits_are_those_of_plain_peft(
    directory: Path,
    encoder: BaseModel,
    exported: Path,
    method: Method,
    state: dict[str, Tensor],
    specification: FederationSpecification,
    is_bare: bool,
) -> None:
    """Positions go on behind the prefix, padding is neither seen nor pooled, nor are the prefix's columns."""
    texts = ["good", "bad food " * 20, "a story of the world"]
    base = encoder.for_task(specification.task)
    rows = base.encode([LabelExample(text, "positive") for text in texts], n_positions=method.n_positions)
    batch = make_batch(rows, device=base.runtime.device)
    assert len(set(batch.attention_mask.sum(dim=1).tolist())) == 3
    with torch.no_grad():
        ours = base.logits(base.target_states(batch)) if is_bare else method.logits(base, state, batch)
    theirs = _plain_logits(directory, None if is_bare else exported, texts)
    torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("runtime", [CPU_FLOAT32, CPU_BFLOAT16], ids=["float32", "bfloat16"])
def test_the_score_is_that_of_plain_peft_in_float32(
    runtime: Any,
    directory: Path,
    exported: Path,
    method: Method,
    state: dict[str, Tensor],
    specification: FederationSpecification,
    reviews: list[LabelExample],
) -> None:
    score = evaluate(load_base_model(directory, runtime), method, state, reviews, specification)
    guesses = _plain_logits(directory, exported, [row.text for row in reviews]).argmax(dim=1).tolist()
    labels = list(SPECIFICATION["task"]["label_words"])
    n_right = sum(labels[guess] == row.label for guess, row in zip(guesses, reviews, strict=True))
    assert score.accuracy == n_right / len(reviews)
    assert 0 < score.accuracy < 1


def test_peft_trains_no_parameter_more_than_the_state(
    directory: Path, encoder: BaseModel, adapter_specification: FederationSpecification
) -> None:
    method = get_method(adapter_specification.method)
    written = method.configuration(encoder)
    assert written["task_type"] == "FEATURE_EXTRACTION"
    config = get_peft_config(dict(written))
    config.inference_mode = False
    plain = get_peft_model(AutoModel.from_pretrained(directory), config)
    n_trainable = sum(parameter.numel() for parameter in plain.parameters() if parameter.requires_grad)
    assert n_trainable == sum(tensor.numel() for tensor in method.start(encoder, seed=0).values())


def test_a_label_is_embedded_by_the_bare_base_model_and_never_trained(
    directory: Path, encoder: BaseModel, specification: FederationSpecification
) -> None:
    base = encoder.for_task(specification.task)
    tokenizer, model = AutoTokenizer.from_pretrained(directory), AutoModel.from_pretrained(directory)
    word = _plain_embedding(model, tokenizer, " negative")
    itself = base.logits(word.unsqueeze(0))[0]
    assert float(itself[1]) == pytest.approx(COSINE_SCALE, rel=1e-5)
    assert float(itself[0]) < COSINE_SCALE
    assert not base.logits(word.unsqueeze(0).requires_grad_()).is_leaf
    assert base.readout.label_answers == [(0,), (1,)]


def test_the_labels_embeddings_are_those_of_float32(
    directory: Path, encoder: BaseModel, specification: FederationSpecification
) -> None:
    """A word's embedding is in every logit: bfloat16's error in it would be in each of them."""
    states = torch.eye(48)
    in_bfloat16 = load_base_model(directory, CPU_BFLOAT16).for_task(specification.task)
    torch.testing.assert_close(
        in_bfloat16.logits(states), encoder.for_task(specification.task).logits(states), rtol=0, atol=0
    )


def test_words_that_begin_alike_can_be_told_apart_and_equal_ones_cannot(encoder: BaseModel) -> None:
    words = {"a": "good food", "b": "good service"}
    task = LabelTask(kind="label", template="{text}", label_words=words, max_text_characters=9)
    assert encoder.for_task(task).readout.label_answers == [(0,), (1,)]
    same = LabelTask(
        kind="label", template="{text}", label_words={**words, "c": "Good food"}, max_text_characters=9
    )
    with pytest.raises(errors.LabelWordsClash, match="a, c have the same tokens"):
        encoder.for_task(same)


def test_a_word_must_fit_into_the_context(encoder: BaseModel) -> None:
    words = {"a": "good", "b": "bad " * encoder.facts.context_length}
    task = LabelTask(kind="label", template="{text}", label_words=words, max_text_characters=9)
    with pytest.raises(errors.SpecificationInvalid, match=r"label_words .* 2048 tokens"):
        encoder.for_task(task)


def test_an_encoder_completes_nothing(encoder: BaseModel) -> None:
    with pytest.raises(errors.TaskUnsupported, match="encoder cannot do a completion task"):
        encoder.for_task(CompletionTask(kind="completion", max_tokens=32))


def test_stored_positions_are_no_parameters(directory: Path, encoder: BaseModel, tmp_path: Path) -> None:
    """all-MiniLM-L6-v2's file holds them beside its weights."""
    for file in directory.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    tensors = {name: tensor.contiguous() for name, tensor in encoder.model.state_dict().items()}
    tensors["embeddings.position_ids"] = torch.arange(2048).unsqueeze(0)
    save_file(tensors, tmp_path / "model.safetensors", metadata={"format": "pt"})
    facts = inspect_directory(tmp_path)
    assert facts.n_parameters == sum(parameter.numel() for parameter in encoder.model.parameters())
    assert (facts.kind, facts.architecture) == ("encoder", "BertModel")
