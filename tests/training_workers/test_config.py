"""The specification's JSON as the learning code reads it."""

import copy
from typing import Any

import pytest

from training_workers.config import CompletionTask, LabelTask, TrainingSpecification
from training_workers.errors import SpecificationInvalid

SPECIFICATION: dict[str, Any] = {
    "method": "prefix",
    "method_settings": {"n_virtual_tokens": 4, "start_text": "A review."},
    "task": {
        "kind": "label",
        "template": "{text}\nSentiment:",
        "label_words": {"positive": " positive", "negative": " negative"},
        "max_text_characters": 12,
    },
    "training": {"learning_rate": 0.005, "n_steps": 12, "batch_size": 8, "gradient_clip": 1, "seed": 0},
    "aggregation": {"rule": "weighted_mean", "max_weight": None, "max_relative_norm": 1.0},
    "round": {"quorum": 2, "deadline_seconds": 3600},
    "gate": {"tolerance": 0.005},
    "evaluation": {"n_held_out_rows": 200},
}


def test_reads_a_label_task() -> None:
    read = TrainingSpecification.from_dict(SPECIFICATION)
    assert isinstance(read.task, LabelTask)
    assert read.task.label_words == {"positive": " positive", "negative": " negative"}
    assert read.training.n_examples == 96
    assert read.training.gradient_clip == 1.0
    assert read.n_held_out_rows == 200


def test_the_prompt_is_the_cut_text_in_the_template_braces_and_all() -> None:
    task = TrainingSpecification.from_dict(SPECIFICATION).task
    assert isinstance(task, LabelTask)
    assert task.prompt("{0} {text} and more") == "{0} {text} a\nSentiment:"


def test_reads_a_completion_task() -> None:
    raw = {**SPECIFICATION, "task": {"kind": "completion", "max_tokens": 64}}
    assert TrainingSpecification.from_dict(raw).task == CompletionTask(max_tokens=64)


@pytest.mark.parametrize(
    ("path", "value", "field"),
    [
        (("method",), "", "method"),
        (("method_settings",), None, "method_settings"),
        (("task", "kind"), "regression", "kind"),
        (("task", "template"), "no place", "template"),
        (("task", "template"), "{text}{text}", "template"),
        (("task", "label_words"), {"one": " one"}, "label_words"),
        (("task", "label_words"), {"one": " one", "two": ""}, "label_words"),
        (("task", "max_text_characters"), 0, "max_text_characters"),
        (("training", "learning_rate"), 0, "learning_rate"),
        (("training", "learning_rate"), float("nan"), "learning_rate"),
        (("training", "learning_rate"), float("inf"), "learning_rate"),
        (("training", "n_steps"), True, "n_steps"),
        (("training", "batch_size"), "8", "batch_size"),
        (("evaluation", "n_held_out_rows"), 0, "n_held_out_rows"),
    ],
)
def test_refuses_a_field_by_its_name(path: tuple[str, ...], value: object, field: str) -> None:
    raw = copy.deepcopy(SPECIFICATION)
    part = raw
    for name in path[:-1]:
        part = part[name]
    part[path[-1]] = value
    with pytest.raises(SpecificationInvalid, match=f"specification's {field} cannot"):
        TrainingSpecification.from_dict(raw)
