"""How far a round is: its phases with their times, each tenant's local run, and the newest events."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django.db.models import Count, Max, Q, QuerySet
from django.utils import timezone

from federation.models import (
    Campaign,
    Evaluation,
    FederatedRound,
    Federation,
    LocalRun,
    PrefixVersion,
    RoundEvent,
)
from federation.selectors import visibility
from federation.states import ROUND_LIVE, EvaluationState, LocalRunState, RoundState

PHASES: tuple[str, ...] = (
    RoundState.OPEN,
    RoundState.TRAINING,
    RoundState.AGGREGATING,
    RoundState.EVALUATING,
)
_TRAINED = (LocalRunState.SUBMITTED, LocalRunState.ACCEPTED, LocalRunState.REJECTED)
_N_EVENTS = 50


@dataclass(frozen=True)
class Phase:
    """One station of a round's way: done, current, or (had it not been reached) pending."""

    name: str
    status: str
    began_at: datetime | None
    seconds: float | None


@dataclass(frozen=True)
class RunProgress:
    """One tenant's local run, with its held-out accuracy before and after its own training, and with both versions that
    the gate compares.
    """

    local_run: LocalRun
    fraction: float
    before: float | None
    after: float | None
    incumbent: float | None
    candidate: float | None
    candidate_state: str

    @property
    def progress(self) -> dict[str, Any]:
        """What the worker reported last: phase, step, n_steps, loss, tokens_per_second."""
        reported: dict[str, Any] = self.local_run.progress
        return reported

    @property
    def percent(self) -> int:
        """For a progress bar."""
        return round(100 * self.fraction)


@dataclass(frozen=True)
class RoundProgress:
    """All that the round page shows and renews while the round runs."""

    federated_round: FederatedRound
    phases: list[Phase]
    runs: list[RunProgress]
    events: list[RoundEvent]
    seconds: float

    @property
    def is_live(self) -> bool:
        """Whether anything can still move."""
        return not self.federated_round.is_finished

    @property
    def n_accepted(self) -> int:
        """Updates that count."""
        return sum(run.local_run.state == LocalRunState.ACCEPTED for run in self.runs)

    @property
    def mean_incumbent(self) -> float | None:
        """The incumbent's mean over the tenants that the candidate was scored by, or over all before that."""
        scored = [run for run in self.runs if run.candidate is not None] or self.runs
        return _mean(run.incumbent for run in scored)

    @property
    def mean_candidate(self) -> float | None:
        """The candidate's mean over the tenants that have scored it."""
        return _mean(run.candidate for run in self.runs)


@dataclass(frozen=True)
class LiveRound:
    """A round that runs, in one line."""

    federated_round: FederatedRound
    n_runs: int
    n_trained: int
    n_scored: int
    fraction: float

    @property
    def percent(self) -> int:
        """For a progress bar: of the phase that the round is in."""
        return round(100 * self.fraction)

    @property
    def told(self) -> str:
        """What the fraction counts."""
        match self.federated_round.state:
            case RoundState.EVALUATING:
                return f"{self.n_scored} of {self.n_runs} tenants have scored the candidate"
            case RoundState.AGGREGATING:
                return "summing the accepted updates"
            case _:
                return f"{self.n_trained} of {self.n_runs} tenants have trained"


def round_progress(*, federated_round: FederatedRound) -> RoundProgress:
    """The round as it is now."""
    runs = LocalRun.objects.filter(federated_round=federated_round).select_related("tenant", "dataset")
    before = _scores(federated_round.parent_version)
    incumbent = _scores(federated_round.incumbent_version)
    candidate = _scores(federated_round.candidate_version)
    events = visibility.round_events(federated_round=federated_round).select_related("tenant")
    ended_at = federated_round.finished_at or timezone.now()
    return RoundProgress(
        federated_round=federated_round,
        phases=_phases(federated_round),
        runs=[_run(run, before, incumbent, candidate) for run in runs.order_by("tenant__name")],
        events=list(events.order_by("-id")[:_N_EVENTS]),
        seconds=(ended_at - federated_round.opened_at).total_seconds(),
    )


def _scores(version: PrefixVersion | None) -> dict[object, Evaluation]:
    if version is None:
        return {}
    asked = Evaluation.objects.filter(version=version).order_by(
        "id"
    )  # the newest, where one was asked for anew
    return {evaluation.dataset_id: evaluation for evaluation in asked}


def _run(
    run: LocalRun,
    before: dict[object, Evaluation],
    incumbent: dict[object, Evaluation],
    candidate: dict[object, Evaluation],
) -> RunProgress:
    measured = run.metrics.get("scores") or {}
    parent, scored = before.get(run.dataset_id), candidate.get(run.dataset_id)
    compared = incumbent.get(run.dataset_id)
    return RunProgress(
        local_run=run,
        fraction=_fraction(run),
        before=parent.accuracy if parent else (measured.get("before") or {}).get("accuracy"),
        after=(measured.get("after") or {}).get("accuracy"),
        incumbent=compared.accuracy if compared else None,
        candidate=scored.accuracy if scored else None,
        candidate_state=scored.state if scored else "",
    )


def _fraction(run: LocalRun) -> float:
    if run.state in _TRAINED:
        return 1.0
    n_steps = run.progress.get("n_steps") or 0
    return min(1.0, run.progress.get("step", 0) / n_steps) if n_steps else 0.0


def _phases(federated_round: FederatedRound) -> list[Phase]:
    moves = RoundEvent.objects.filter(federated_round=federated_round, tenant=None, kind__startswith="round.")
    began = dict(moves.order_by("-id").values_list("kind", "happened_at"))
    began_at = {phase: began.get(f"round.{phase}") for phase in PHASES}
    began_at[RoundState.OPEN] = federated_round.opened_at
    ends = [*list(began_at.values())[1:], None]
    return [
        _phase(federated_round, name, began_at[name], next_began_at or _end(federated_round))
        for name, next_began_at in zip(PHASES, ends, strict=True)
    ]


def _phase(federated_round: FederatedRound, name: str, began_at: datetime | None, until: datetime) -> Phase:
    if began_at is None:
        return Phase(name=name, status="pending", began_at=None, seconds=None)
    status = "current" if federated_round.state == name else "done"
    return Phase(name=name, status=status, began_at=began_at, seconds=(until - began_at).total_seconds())


def _end(federated_round: FederatedRound) -> datetime:
    return federated_round.finished_at or timezone.now()


def live_rounds(*, federation: Federation | None = None, campaign: Campaign | None = None) -> list[LiveRound]:
    """The rounds that run, the oldest first, in two queries whatever their number."""
    rounds = (
        visibility.rounds().filter(state__in=ROUND_LIVE).select_related("federation", "candidate_version")
    )
    if federation is not None:
        rounds = rounds.filter(federation=federation)
    if campaign is not None:
        rounds = rounds.filter(campaign=campaign)
    scored = Q(candidate_version__evaluations__state=EvaluationState.COMPLETED)
    found = list(
        rounds.annotate(n_scored=Count("candidate_version__evaluations", filter=scored)).order_by("id")
    )
    runs: dict[object, list[LocalRun]] = {}
    for run in LocalRun.objects.filter(federated_round__in=found).defer("history", "metrics"):
        runs.setdefault(run.federated_round_id, []).append(run)
    return [_live(live, runs.get(live.pk, []), live.n_scored) for live in found]


def last_sign(rounds: QuerySet[FederatedRound]) -> tuple[object, ...]:
    """Another value whenever a worker has beaten, or has scored a candidate: what these rounds' events do not tell."""
    live = rounds.filter(state__in=ROUND_LIVE)
    beats = LocalRun.objects.filter(federated_round__in=live).aggregate(last=Max("lease_expires_at"))
    candidates = live.values("candidate_version")
    scores = Evaluation.objects.filter(version__in=candidates).aggregate(last=Max("state_changed_at"))
    return beats["last"], scores["last"]


def _live(federated_round: FederatedRound, runs: list[LocalRun], n_scored: int) -> LiveRound:
    fraction = n_scored / len(runs) if runs else 0.0
    if federated_round.state != RoundState.EVALUATING:
        fraction = _mean(_fraction(run) for run in runs) or 0.0
    return LiveRound(
        federated_round=federated_round,
        n_runs=len(runs),
        n_trained=sum(run.state in _TRAINED for run in runs),
        n_scored=n_scored,
        fraction=fraction,
    )


def _mean(values: Iterable[float | None]) -> float | None:
    found = [value for value in values if value is not None]
    return sum(found) / len(found) if found else None
