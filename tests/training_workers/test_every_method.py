"""What holds for each method alike: from the start over tenants' updates to a candidate that is better."""

import hashlib
from pathlib import Path

import pytest
import torch
from torch import Tensor

from federation.aggregation.combining import Recipe, WeightedUpdate, combine
from federation.aggregation.updates import ExpectedUpdate, Parent, check_update
from federation.specification import FederationSpecification
from training_workers import errors
from training_workers.data import TokenExample, make_batch
from training_workers.evaluation import evaluate
from training_workers.examples import Example
from training_workers.loading import TaskModel
from training_workers.local_training import train_locally
from training_workers.methods import Method, get_method
from training_workers.states import from_bytes, to_bytes


@pytest.fixture
def method(any_specification: FederationSpecification) -> Method:
    """One method after the other."""
    return get_method(any_specification.method)


@pytest.fixture
def start(any_base: TaskModel, method: Method) -> dict[str, Tensor]:
    """Its start state."""
    return method.start(any_base, seed=0)


def test_a_round_makes_a_better_candidate(
    any_base: TaskModel,
    method: Method,
    start: dict[str, Tensor],
    reviews: list[Example],
    any_specification: FederationSpecification,
    tmp_path: Path,
) -> None:
    longer = any_specification.training.model_copy(update={"n_steps": 20})
    specification = any_specification.model_copy(update={"training": longer})
    parent = tmp_path / "parent"
    parent.write_bytes(to_bytes(start, {}))
    parent_sha256 = hashlib.sha256(parent.read_bytes()).hexdigest()
    updates = []
    for tenant, rows in (("tnt_1", reviews[:12]), ("tnt_2", reviews[12:])):
        outcome = train_locally(
            any_base, method, from_bytes(parent.read_bytes()), rows, specification, seed=1
        )
        origin = {"round": "rnd_1", "tenant": tenant, "base": "b", "attempt": "1", "parent": parent_sha256}
        update = tmp_path / tenant
        update.write_bytes(to_bytes(outcome.update, origin))
        facts = check_update(
            update,
            parent=Parent(parent),
            expected=ExpectedUpdate(
                round="rnd_1", tenant=tenant, attempt=1, base="b", parent_sha256=parent_sha256
            ),
            max_relative_norm=100.0,
            sends=specification.method.sends,
        )
        assert facts.relative_norm == pytest.approx(outcome.relative_norm, rel=1e-6)
        updates.append(WeightedUpdate(update, 1.0))
    recipe = Recipe(rule=specification.aggregation.rule, sends=specification.method.sends)
    made = combine(version=parent, server_state=None, updates=updates, recipe=recipe, directory=tmp_path)
    candidate = from_bytes(made.version.read_bytes())
    method.check(any_base, candidate)
    before = evaluate(any_base, method, start, reviews, specification)
    after = evaluate(any_base, method, candidate, reviews, specification)
    assert after.loss < 0.9 * before.loss
    untrained = {name for name in start if not method.trained(name)}
    assert all(torch.equal(candidate[name], start[name]) for name in untrained)


def test_only_what_the_method_sends_is_trained_and_every_number_of_it(
    any_base: TaskModel,
    method: Method,
    start: dict[str, Tensor],
    reviews: list[Example],
    any_specification: FederationSpecification,
) -> None:
    weights = {name: tensor.clone() for name, tensor in any_base.model.state_dict().items()}
    outcome = train_locally(any_base, method, start, reviews, any_specification, seed=0)
    assert set(outcome.update) == {name for name in start if any_specification.method.sends(name)}
    assert all(bool(change.any()) for change in outcome.update.values())
    assert all(torch.equal(tensor, weights[name]) for name, tensor in any_base.model.state_dict().items())


def test_the_start_comes_from_the_seed_alone(any_base: TaskModel, method: Method) -> None:
    torch.manual_seed(3)
    first = to_bytes(method.start(any_base, seed=7), {})
    torch.manual_seed(4)
    assert to_bytes(method.start(any_base, seed=7), {}) == first


def test_padding_changes_no_logit(any_base: TaskModel, method: Method, start: dict[str, Tensor]) -> None:
    rows = [TokenExample(tuple(range(20, 20 + n_tokens)), (7, 8)) for n_tokens in (2, 40, 11)]
    with torch.no_grad():
        together = method.logits(any_base, start, make_batch(rows, device=torch.device("cpu")))
        alone = [
            method.logits(any_base, start, make_batch([row], device=torch.device("cpu"))) for row in rows
        ]
    torch.testing.assert_close(together, torch.cat(alone), rtol=1e-4, atol=1e-4)


def test_a_state_that_does_not_fit_is_refused(
    any_base: TaskModel, method: Method, start: dict[str, Tensor]
) -> None:
    method.check(any_base, start)
    name, tensor = next(iter(start.items()))
    for changes in (
        {"other": tensor},
        {name: tensor[:-1]},
        {name: tensor.double()},
        {name: torch.full_like(tensor, float("nan"))},
    ):
        with pytest.raises(errors.StateIncompatible):
            method.check(any_base, {**start, **changes})
    with pytest.raises(errors.StateIncompatible, match="missing"):
        method.check(any_base, {other: start[other] for other in start if other != name})


def test_a_loss_that_is_not_finite_ends_the_run(
    any_base: TaskModel,
    method: Method,
    start: dict[str, Tensor],
    reviews: list[Example],
    any_specification: FederationSpecification,
) -> None:
    wild = any_specification.training.model_copy(update={"learning_rate": float("inf")})
    specification = any_specification.model_copy(update={"training": wild})
    with pytest.raises(errors.LossNotFinite, match=r"step \d"):
        train_locally(any_base, method, start, reviews, specification, seed=0)
