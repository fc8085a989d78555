"""A tiny base model on disk and in memory, a specification for it, and examples that it can learn."""

import random
from pathlib import Path
from typing import Any

import pytest
import torch

from federation.specification import FederationSpecification, parse_specification
from tests.training_workers.tiny_model import make_tiny_base
from training_workers.examples import Example, LabelExample
from training_workers.loading import TaskModel, load_base_model
from training_workers.runtime import Runtime

SPECIFICATION: dict[str, Any] = {
    "method": {
        "kind": "prefix",
        "n_virtual_tokens": 5,
        "start_text": "The film was wonderful. Sentiment: positive",
    },
    "task": {
        "kind": "label",
        "template": "{text}\nSentiment:",
        "label_words": {"positive": " positive", "negative": " negative"},
        "max_text_characters": 200,
    },
    "training": {"learning_rate": 0.02, "n_steps": 6, "batch_size": 4, "gradient_clip": 1.0, "seed": 0},
    "evaluation": {"n_held_out_rows": 24},
}
METHODS: dict[str, dict[str, Any]] = {
    "prefix": SPECIFICATION["method"],
    "ffa-lora": {"kind": "lora", "rank": 4},
    "lora": {"kind": "lora", "rank": 4, "freeze_a": False},
    "prompt": {**SPECIFICATION["method"], "kind": "prompt"},
    "full": {"kind": "full"},
}
ADAPTERS = {name: method for name, method in METHODS.items() if name != "full"}
CPU_FLOAT32 = Runtime(device=torch.device("cpu"), dtype=torch.float32, n_threads=1, reason="a test")
CPU_BFLOAT16 = Runtime(device=torch.device("cpu"), dtype=torch.bfloat16, n_threads=1, reason="a test")


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> None:
    """Many threads are slower than one on matrices of this size."""
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def tiny_directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A two-layer Llama's directory."""
    return make_tiny_base(tmp_path_factory.mktemp("bases") / "tiny")


@pytest.fixture(scope="session")
def tiny_base(tiny_directory: Path) -> TaskModel:
    """The two-layer Llama in memory, in float32, bound to the label task."""
    return load_base_model(tiny_directory, CPU_FLOAT32).for_task(parse_specification(SPECIFICATION).task)


@pytest.fixture(scope="session", params=["llama", "bert"])
def any_directory(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A causal model's directory, and an encoder's."""
    return make_tiny_base(tmp_path_factory.mktemp("bases") / request.param, architecture=request.param)


@pytest.fixture(scope="session")
def any_base(any_directory: Path) -> TaskModel:
    """The causal model in memory, and the encoder, in float32, bound to the label task."""
    return load_base_model(any_directory, CPU_FLOAT32).for_task(parse_specification(SPECIFICATION).task)


@pytest.fixture
def specification() -> FederationSpecification:
    """The label task's specification."""
    return parse_specification(SPECIFICATION)


@pytest.fixture(params=list(METHODS.values()), ids=list(METHODS))
def any_specification(request: pytest.FixtureRequest) -> FederationSpecification:
    """The label task's specification with one method after the other."""
    return parse_specification({**SPECIFICATION, "method": request.param})


@pytest.fixture(params=list(ADAPTERS.values()), ids=list(ADAPTERS))
def adapter_specification(request: pytest.FixtureRequest) -> FederationSpecification:
    """The same with one method of PEFT's after the other."""
    return parse_specification({**SPECIFICATION, "method": request.param})


@pytest.fixture
def reviews() -> list[Example]:
    """24 rows of unequal lengths whose first word tells the label."""
    generator = random.Random(0)
    words = ["film", "food", "service", "story", "acting", "world"]
    rows: list[Example] = []
    for number in range(24):
        word, label = (("good", "positive"), ("bad", "negative"))[number % 2]
        tail = " ".join(generator.choices(words, k=generator.randint(1, 12)))
        rows.append(LabelExample(f"{word} {tail}", label))
    return rows
