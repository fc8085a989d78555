"""Local training: what it changes, what it leaves alone, and that it can be repeated."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from federation.specification import CompletionTask, FederationSpecification
from tests.training_workers.conftest import CPU_BFLOAT16
from training_workers import errors
from training_workers.data import make_batch
from training_workers.evaluation import evaluate
from training_workers.examples import ChatExample, CompletionExample, Example, Message
from training_workers.loading import BaseModel, load_base_model
from training_workers.local_training import Step, TrainingOutcome, train_locally
from training_workers.methods import Method, get_method


@pytest.fixture
def method(specification: FederationSpecification) -> Method:
    """The specification's method."""
    return get_method(specification.method)


@pytest.fixture
def start(any_base: BaseModel, method: Method) -> dict[str, Tensor]:
    """The start state."""
    return method.start(any_base, seed=0)


def test_the_loss_falls_and_the_score_rises(
    any_base: BaseModel,
    method: Method,
    start: dict[str, Tensor],
    reviews: list[Example],
    specification: FederationSpecification,
) -> None:
    longer = specification.training.model_copy(update={"n_steps": 40, "learning_rate": 0.05})
    specification = specification.model_copy(update={"training": longer})
    outcome = train_locally(any_base, method, start, reviews, specification, seed=0)
    trained = {name: tensor + outcome.update[name] for name, tensor in start.items()}
    before = evaluate(any_base, method, start, reviews, specification)
    after = evaluate(any_base, method, trained, reviews, specification)
    assert outcome.losses[-1] < 0.5 * outcome.losses[0]
    assert after.loss < 0.5 * before.loss
    assert after.accuracy > before.accuracy
    assert (outcome.n_examples, len(outcome.losses)) == (160, 40)


def test_neither_the_base_model_nor_the_parent_changes(
    any_base: BaseModel,
    method: Method,
    start: dict[str, Tensor],
    reviews: list[Example],
    specification: FederationSpecification,
) -> None:
    weights = {name: tensor.clone() for name, tensor in any_base.model.state_dict().items()}
    parent = {name: tensor.clone() for name, tensor in start.items()}
    outcome = train_locally(any_base, method, start, reviews, specification, seed=0)
    assert all(torch.equal(tensor, weights[name]) for name, tensor in any_base.model.state_dict().items())
    assert all(torch.equal(tensor, parent[name]) for name, tensor in start.items())
    update = outcome.update["prompt_embeddings"]
    assert (update.dtype, update.shape) == (torch.float32, start["prompt_embeddings"].shape)
    # Adam's first steps are about as large as the learning rate: every number of the prefix has moved, none far.
    assert float(update.abs().min()) > 0
    assert float(update.abs().max()) < 2 * 6 * 0.02
    assert outcome.relative_norm == pytest.approx(float(update.norm() / start["prompt_embeddings"].norm()))


def test_the_same_seed_gives_the_same_bytes_and_another_one_others(
    any_base: BaseModel,
    method: Method,
    start: dict[str, Tensor],
    reviews: list[Example],
    specification: FederationSpecification,
) -> None:
    def run(seed: int) -> TrainingOutcome:
        return train_locally(any_base, method, start, reviews, specification, seed=seed)

    first, second, other = run(7), run(7), run(8)
    assert torch.equal(first.update["prompt_embeddings"], second.update["prompt_embeddings"])
    assert first.losses == second.losses
    assert not torch.equal(first.update["prompt_embeddings"], other.update["prompt_embeddings"])


def test_bfloat16_trains_a_float32_state(
    any_directory: Path, method: Method, reviews: list[Example], specification: FederationSpecification
) -> None:
    base = load_base_model(any_directory, CPU_BFLOAT16)
    assert base.exact is not None
    assert (base.model.dtype, base.exact.model.dtype) == (torch.bfloat16, torch.float32)
    longer = specification.training.model_copy(update={"n_steps": 24})
    specification = specification.model_copy(update={"training": longer})
    outcome = train_locally(base, method, method.start(base, seed=0), reviews, specification, seed=0)
    assert outcome.update["prompt_embeddings"].dtype == torch.float32
    assert sum(outcome.losses[-6:]) < sum(outcome.losses[:6])


def test_progress_is_told_at_every_step_and_a_stop_is_heard(
    any_base: BaseModel,
    method: Method,
    start: dict[str, Tensor],
    reviews: list[Example],
    specification: FederationSpecification,
) -> None:
    steps: list[Step] = []
    with pytest.raises(errors.JobCancelled):
        train_locally(
            any_base,
            method,
            start,
            reviews,
            specification,
            seed=0,
            on_step=steps.append,
            should_stop=lambda: len(steps) == 3,
        )
    assert [step.step for step in steps] == [1, 2, 3]
    assert all(step.n_steps == 6 and step.tokens_per_second > 0 for step in steps)


QUESTIONS: dict[str, list[Example]] = {
    "prompts": [
        CompletionExample("Question: good?", " yes"),
        CompletionExample("Question: bad?", " no"),
    ],
    "conversations": [
        ChatExample((Message("system", "Answer."), Message("user", "good?"), Message("assistant", " yes"))),
        ChatExample((Message("system", "Answer."), Message("user", "bad?"), Message("assistant", " no"))),
    ],
}


@pytest.mark.parametrize("pairs", QUESTIONS.values(), ids=QUESTIONS.keys())
def test_completions_are_learned_too(
    tiny_base: BaseModel, method: Method, specification: FederationSpecification, pairs: list[Example]
) -> None:
    longer = specification.training.model_copy(update={"n_steps": 60, "learning_rate": 0.05})
    task = CompletionTask(kind="completion", max_tokens=32)
    specification = specification.model_copy(update={"task": task, "training": longer})
    start = method.start(tiny_base, seed=0)
    outcome = train_locally(tiny_base, method, start, pairs, specification, seed=0)
    trained = {name: tensor + outcome.update[name] for name, tensor in start.items()}
    before = evaluate(tiny_base, method, start, pairs, specification)
    after = evaluate(tiny_base, method, trained, pairs, specification)
    assert after.loss < 0.5 * before.loss
    assert after.accuracy > before.accuracy


def _changed(specification: FederationSpecification, **training: Any) -> FederationSpecification:
    return specification.model_copy(update={"training": specification.training.model_copy(update=training)})


def test_one_step_of_sgd_is_the_gradient_times_the_rate(
    any_base: BaseModel,
    method: Method,
    start: dict[str, Tensor],
    reviews: list[Example],
    specification: FederationSpecification,
) -> None:
    plain = _changed(
        specification, optimizer="sgd", learning_rate=2.0, n_steps=1, batch_size=24, gradient_clip=1000.0
    )
    update = train_locally(any_base, method, start, reviews, plain, seed=0).update["prompt_embeddings"]
    prefix = start["prompt_embeddings"].clone().requires_grad_()
    base = any_base.for_task(plain.task)
    encoded = base.encode(reviews, n_positions=method.n_positions)
    batch = make_batch(encoded, device=base.runtime.device)
    logits = method.logits(base, {"prompt_embeddings": prefix}, batch)
    torch.nn.functional.cross_entropy(logits, batch.targets).backward()  # type: ignore[no-untyped-call]
    assert prefix.grad is not None
    torch.testing.assert_close(update, -2.0 * prefix.grad, rtol=1e-3, atol=1e-5)


def test_fedprox_pulls_back_by_mu_times_the_way_gone(
    any_base: BaseModel,
    method: Method,
    start: dict[str, Tensor],
    reviews: list[Example],
    specification: FederationSpecification,
) -> None:
    """With one row every batch is the same: two steps of SGD differ by mu times the first one, times the rate."""

    def update(**changes: Any) -> Tensor:
        steps = _changed(
            specification,
            **{"optimizer": "sgd", "learning_rate": 0.1, "batch_size": 1, "gradient_clip": 1e3, **changes},
        )
        outcome = train_locally(any_base, method, start, reviews[:1], steps, seed=0)
        return outcome.update["prompt_embeddings"].double()

    first, free, held = update(n_steps=1), update(n_steps=2), update(n_steps=2, proximal=0.5)
    torch.testing.assert_close(free - held, 0.1 * 0.5 * first, rtol=1e-2, atol=1e-6)


def test_a_calibrated_loss_is_that_of_the_labels_under_the_tenants_counts(
    any_base: BaseModel,
    method: Method,
    start: dict[str, Tensor],
    reviews: list[Example],
    specification: FederationSpecification,
) -> None:
    skewed = [*reviews[::2], reviews[1]]  # twelve positive, one negative
    calibrated = _changed(specification, calibrate_labels=True, n_steps=1, batch_size=13)
    outcome = train_locally(any_base, method, start, skewed, calibrated, seed=0)
    base = any_base.for_task(calibrated.task)
    encoded = base.encode(skewed, n_positions=method.n_positions)
    batch = make_batch(encoded, device=base.runtime.device)
    with torch.no_grad():
        pairs = method.logits(base, start, batch)[batch.first_targets][:, base.label_tokens]
    chances = torch.softmax(pairs, dim=-1) * torch.tensor([12.0, 1.0])
    expected = -(chances[range(13), batch.labels] / chances.sum(dim=-1)).log().mean()
    assert outcome.losses[0] == pytest.approx(float(expected), rel=1e-4)
    assert outcome.relative_norm > 0


def test_a_tenant_of_one_label_has_nothing_to_learn_from_a_calibrated_loss(
    any_base: BaseModel,
    method: Method,
    start: dict[str, Tensor],
    reviews: list[Example],
    specification: FederationSpecification,
) -> None:
    calibrated = _changed(specification, calibrate_labels=True)
    outcome = train_locally(any_base, method, start, reviews[::2], calibrated, seed=0)
    assert outcome.losses == [0.0] * 6
    assert outcome.relative_norm == 0
