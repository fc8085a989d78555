"""The gate: a candidate is published unless its weighted score falls below the published version's.

In a campaign it has to be the better one. The tolerance lets rounds go on from a version that is as good but for the
noise of its measurement; a campaign's rounds do so anyway, and thirty tolerances in a row would be a real loss.

What was published by hand since the round opened stays.

Tenants read how a round ended, and know their own scores: from a sum over few tenants each would tell the others'. So
the reason has no number; the platform's record has them all.
"""

from dataclasses import asdict, dataclass

from federation.models import Evaluation, FederatedRound, LocalRun, PrefixVersion
from federation.services import prefixes
from federation.states import EvaluationState, RoundState
from tenants.services import audit


@dataclass(frozen=True)
class Comparison:
    """Scores over the tenants that measured both versions, weighted by their examples."""

    n_tenants: int
    incumbent: float
    candidate: float


@dataclass(frozen=True)
class Decision:
    """How the round ends, and why."""

    state: RoundState
    reason: str


def decide(*, federated_round: FederatedRound) -> Decision:
    """Publish or keep the candidate, or fail the round when too few tenants measured it. The caller ends the round."""
    comparison = compare(federated_round=federated_round)
    if comparison.n_tenants < federated_round.quorum:
        reason = f"Only {comparison.n_tenants} tenants scored the candidate and the quorum is {federated_round.quorum}."
        return Decision(RoundState.FAILED, reason)
    if federated_round.campaign_id is not None:
        is_kept = comparison.candidate <= comparison.incumbent
        told = f"is {'no better' if is_kept else 'better'} than the incumbent's"
    else:
        tolerance = federated_round.federation.rules.gate.tolerance
        is_kept = comparison.candidate < comparison.incumbent - tolerance
        told = f"is {'' if is_kept else 'not '}lower than the incumbent's by more than the tolerance of {tolerance:g}"
    told = f"its weighted held-out score {told}"
    audit.record(
        action="round.decided", subject=federated_round, after={"is_kept": is_kept, **asdict(comparison)}
    )
    if is_kept:
        return Decision(RoundState.KEPT, f"The gate kept the candidate: {told}.")
    candidate = federated_round.candidate_version
    assert candidate is not None
    candidate.federation = federated_round.federation
    pointer = prefixes.lock_pointer(federation=candidate.federation)
    assert pointer is not None  # no round opens without it
    # Operators publish by hand in the middle of rounds, too, and have the last word.
    if pointer.version_id == candidate.pk:
        return Decision(RoundState.PUBLISHED, f"The candidate was published by hand: {told}.")
    if pointer.version_id != federated_round.incumbent_version_id:
        reason = f"The gate kept the candidate: another version was published by hand meanwhile; {told}."
        return Decision(RoundState.KEPT, reason)
    prefixes.move(pointer=pointer, version=candidate, actor="gate", reason=f"In its round {told}.")
    return Decision(RoundState.PUBLISHED, f"The gate published the candidate: {told}.")


def compare(*, federated_round: FederatedRound) -> Comparison:
    """Weigh the candidate against the incumbent on the same tenants' same rows."""
    assert federated_round.candidate_version is not None
    candidate = _accuracies(federated_round.candidate_version)
    incumbent = _accuracies(federated_round.incumbent_version)
    cap = federated_round.federation.rules.aggregation.max_weight
    runs = LocalRun.objects.filter(federated_round=federated_round)
    weights = {
        dataset_id: min(n_examples, cap or n_examples)
        for dataset_id, n_examples in runs.values_list("dataset_id", "n_examples")
        if dataset_id in candidate and dataset_id in incumbent
    }
    total = sum(weights.values()) or 1
    return Comparison(
        n_tenants=len(weights),
        incumbent=sum(weight * incumbent[dataset] for dataset, weight in weights.items()) / total,
        candidate=sum(weight * candidate[dataset] for dataset, weight in weights.items()) / total,
    )


def _accuracies(version: PrefixVersion) -> dict[object, float]:
    completed = Evaluation.objects.filter(version=version, state=EvaluationState.COMPLETED)
    return {dataset_id: score or 0.0 for dataset_id, score in completed.values_list("dataset_id", "accuracy")}
