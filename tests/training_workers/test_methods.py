"""What a prefix is made of and refuses."""

import json
from typing import Any

import pytest
import torch
from pydantic import ValidationError

from federation.methods import PrefixSettings
from training_workers import errors
from training_workers.data import TokenExample, make_batch
from training_workers.loading import BaseModel
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


def test_the_start_is_the_texts_cache(tiny_base: BaseModel) -> None:
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


def test_a_short_text_is_repeated_and_a_long_one_cut(tiny_base: BaseModel) -> None:
    repeated = prefix(start_text="xy").start(tiny_base, seed=0)
    written = prefix(start_text="xyxyxyxy").start(tiny_base, seed=1)
    assert torch.equal(repeated["prompt_embeddings"], written["prompt_embeddings"])


def test_a_state_that_does_not_fit_is_refused(tiny_base: BaseModel) -> None:
    method = prefix()
    good = method.start(tiny_base, seed=0)["prompt_embeddings"]
    method.check(tiny_base, {"prompt_embeddings": good})
    for state in (
        {},
        {"prompt_embeddings": good, "lora_A": good},
        {"prompt_embeddings": good[:4]},
        {"prompt_embeddings": good.double()},
        {"prompt_embeddings": torch.full_like(good, float("nan"))},
    ):
        with pytest.raises(errors.StateIncompatible):
            method.check(tiny_base, state)


def test_the_adapters_configuration_is_json_without_a_path(tiny_base: BaseModel) -> None:
    config = json.loads(json.dumps(prefix().adapter_config(tiny_base)))
    assert config["peft_type"] == "PREFIX_TUNING"
    assert config["task_type"] == "CAUSAL_LM"
    assert (config["num_virtual_tokens"], config["num_layers"]) == (5, 2)
    assert (config["num_attention_heads"], config["token_dim"]) == (2, 24)
    assert config["base_model_name_or_path"] is None
    assert config["prefix_projection"] is False
    assert config["inference_mode"] is True
