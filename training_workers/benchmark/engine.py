"""One run of one arm: rounds of local training and averaging, the best version by validation, its test scores."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from torch import Tensor

from federation.specification import FederationSpecification
from training_workers.base_models import BaseModelFacts
from training_workers.benchmark.arms import Members, Recipe
from training_workers.benchmark.bench import Bench, Note
from training_workers.benchmark.coordinator import Coordinator, Submitted
from training_workers.benchmark.partition import Tenant
from training_workers.benchmark.personal import make_personal
from training_workers.benchmark.scoring import Accuracies, mixed
from training_workers.loading import BaseModel
from training_workers.local_training import TrainingOutcome
from training_workers.methods import Method, get_method
from training_workers.states import send, to_bytes, unpacked

N_SCORINGS = 10  # of a run on the validation rows
# Products of a weight and an activation: forward, and backward to the activations; `full` also to the weights.
FLOPS_PER_WEIGHT = {"full": 6}
FLOPS_PER_FROZEN_WEIGHT = 4

Residuals = dict[str, Mapping[str, Tensor] | None]
"""What error feedback keeps of each tenant's last accepted upload."""


@dataclass
class Spent:
    """What one tenant spent and sent in all rounds."""

    tenant: str
    n_train: int
    n_tokens: int = 0
    seconds: float = 0.0
    flops: float = 0.0
    up_bytes: int = 0
    down_bytes: int = 0


@dataclass(frozen=True)
class Trained:
    """What one federation came to: its best version, and how it got there."""

    best: bytes
    best_round: int
    curve: list[tuple[int, float]]  # (round, validation score); round 0 is the start
    spent: list[Spent]
    n_trained: int
    n_rejected: int


def run_arm(
    bench: Bench,
    recipe: Recipe,
    specification: FederationSpecification,
    tenants: Sequence[Tenant],
    *,
    personal_rules: Sequence[str] = (),
    note: Note = lambda _text: None,
) -> dict[str, Any]:
    """One run's results as JSON values; by each of `personal_rules` tenants make the shared version their own.

    Raises:
        PreludeError: what training, aggregation or evaluation refuses; nothing of the run counts then.
    """
    started_at = time.perf_counter()
    if recipe.members is Members.NOBODY:
        accuracies = bench.score(specification, None, bench.texts.test)
        return {"models": [accuracies], "seconds": time.perf_counter() - started_at}
    together = [[one] for one in tenants] if recipe.members is Members.EACH_ALONE else [list(tenants)]
    trained = [train_together(bench, specification, members, recipe.n_rounds, note) for members in together]
    note("testing")
    models = [bench.score(specification, one.best, bench.texts.test) for one in trained]
    result = _as_json(trained, models)
    if personal_rules:
        result["personal"] = make_personal(
            bench, specification, tenants, trained[0].best, personal_rules, note
        )
    return {**result, "seconds": time.perf_counter() - started_at}


def train_together(
    bench: Bench,
    specification: FederationSpecification,
    members: Sequence[Tenant],
    n_rounds: int,
    note: Note = lambda _text: None,
) -> Trained:
    """Rounds from the start to the last; the best version is the one that does best on the validation rows."""
    base, method = bench.base, get_method(specification.method)
    start = to_bytes(method.start(base, seed=specification.training.seed), {})
    coordinator = Coordinator(specification, base_sha256=base.facts.weights_sha256, start=start)
    spent = [Spent(member.name, member.n_train) for member in members]
    shares = _shares_of(members)
    best, best_round = coordinator.scored, 0
    curve = [(0, mixed(bench.score(specification, best, bench.texts.validation), shares))]
    n_trained = 0
    residuals: Residuals = {}
    every = max(1, n_rounds // N_SCORINGS)
    for number in range(1, n_rounds + 1):
        note(f"round {number} of {n_rounds}")
        n_trained = _hold_round(bench, specification, method, coordinator, members, spent, residuals, number)
        if number % every and number != n_rounds:
            continue
        score = mixed(bench.score(specification, coordinator.scored, bench.texts.validation), shares)
        if score > max(known for _, known in curve):
            best, best_round = coordinator.scored, number
        curve.append((number, score))
    return Trained(best, best_round, curve, spent, n_trained, coordinator.n_rejected)


def _hold_round(
    bench: Bench,
    specification: FederationSpecification,
    method: Method,
    coordinator: Coordinator,
    members: Sequence[Tenant],
    spent: Sequence[Spent],
    residuals: Residuals,
    number: int,
) -> int:
    """Every member trains from the broadcast version; returns how many numbers an update holds."""
    parent = unpacked(coordinator.broadcast, specification.broadcast.dtype)
    submitted, left_out = [], {}
    for member, own_spent in zip(members, spent, strict=True):
        outcome = bench.train(method, parent, member, specification, number=number)
        identity = coordinator.identity(member.name, number=number)
        sent = send(outcome.update, specification.upload, identity, residual=residuals.get(member.name))
        left_out[member.name] = sent.residual
        submitted.append(Submitted(member.name, sent.content, member.n_train))
        _count(own_spent, outcome, bench.base, specification)
        own_spent.up_bytes += len(sent.content)
        own_spent.down_bytes += len(coordinator.broadcast)
    accepted = coordinator.close_round(submitted, number=number)
    residuals.update({name: left_out[name] for name in accepted})
    return sum(tensor.numel() for tensor in outcome.update.values())


def _count(
    spent: Spent, outcome: TrainingOutcome, base: BaseModel, specification: FederationSpecification
) -> None:
    """Adds a local run's tokens, seconds and floating-point operations.

    The operations are those of the base model's weight matrices on the rows' own tokens: forward and backward,
    2 each per weight and token, and 2 more where the weights themselves are trained. The embedding is looked
    up, and attention's products of activations, padding and the optimizer are not counted.
    """
    per_weight = FLOPS_PER_WEIGHT.get(specification.method.kind, FLOPS_PER_FROZEN_WEIGHT)
    spent.n_tokens += outcome.n_tokens
    spent.seconds += outcome.seconds
    spent.flops += per_weight * matrix_weights(base.facts) * outcome.n_tokens


def matrix_weights(facts: BaseModelFacts) -> int:
    """A base model's numbers without its embedding of the vocabulary."""
    return facts.n_parameters - facts.vocabulary_size * facts.hidden_size


def _shares_of(members: Sequence[Tenant]) -> dict[str, float]:
    """The strata's shares of all members' rows together."""
    rows = tuple(row for member in members for row in member.rows)
    return replace(members[0], rows=rows).shares


def _as_json(trained: Sequence[Trained], models: Sequence[Accuracies]) -> dict[str, Any]:
    return {
        "models": list(models),
        "curves": [one.curve for one in trained],
        "best_rounds": [one.best_round for one in trained],
        "validation": [max(score for _, score in one.curve) for one in trained],
        "spent": [asdict(spent) for one in trained for spent in one.spent],
        "n_trained": trained[0].n_trained,
        "n_rejected": sum(one.n_rejected for one in trained),
    }
