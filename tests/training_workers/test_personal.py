"""What each rule of a personal prefix does to the shared one, at the trainer's jobs."""

import copy
import json
import math
from collections.abc import Sequence
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel
from torch import Tensor
from transformers import AutoModelForCausalLM

from federation.specification import parse_specification
from tests.training_workers.conftest import ADAPTERS, SPECIFICATION
from training_workers.base_models import inspect_directory
from training_workers.data import TokenExample, make_batch
from training_workers.evaluation import evaluate
from training_workers.examples import (
    Example,
    LabelExample,
    as_row,
    count_training_labels,
    input_hash,
    is_held_out,
    label_log_prior,
)
from training_workers.jobs import Answer, Workshop
from training_workers.loading import TaskModel, load_base_model
from training_workers.methods import get_method
from training_workers.methods.prefix import TENSOR
from training_workers.runtime import choose_runtime
from training_workers.states import from_bytes, to_bytes

pytestmark = pytest.mark.filterwarnings("ignore:.is_gradient_checkpointing.:FutureWarning")
PREFIX = ADAPTERS["prefix"]


@pytest.fixture(scope="module")
def workshop() -> Workshop:
    return Workshop()


def grow(
    workshop: Workshop,
    directory: Path,
    rows: Sequence[Example],
    *,
    method: dict[str, Any] = PREFIX,
    **changes: Any,
) -> tuple[dict[str, Tensor], dict[str, Tensor], dict[str, Any]]:
    """The shared state, the one that a tenant grew, and their scores on the same rows."""
    specification = copy.deepcopy({**SPECIFICATION, "method": method})
    freezes_keys = changes.pop("freezes_keys", False)
    specification["training"] |= {"n_steps": 12, **changes}
    facts = inspect_directory(directory)
    base = {
        "path": str(directory),
        "weights_sha256": facts.weights_sha256,
        "tokenizer_sha256": facts.tokenizer_sha256,
    }
    shared = do(workshop, {"kind": "start", "base": base, "specification": specification})[1]["start"]
    job = {
        "kind": "grow",
        "base": base,
        "specification": specification,
        "seed": 3,
        "freezes_keys": freezes_keys,
        "examples": [as_row(row) for row in rows] * 2,
        "held_out": [as_row(row) for row in rows],
    }
    result, blobs = do(workshop, job, state=shared)
    return from_bytes(shared), from_bytes(blobs["grown"]), result["scores"]


def do(workshop: Workshop, job: dict[str, Any], **blobs: bytes) -> Answer:
    return workshop.do(job, blobs, report=lambda _: None, should_stop=lambda: False)


def distance(state: dict[str, Tensor], other: dict[str, Tensor]) -> float:
    return float(sum((state[name] - other[name]).square().sum() for name in state) ** 0.5)


@pytest.mark.parametrize("method", ADAPTERS.values(), ids=ADAPTERS)
def test_fine_tuning_lowers_the_loss_whatever_the_adapter(
    workshop: Workshop, tiny_directory: Path, reviews: list[Example], method: dict[str, Any]
) -> None:
    _, _, scores = grow(workshop, tiny_directory, reviews, method=method, learning_rate=0.02)
    assert scores["personal"]["loss"] < scores["shared"]["loss"]


def test_ditto_stays_the_nearer_the_stronger_it_is(
    workshop: Workshop, tiny_directory: Path, reviews: list[Example]
) -> None:
    def moved_by(proximal: float) -> float:
        shared, grown, _ = grow(workshop, tiny_directory, reviews, proximal=proximal, n_steps=24)
        return distance(shared, grown)

    free, held, tight = moved_by(0.0), moved_by(1.0), moved_by(1000.0)
    assert free > held > tight
    assert tight < free / 5


def parts(state: dict[str, Tensor], base: TaskModel) -> tuple[Tensor, Tensor]:
    """Keys and values."""
    facts = base.facts
    pairs = state[TENSOR].view(-1, facts.n_layers, 2, facts.n_kv_heads, facts.head_size)
    return pairs[:, :, 0], pairs[:, :, 1]


def test_personal_values_leave_the_keys_bit_for_bit_and_change_every_layers_values(
    workshop: Workshop, tiny_directory: Path, tiny_base: TaskModel, reviews: list[Example]
) -> None:
    shared, grown, scores = grow(workshop, tiny_directory, reviews, freezes_keys=True)
    (keys, values), (new_keys, new_values) = parts(shared, tiny_base), parts(grown, tiny_base)
    assert keys.numpy().tobytes() == new_keys.numpy().tobytes()
    for layer in range(tiny_base.facts.n_layers):
        assert not torch.equal(values[:, layer], new_values[:, layer])
    assert scores["personal"]["loss"] < scores["shared"]["loss"]
    _, free, _ = grow(workshop, tiny_directory, reviews)
    assert not torch.equal(parts(free, tiny_base)[0], keys)


def test_a_grown_prefix_is_one_that_plain_peft_loads(
    workshop: Workshop, tiny_directory: Path, tiny_base: TaskModel, reviews: list[Example], tmp_path: Path
) -> None:
    _, grown, _ = grow(workshop, tiny_directory, reviews, freezes_keys=True)
    method = get_method(parse_specification(SPECIFICATION).method)
    (tmp_path / "adapter_config.json").write_text(json.dumps(method.configuration(tiny_base)))
    (tmp_path / "adapter_model.safetensors").write_bytes(to_bytes(grown, {}))
    bare = AutoModelForCausalLM.from_pretrained(tiny_directory, dtype=torch.float32)
    model = PeftModel.from_pretrained(bare, tmp_path).eval()
    prompt = tuple(range(20, 29))
    with torch.no_grad():
        there = model(input_ids=torch.tensor([prompt])).logits[0, -1]
        batch = make_batch([TokenExample(prompt, (7,))], device=torch.device("cpu"))
        here = method.logits(tiny_base, grown, batch)[0]
    torch.testing.assert_close(here, there, rtol=1e-4, atol=1e-4)


def test_a_prior_raises_accuracy_where_labels_are_skewed_alike_at_use(any_directory: Path) -> None:
    """Nine of ten rows are of the label to which the version does not lean, and their texts say nothing."""
    specification = parse_specification(SPECIFICATION)
    base, method = load_base_model(any_directory, choose_runtime()), get_method(specification.method)
    state = method.start(base, seed=0)

    def accuracy(rows: Sequence[Example], counts: dict[str, int] | None = None) -> float:
        return evaluate(base, method, state, rows, specification, label_counts=counts).accuracy

    texts = [f"row {number} of the list" for number in range(40)]
    labels = ("positive", "negative")
    common, rare = sorted(labels, key=lambda label: accuracy([LabelExample(text, label) for text in texts]))
    rows = [LabelExample(text, rare if place % 10 == 0 else common) for place, text in enumerate(texts)]
    assert accuracy(rows) < accuracy(rows, {common: 9_999})
    assert accuracy(rows, {common: 9_999}) == pytest.approx(0.9)


def test_the_prior_counts_training_rows_alone_and_leaves_no_label_out() -> None:
    rows = [{"text": f"text {number}", "label": "positive"} for number in range(50)]
    file = BytesIO("\n".join(map(json.dumps, rows)).encode())
    counts = count_training_labels(file, "jsonl")
    n_train = sum(not is_held_out(input_hash(LabelExample(row["text"], row["label"]))) for row in rows)
    assert counts == {"positive": n_train}
    assert 0 < n_train < 50
    prior = label_log_prior(counts, labels=["positive", "negative"])
    assert prior == pytest.approx(
        {"positive": math.log((n_train + 1) / (n_train + 2)), "negative": math.log(1 / (n_train + 2))}
    )
