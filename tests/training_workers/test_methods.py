"""What each method is made of, and what it refuses."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from pydantic import ValidationError

from federation.methods import FullSettings, LoraSettings, PrefixSettings, PromptSettings
from tests.training_workers.conftest import CPU_FLOAT32
from tests.training_workers.tiny_model import make_tiny_base
from training_workers import errors
from training_workers.data import TokenExample, make_batch
from training_workers.loading import TaskModel, load_base_model
from training_workers.methods import Method, get_method


def prefix(**settings: Any) -> Method:
    chosen = {"n_virtual_tokens": 5, "start_text": "The film was wonderful.", **settings}
    return get_method(PrefixSettings(kind="prefix", **chosen))


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"n_virtual_tokens": 0}, "n_virtual_tokens"),
        ({"n_virtual_tokens": 513}, "n_virtual_tokens"),
        ({"n_virtual_tokens": True}, "n_virtual_tokens"),
        ({"n_virtual_tokens": 2.0}, "n_virtual_tokens"),
        ({"start_text": "  "}, "start_text"),
        ({"start_text": None}, "start_text"),
        ({"prefix_projection": True}, "prefix_projection"),
    ],
)
def test_settings_are_refused_by_name(changes: dict[str, Any], field: str) -> None:
    with pytest.raises(ValidationError, match=field):
        prefix(**changes)


def test_the_start_is_the_texts_cache(tiny_base: TaskModel) -> None:
    """Continuing behind the start prefix is continuing behind its text: positions and layout are right."""
    text = "The film was wonderful."
    tokens = tiny_base.tokenizer(text)["input_ids"]
    method = prefix(n_virtual_tokens=len(tokens), start_text=text)
    state = method.start(tiny_base, seed=0)
    start = state["prompt_embeddings"]
    assert (start.dtype, tuple(start.shape)) == (torch.float32, (len(tokens), 2 * 2 * 2 * 12))
    rest = tiny_base.tokenizer(" Sentiment:")["input_ids"]
    with torch.no_grad():
        whole = tiny_base.model(input_ids=torch.tensor([tokens + rest])).logits[0, -1]
        batch = make_batch([TokenExample(tuple(rest), (0,))], device=torch.device("cpu"))
        behind = method.logits(tiny_base, state, batch)[0]
    torch.testing.assert_close(behind, whole, rtol=1e-4, atol=1e-4)


def test_a_short_text_is_repeated_and_a_long_one_cut(tiny_base: TaskModel) -> None:
    repeated = prefix(start_text="xy").start(tiny_base, seed=0)
    written = prefix(start_text="xyxyxyxy").start(tiny_base, seed=1)
    assert torch.equal(repeated["prompt_embeddings"], written["prompt_embeddings"])


def test_the_adapters_configuration_is_json_without_a_path(tiny_base: TaskModel) -> None:
    config = json.loads(json.dumps(prefix().configuration(tiny_base)))
    assert config["peft_type"] == "PREFIX_TUNING"
    assert config["task_type"] == "CAUSAL_LM"
    assert (config["num_virtual_tokens"], config["num_layers"]) == (5, 2)
    assert (config["num_attention_heads"], config["token_dim"]) == (2, 24)
    assert config["base_model_name_or_path"] is None
    assert config["prefix_projection"] is False
    assert config["inference_mode"] is True


def lora(**settings: Any) -> Method:
    return get_method(LoraSettings(kind="lora", **settings))


def test_lora_begins_as_the_bare_base_model(tiny_base: TaskModel) -> None:
    method = lora()
    batch = make_batch([TokenExample((20, 21, 22), (7,))], device=torch.device("cpu"))
    begun = method.logits(tiny_base, method.start(tiny_base, seed=0), batch)
    assert torch.equal(begun, tiny_base.logits(tiny_base.target_states(batch)))


def test_another_seed_draws_another_a(tiny_base: TaskModel) -> None:
    name = "base_model.model.model.layers.1.self_attn.q_proj.lora_A.weight"
    first, second = (lora().start(tiny_base, seed=seed)[name] for seed in (0, 1))
    assert not torch.equal(first, second)
    assert float(first.abs().max()) <= 48**-0.5


def test_lora_leaves_no_hook_behind(tiny_base: TaskModel) -> None:
    method = lora(target_modules=["self_attn.q_proj", "down_proj"])
    state = {name: torch.ones_like(tensor) for name, tensor in method.start(tiny_base, seed=0).items()}
    assert len(state) == 8
    batch = make_batch([TokenExample((20, 21, 22), (7,))], device=torch.device("cpu"))
    bare = tiny_base.logits(tiny_base.target_states(batch))
    assert not torch.equal(method.logits(tiny_base, state, batch), bare)
    assert torch.equal(tiny_base.logits(tiny_base.target_states(batch)), bare)


@pytest.mark.parametrize(
    "name", ["c_attn", "q_pro", "lm_head", "self_attn", "embed_tokens", "input_layernorm"]
)
def test_modules_that_lora_cannot_change_are_refused(tiny_base: TaskModel, name: str) -> None:
    with pytest.raises(errors.SpecificationInvalid, match=f"target_modules cannot be used: '{name}'"):
        lora(target_modules=["q_proj", name]).start(tiny_base, seed=0)


def test_a_prompt_begins_as_its_text(tiny_base: TaskModel) -> None:
    text = "The film was wonderful."
    tokens = tuple(tiny_base.tokenizer(text)["input_ids"])
    method = get_method(PromptSettings(kind="prompt", n_virtual_tokens=len(tokens), start_text=text))
    cpu = torch.device("cpu")
    behind = method.logits(
        tiny_base, method.start(tiny_base, seed=0), make_batch([TokenExample((20, 21), (7,))], device=cpu)
    )
    whole = make_batch([TokenExample((*tokens, 20, 21), (7,))], device=cpu)
    torch.testing.assert_close(behind, tiny_base.logits(tiny_base.target_states(whole)), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("settings", [PrefixSettings, PromptSettings])
def test_what_leaves_nothing_of_the_context_is_refused(
    tiny_base: TaskModel, settings: type[PrefixSettings | PromptSettings]
) -> None:
    small = dataclasses.replace(tiny_base, facts=dataclasses.replace(tiny_base.facts, context_length=16))
    kind = settings.__name__.removesuffix("Settings").lower()
    method = get_method(settings(kind=kind, n_virtual_tokens=16, start_text="A text."))  # type: ignore[arg-type]
    with pytest.raises(errors.SpecificationInvalid, match="context of 16 positions"):
        method.start(small, seed=0)


def test_a_base_model_that_is_too_large_is_refused(tiny_base: TaskModel) -> None:
    large = dataclasses.replace(
        tiny_base, facts=dataclasses.replace(tiny_base.facts, n_parameters=300_000_001)
    )
    with pytest.raises(errors.BaseModelTooLarge, match="300000001 parameters"):
        get_method(FullSettings(kind="full")).start(large, seed=0)


def test_a_shared_weight_is_held_once(tmp_path: Path) -> None:
    base = load_base_model(make_tiny_base(tmp_path / "base", architecture="gpt2"), CPU_FLOAT32)
    method = get_method(FullSettings(kind="full"))
    state = method.start(base, seed=0)
    assert sum(tensor.numel() for tensor in state.values()) == base.facts.n_parameters
    assert "lm_head.weight" not in state
    assert str(tmp_path) not in json.dumps(method.configuration(base))
