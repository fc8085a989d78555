"""What rounds took and versions are worth, measured from rows, for a whole page of them in a few queries.

A tenant's scope sees its own rows: then counts, bytes and scores are those of its own part.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from uuid import UUID

from django.db.models import Avg, Count, Min, Q, Sum
from django.db.models.functions import Now
from django.utils import timezone

from federation.models import Evaluation, FederatedRound, LocalRun, PrefixVersion, RoundEvent
from federation.states import ROUND_LIVE, EvaluationState, RoundState

_N_STILL_ENDING = Count("id", filter=Q(stopping_until__gt=Now()))


@dataclass
class RoundMeasures:
    """One round: its local runs by state, seconds by phase so far, payload bytes to and from the workers.

    `n_still_ending` is its work that was called off and whose workers have not yet acknowledged that.
    """

    n_local_runs: dict[str, int] = field(default_factory=dict)
    n_still_ending: int = 0
    phase_seconds: dict[str, float] = field(default_factory=dict)
    down_bytes: int = 0
    up_bytes: int = 0


@dataclass(frozen=True)
class VersionScores:
    """Held-out accuracy of a version over the evaluations that are completed: the plain mean, and the worst."""

    mean: float
    worst: float
    n_evaluations: int
    n_rows: int


def measure_rounds(rounds: Sequence[FederatedRound]) -> dict[object, RoundMeasures]:
    """Measures by the rounds' keys. The rounds come with their versions loaded."""
    measures: dict[object, RoundMeasures] = {one.pk: RoundMeasures() for one in rounds}
    parents = {one.pk: one.parent_version.broadcast_size_bytes for one in rounds}
    for group in _local_runs(rounds):
        measured = measures[group["federated_round"]]
        measured.n_local_runs[group["state"]] = group["n"]
        measured.n_still_ending += group["n_still_ending"]
        measured.up_bytes += group["up_bytes"] or 0
        measured.down_bytes += parents[group["federated_round"]] * group["n_fetched"]
    candidates = {one.pk: one.candidate_version.size_bytes for one in rounds if one.candidate_version}
    for group in _evaluations(list(candidates)):
        key = group["version__made_in_round"]
        measures[key].n_still_ending += group["n_still_ending"]
        measures[key].down_bytes += candidates[key] * group["n_fetched"]
    moves = _moves(rounds)
    for one in rounds:
        measures[one.pk].phase_seconds = _phase_seconds(one, moves[one.pk])
    return measures


def score_versions(versions: Sequence[PrefixVersion]) -> dict[object, VersionScores]:
    """Scores by the versions' keys; versions that nobody has measured are missing."""
    completed = Evaluation.objects.filter(version__in=versions, state=EvaluationState.COMPLETED)
    scored = completed.values("version").annotate(
        mean=Avg("accuracy"), worst=Min("accuracy"), n_evaluations=Count("id"), rows=Sum("n_rows")
    )
    return {
        group["version"]: VersionScores(group["mean"], group["worst"], group["n_evaluations"], group["rows"])
        for group in scored
    }


def _local_runs(rounds: Sequence[FederatedRound]) -> Iterable[Mapping[str, Any]]:
    """Every attempt fetches the parent version; an update comes up once."""
    grouped = LocalRun.objects.filter(federated_round__in=rounds).values("federated_round", "state")
    measured = grouped.annotate(n=Count("id"), up_bytes=Sum("update_size_bytes"), n_fetched=Sum("attempt"))
    return measured.annotate(n_still_ending=_N_STILL_ENDING).order_by("state")


def _evaluations(round_keys: Sequence[UUID]) -> Iterable[Mapping[str, Any]]:
    """Every attempt at scoring a candidate fetches it."""
    grouped = Evaluation.objects.filter(version__made_in_round__in=round_keys).values(
        "version__made_in_round"
    )
    return grouped.annotate(n_fetched=Sum("attempt"), n_still_ending=_N_STILL_ENDING)


def _moves(rounds: Sequence[FederatedRound]) -> dict[object, list[tuple[str, datetime]]]:
    moves: dict[object, list[tuple[str, datetime]]] = defaultdict(list)
    events = RoundEvent.objects.filter(federated_round__in=rounds, tenant=None, kind__startswith="round.")
    for key, kind, at in events.order_by("id").values_list("federated_round", "kind", "happened_at"):
        moves[key].append((kind.removeprefix("round."), at))
    return moves


def _phase_seconds(federated_round: FederatedRound, moves: list[tuple[str, datetime]]) -> dict[str, float]:
    """From each move to the next; a live round's last phase lasts until now."""
    begun = [(str(RoundState.OPEN), federated_round.opened_at), *moves]
    ends = [at for _, at in moves] + [timezone.now()]
    return {
        phase: round((until - at).total_seconds(), 3)
        for (phase, at), until in zip(begun, ends, strict=True)
        if phase in ROUND_LIVE
    }
