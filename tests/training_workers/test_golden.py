"""Plain PEFT is the judge: a state that is saved as an adapter gives the same logits and the same score there."""

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel, get_peft_config, get_peft_model
from safetensors.torch import save_file
from torch import Tensor
from transformers import AutoModelForCausalLM, AutoTokenizer

from federation.specification import FederationSpecification
from tests.training_workers.conftest import CPU_BFLOAT16, CPU_FLOAT32, SPECIFICATION
from tests.training_workers.tiny_model import CAUSAL, CONFIGURATIONS, make_tiny_base
from training_workers.base_models import ARCHITECTURES, inspect_directory
from training_workers.data import TokenExample, make_batch
from training_workers.evaluation import evaluate
from training_workers.examples import Example, LabelExample
from training_workers.loading import BaseModel, load_base_model
from training_workers.local_training import train_locally
from training_workers.methods import Method, get_method
from training_workers.states import moved

ADAPTER_FILES = ("adapter_config.json", "adapter_model.safetensors")
pytestmark = pytest.mark.filterwarnings("ignore:.is_gradient_checkpointing.:FutureWarning")


def _method(specification: FederationSpecification) -> Method:
    return get_method(specification.method)


def _exported(directory: Path, base: BaseModel, method: Method, state: dict[str, Tensor]) -> Path:
    """A directory as the archive holds it."""
    directory.mkdir()
    is_whole = method.settings.is_whole_model
    configuration, tensors = ("config.json", "model.safetensors") if is_whole else ADAPTER_FILES
    (directory / configuration).write_text(json.dumps(method.configuration(base)))
    save_file(state, directory / tensors, metadata={"format": "pt"})
    return directory


def _plain(base: Path, exported: Path) -> Any:
    """The model as anybody loads it."""
    if (exported / "config.json").exists():
        return AutoModelForCausalLM.from_pretrained(exported, dtype=torch.float32)
    return PeftModel.from_pretrained(
        AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32), exported
    )


def _trained(
    base: BaseModel, specification: FederationSpecification, reviews: Sequence[Example]
) -> dict[str, Tensor]:
    method = _method(specification)
    start = method.start(base, seed=0)
    outcome = train_locally(base, method, start, reviews, specification, seed=1)
    return moved(start, outcome.update)


def test_every_architecture_of_the_table_is_tried() -> None:
    assert set(CONFIGURATIONS) == set(ARCHITECTURES)


@pytest.mark.parametrize("architecture", CAUSAL)
def test_logits_are_those_of_plain_peft(
    architecture: str,
    tmp_path: Path,
    any_specification: FederationSpecification,
    reviews: Sequence[Example],
) -> None:
    directory = make_tiny_base(tmp_path / "base", architecture=architecture)
    base = load_base_model(directory, CPU_FLOAT32).for_task(any_specification.task)
    method, state = _method(any_specification), _trained(base, any_specification, reviews)
    exported = _exported(tmp_path / "exported", base, method, state)
    # The middle row is longer than the sliding window of the families that have one.
    examples = [TokenExample(tuple(range(10, 10 + n_tokens)), (7,)) for n_tokens in (3, 50, 9)]
    batch = make_batch(examples, device=base.runtime.device)
    plain = _plain(directory, exported)
    with torch.no_grad():
        ours = method.logits(base, state, batch)
        logits = plain(input_ids=batch.input_ids, attention_mask=batch.attention_mask).logits
    theirs = logits[:, -batch.input_ids.shape[1] :]  # PEFT gives a prompt's positions too
    torch.testing.assert_close(ours, theirs[torch.arange(3), [2, 49, 8]], rtol=1e-4, atol=1e-4)
    bare = base.logits(base.target_states(batch))
    assert float((ours - bare).abs().max()) > 0.01


def test_peft_trains_no_parameter_more_than_the_state(
    tiny_base: BaseModel, tiny_directory: Path, adapter_specification: FederationSpecification
) -> None:
    method = _method(adapter_specification)
    written = method.configuration(tiny_base)
    config = get_peft_config(dict(written))
    as_peft_writes_it = {
        name: sorted(value) if isinstance(value, set) else value for name, value in config.to_dict().items()
    }
    assert as_peft_writes_it == as_peft_writes_it | written
    config.inference_mode = False
    plain = get_peft_model(AutoModelForCausalLM.from_pretrained(tiny_directory), config)
    n_trainable = sum(parameter.numel() for parameter in plain.parameters() if parameter.requires_grad)
    assert n_trainable == sum(tensor.numel() for tensor in method.start(tiny_base, seed=0).values())
    assert not any(parameter.requires_grad for parameter in tiny_base.model.parameters())


def _plain_accuracy(directory: Path, exported: Path | None, rows: Sequence[LabelExample]) -> float:
    """What anybody can write down, one row at a time."""
    tokenizer = AutoTokenizer.from_pretrained(directory)
    model: Any = AutoModelForCausalLM.from_pretrained(directory, dtype=torch.float32)
    if exported is not None:
        model = _plain(directory, exported)
    words = SPECIFICATION["task"]["label_words"]
    answers = [tokenizer(word, add_special_tokens=False)["input_ids"][0] for word in words.values()]
    n_right = 0
    for row in rows:
        inputs = tokenizer(f"{row.text[:200]}\nSentiment:", return_tensors="pt")
        with torch.no_grad():
            logits = model(input_ids=inputs["input_ids"], attention_mask=inputs["attention_mask"]).logits[
                0, -1
            ]
        n_right += list(words)[int(logits[answers].argmax())] == row.label
    return n_right / len(rows)


@pytest.mark.parametrize("runtime", [CPU_FLOAT32, CPU_BFLOAT16], ids=["float32", "bfloat16"])
def test_the_score_is_that_of_plain_peft_in_float32(
    runtime: Any,
    tmp_path: Path,
    tiny_directory: Path,
    any_specification: FederationSpecification,
    reviews: list[LabelExample],
) -> None:
    base, specification = load_base_model(tiny_directory, runtime), any_specification
    rows = [*reviews, *(dataclasses.replace(row, text=row.text[::-1]) for row in reviews)]
    method, state = _method(specification), _trained(base, specification, reviews[:8])
    exported = _exported(tmp_path / "exported", base, method, state)
    after = evaluate(base, method, state, rows, specification)
    assert after.accuracy == _plain_accuracy(tiny_directory, exported, rows)
    bare = evaluate(base, method, None, rows, specification)
    assert bare.accuracy == _plain_accuracy(tiny_directory, None, rows)
    assert 0 < after.accuracy < 1
    assert after.n_rows == 48


def test_the_facts_are_those_of_the_loaded_model(tiny_directory: Path, tiny_base: BaseModel) -> None:
    facts, config = inspect_directory(tiny_directory), tiny_base.model.config
    assert facts.n_parameters == sum(parameter.numel() for parameter in tiny_base.model.parameters())
    assert (facts.n_layers, facts.n_kv_heads, facts.head_size) == (2, 2, 12)
    assert (facts.vocabulary_size, facts.context_length) == (config.vocab_size, 2048)
