"""The specification as code reads it; what it refuses is in test_federations.py."""

from typing import Any

import pytest

from federation.errors import SpecificationInvalid
from federation.specification import CompletionTask, LabelTask, parse_specification

SPECIFICATION: dict[str, Any] = {
    "method": {"kind": "prefix", "n_virtual_tokens": 4, "start_text": "A review."},
    "task": {
        "kind": "label",
        "template": "{text}\nSentiment:",
        "label_words": {"positive": " positive", "negative": " negative"},
        "max_text_characters": 12,
    },
    "training": {"learning_rate": 0.005, "n_steps": 12, "batch_size": 8, "gradient_clip": 1, "seed": 0},
    "aggregation": {"rule": {"kind": "weighted_mean"}, "max_weight": None, "max_relative_norm": 1.0},
    "round": {"quorum": 2, "deadline_seconds": 3600},
    "gate": {"tolerance": 0.005},
    "evaluation": {"n_held_out_rows": 200},
}


def test_reads_a_label_task() -> None:
    read = parse_specification(SPECIFICATION)
    assert isinstance(read.task, LabelTask)
    assert read.task.label_words == {"positive": " positive", "negative": " negative"}
    assert read.training.n_examples == 96
    assert read.training.gradient_clip == 1.0
    assert read.evaluation.n_held_out_rows == 200


def test_the_prompt_is_the_cut_text_in_the_template_braces_and_all() -> None:
    task = parse_specification(SPECIFICATION).task
    assert isinstance(task, LabelTask)
    assert task.prompt("{0} {text} and more") == "{0} {text} a\nSentiment:"


def test_reads_a_completion_task() -> None:
    raw = {**SPECIFICATION, "task": {"kind": "completion", "max_tokens": 64}}
    assert parse_specification(raw).task == CompletionTask(kind="completion", max_tokens=64)


def test_what_the_method_suits_holds_where_nothing_is_set() -> None:
    training = {name: value for name, value in SPECIFICATION["training"].items() if name != "learning_rate"}
    open_ended = {**SPECIFICATION, "training": training, "aggregation": {}}
    prefix = parse_specification(open_ended)
    full = parse_specification({**open_ended, "method": {"kind": "full"}})
    assert (prefix.learning_rate, prefix.max_relative_norm) == (5e-3, 0.3)
    assert full.learning_rate < prefix.learning_rate
    assert full.max_relative_norm < prefix.max_relative_norm
    chosen = parse_specification({**open_ended, "training": {"optimizer": "sgd", "learning_rate": 1.0}})
    assert chosen.learning_rate == 1.0


def test_updates_and_versions_travel_whole_where_nothing_is_said() -> None:
    read = parse_specification(SPECIFICATION)
    assert (read.upload.dtype, read.upload.error_feedback, read.broadcast.dtype) == (
        "float32",
        False,
        "float32",
    )


@pytest.mark.parametrize(
    ("changes", "field", "problem"),
    [
        ({"upload": {"dtype": "int2"}}, "upload.dtype", "'int4'"),
        ({"broadcast": {"dtype": "int4"}}, "broadcast.dtype", "'int8'"),
        ({"upload": {"error_feedback": True}}, "upload", "float32 leaves nothing out"),
        (
            {"method": {"kind": "full"}, "upload": {"dtype": "int8", "error_feedback": True}},
            "specification",
            "each tenant's residual is a whole model",
        ),
    ],
)
def test_what_cannot_travel_so_is_refused(changes: dict[str, Any], field: str, problem: str) -> None:
    with pytest.raises(SpecificationInvalid, match=problem) as refused:
        parse_specification({**SPECIFICATION, **changes})
    assert field in str(refused.value)


def test_full_fine_tuning_may_travel_in_small_integers() -> None:
    read = parse_specification({**SPECIFICATION, "method": {"kind": "full"}, "upload": {"dtype": "int8"}})
    assert read.upload.dtype == "int8"
