"""Scores do not depend on how rows are put into batches, nor on the number format of a close call."""

from pathlib import Path

import pytest
import torch
from torch import Tensor

from federation.specification import FederationSpecification
from tests.training_workers.conftest import CPU_BFLOAT16
from training_workers import errors, evaluation
from training_workers.evaluation import evaluate
from training_workers.examples import Example
from training_workers.loading import BaseModel, load_base_model
from training_workers.methods import Method, get_method


@pytest.fixture
def method(specification: FederationSpecification) -> Method:
    """The specification's method."""
    return get_method(specification.method)


def test_the_batch_size_and_the_order_change_no_score(
    any_base: BaseModel,
    method: Method,
    reviews: list[Example],
    specification: FederationSpecification,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    state = method.start(any_base, seed=0)
    large = evaluate(any_base, method, state, reviews, specification)
    monkeypatch.setitem(evaluation.BATCH_TOKENS, "cpu", 1)
    small = evaluate(any_base, method, state, reviews[::-1], specification)
    assert small.accuracy == large.accuracy
    assert small.loss == pytest.approx(large.loss, rel=1e-5)


def test_close_calls_are_decided_in_float32(
    any_directory: Path,
    any_base: BaseModel,
    method: Method,
    reviews: list[Example],
    specification: FederationSpecification,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """With a margin that no row reaches, bfloat16 decides nothing, and the score is float32's to the last digits."""
    base = load_base_model(any_directory, CPU_BFLOAT16)
    state = method.start(base, seed=0)
    exact = evaluate(any_base, method, state, reviews, specification)
    monkeypatch.setattr(evaluation, "CLOSE_CALL_LOGITS", 1e9)
    all_close = evaluate(base, method, state, reviews, specification)
    assert all_close.accuracy == exact.accuracy
    assert all_close.loss == pytest.approx(exact.loss, rel=1e-6)
    monkeypatch.setattr(evaluation, "CLOSE_CALL_LOGITS", 0.0)
    none_close = evaluate(base, method, state, reviews, specification)
    assert none_close.loss != pytest.approx(exact.loss, rel=1e-6)
    assert (exact.precision, all_close.precision) == ("float32", "bfloat16, close calls in float32")


def test_progress_is_told_and_a_stop_is_heard(
    any_base: BaseModel,
    method: Method,
    reviews: list[Example],
    specification: FederationSpecification,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(evaluation.BATCH_TOKENS, "cpu", 100)
    told: list[tuple[int, int]] = []
    evaluate(any_base, method, None, reviews, specification, on_rows=lambda *counts: told.append(counts))
    assert told == sorted(told)
    assert told[-1] == (24, 24)
    assert len(told) > 2
    with pytest.raises(errors.JobCancelled):
        evaluate(any_base, method, None, reviews, specification, should_stop=lambda: True)


def test_a_state_that_leads_to_no_number_is_refused(
    any_base: BaseModel, method: Method, reviews: list[Example], specification: FederationSpecification
) -> None:
    state: dict[str, Tensor] = {
        name: torch.full_like(tensor, 3e38) for name, tensor in method.start(any_base, seed=0).items()
    }
    with pytest.raises(errors.ScoreNotFinite, match="24"):
        evaluate(any_base, method, state, reviews, specification)


def test_label_counts_lean_the_answers_to_what_is_often_seen(
    any_base: BaseModel, method: Method, reviews: list[Example], specification: FederationSpecification
) -> None:
    """A prior of many orders of magnitude outweighs every logit: all rows get the frequent label."""
    state = method.start(any_base, seed=0)

    def score(label_counts: dict[str, int] | None) -> tuple[float, float]:
        found = evaluate(any_base, method, state, reviews, specification, label_counts=label_counts)
        return found.accuracy, found.loss

    plain = score(None)
    even = score({"positive": 7, "negative": 7})
    assert even[0] == plain[0]
    assert even[1] == pytest.approx(plain[1])
    assert score({"positive": 10**30})[0] == 0.5
    positives = [row for row in reviews if row.label == "positive"]  # type: ignore[union-attr]
    often = evaluate(any_base, method, state, positives, specification, label_counts={"positive": 10**30})
    rare = evaluate(any_base, method, state, positives, specification, label_counts={"negative": 10**30})
    assert (often.accuracy, rare.accuracy) == (1.0, 0.0)
    unleaned = evaluate(any_base, method, state, positives, specification)
    assert often.loss < unleaned.loss < rare.loss, "the loss is that of the leaning answers"
