"""One run of one arm: rounds of local training and averaging, the best version by validation, its test scores."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from io import BytesIO
from typing import Any

from torch import Tensor

from federation.specification import FederationSpecification
from training_workers.base_models import BaseModelFacts
from training_workers.benchmark.arms import Members, Recipe
from training_workers.benchmark.coordinator import Coordinator, Submitted
from training_workers.benchmark.partition import Tenant
from training_workers.benchmark.scoring import Accuracies, mixed, own, score_strata
from training_workers.benchmark.texts import Strata, Texts
from training_workers.examples import select_training
from training_workers.loading import BaseModel
from training_workers.local_training import TrainingOutcome, train_locally
from training_workers.methods import Method, get_method
from training_workers.states import from_bytes, send, to_bytes, unpacked

N_SCORINGS = 10  # of a run on the validation rows
FINE_TUNING_STEPS = 12
# Products of a weight and an activation: forward, and backward to the activations; `full` also to the weights.
FLOPS_PER_WEIGHT = {"full": 6}
FLOPS_PER_FROZEN_WEIGHT = 4

Note = Callable[[str], None]
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


@dataclass(frozen=True)
class Bench:
    """What every run of a base model and a task works with."""

    base: BaseModel
    texts: Texts

    def score(
        self, specification: FederationSpecification, state: bytes | None, strata: Strata, **options: Any
    ) -> Accuracies:
        """A version's accuracies by stratum."""
        tensors = None if state is None else from_bytes(state)
        return score_strata(
            self.base, get_method(specification.method), tensors, strata, specification, **options
        )


def run_arm(
    bench: Bench,
    recipe: Recipe,
    specification: FederationSpecification,
    tenants: Sequence[Tenant],
    *,
    is_personal: bool = False,
    note: Note = lambda _text: None,
) -> dict[str, Any]:
    """One run's results as JSON values; `is_personal` adds what tenants make of the shared version.

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
    if is_personal:
        result["personal"] = _personal(bench, specification, tenants, trained[0].best, note)
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
        outcome = _train(bench.base, method, parent, member, specification, number=number)
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


def _train(
    base: BaseModel,
    method: Method,
    parent: Mapping[str, Any],
    member: Tenant,
    specification: FederationSpecification,
    *,
    number: int,
) -> TrainingOutcome:
    """A local run as a worker does it: the round's number varies which rows are drawn."""
    seed = specification.training.seed + number
    n = specification.training.n_examples
    rows = select_training(BytesIO(member.content), "jsonl", n=n, n_train=member.n_train, seed=seed)
    return train_locally(base, method, parent, rows, specification, seed=seed)


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


def _personal(
    bench: Bench,
    specification: FederationSpecification,
    tenants: Sequence[Tenant],
    shared: bytes,
    note: Note,
) -> dict[str, list[Accuracies]]:
    """Each tenant's own rows' scores with its prior at use, and after training on from the shared version."""
    results: dict[str, list[Accuracies]] = {"prior": [], "fine-tuned": []}
    for tenant in tenants:
        note(f"{tenant.name} makes the shared version its own")
        test = own(bench.texts.test, tenant.shares)
        results["prior"].append(bench.score(specification, shared, test, label_counts=tenant.label_counts))
        chosen = _fine_tuned(bench, specification, tenant, shared)
        results["fine-tuned"].append(bench.score(specification, chosen, test))
    return results


def _fine_tuned(bench: Bench, specification: FederationSpecification, tenant: Tenant, shared: bytes) -> bytes:
    """What a tenant trains on by itself from the shared version, where its validation rows do not speak against it."""
    training = specification.training.model_copy(update={"n_steps": FINE_TUNING_STEPS})
    further = specification.model_copy(update={"training": training})
    state = from_bytes(shared)
    outcome = _train(bench.base, get_method(further.method), state, tenant, further, number=0)
    tuned = to_bytes(
        {
            name: tensor + outcome.update[name] if name in outcome.update else tensor
            for name, tensor in state.items()
        },
        {},
    )
    validation = own(bench.texts.validation, tenant.shares)
    scores = [mixed(bench.score(further, version, validation), tenant.shares) for version in (shared, tuned)]
    return tuned if scores[1] >= scores[0] else shared


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
