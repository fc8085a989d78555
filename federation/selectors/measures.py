"""What rounds took and versions are worth, measured from rows, for a whole page of them in a few queries.

A tenant's scope sees its own rows: then counts, bytes and scores are those of its own part.
"""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final

from django.db import connection
from django.db.models import Avg, Count, Min, Sum
from django.utils import timezone

from federation.models import Evaluation, FederatedRound, PrefixVersion
from federation.states import ROUND_LIVE, EvaluationState, RoundState
from tenants import scoping
from tenants.errors import ScopeMissing

# Every attempt at a local run fetches the parent version, and an update comes up once; every attempt at scoring a
# candidate fetches it. The wall shows a tenant its own rows alone, and what is asked here says so too.
_MEASURES: Final = """SELECT run.federated_round_id, run.state, count(*),
        count(*) FILTER (WHERE run.stopping_until > statement_timestamp()),
        coalesce(sum(run.update_size_bytes), 0)::bigint,
        (sum(run.attempt) * min(parent.broadcast_size_bytes))::bigint
    FROM federation_localrun run
        JOIN federation_federatedround round ON round.id = run.federated_round_id
        JOIN federation_prefixversion parent ON parent.id = round.parent_version_id
    WHERE run.federated_round_id = ANY(%s) AND (%s::uuid IS NULL OR run.tenant_id = %s)
    GROUP BY 1, 2 ORDER BY 2;
    SELECT round.id, count(*) FILTER (WHERE evaluation.stopping_until > statement_timestamp()),
        (sum(evaluation.attempt) * min(candidate.size_bytes))::bigint
    FROM federation_federatedround round
        JOIN federation_prefixversion candidate ON candidate.id = round.candidate_version_id
        JOIN federation_evaluation evaluation ON evaluation.version_id = candidate.id
    WHERE round.id = ANY(%s) AND (%s::uuid IS NULL OR evaluation.tenant_id = %s)
    GROUP BY 1;
    SELECT federated_round_id, kind, happened_at
    FROM federation_roundevent
    WHERE federated_round_id = ANY(%s) AND tenant_id IS NULL AND kind LIKE 'round.%%'
    ORDER BY id
"""


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
    """Measures by the rounds' keys: of what the scope in force sees, in one round trip. Raises ScopeMissing."""
    measures: dict[object, RoundMeasures] = {one.id: RoundMeasures() for one in rounds}
    runs, evaluations, moves = _asked(list(measures))
    for key, state, n, n_still_ending, up_bytes, down_bytes in runs:
        measured = measures[key]
        measured.n_local_runs[state] = n
        measured.n_still_ending += n_still_ending
        measured.up_bytes += up_bytes
        measured.down_bytes += down_bytes
    for key, n_still_ending, down_bytes in evaluations:
        measures[key].n_still_ending += n_still_ending
        measures[key].down_bytes += down_bytes
    moved: dict[object, list[tuple[str, datetime]]] = defaultdict(list)
    for key, kind, at in moves:
        moved[key].append((kind.removeprefix("round."), at))
    for one in rounds:
        measures[one.id].phase_seconds = _phase_seconds(one, moved[one.id])
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


def _asked(keys: list[object]) -> list[list[tuple[Any, ...]]]:
    """The answers to the questions, which are sent together."""
    scope = scoping.in_force()
    if scope is None:
        raise ScopeMissing()
    tenant_id = scope.tenant_id
    with connection.cursor() as cursor:
        cursor.execute(_MEASURES, [keys, tenant_id, tenant_id, keys, tenant_id, tenant_id, keys])
        answers = [cursor.fetchall()]
        while cursor.nextset():
            answers.append(cursor.fetchall())
    return answers


def _phase_seconds(federated_round: FederatedRound, moves: list[tuple[str, datetime]]) -> dict[str, float]:
    """From each move to the next; a live round's last phase lasts until now."""
    begun = [(str(RoundState.OPEN), federated_round.opened_at), *moves]
    ends = [at for _, at in moves] + [timezone.now()]
    return {
        phase: round((until - at).total_seconds(), 3)
        for (phase, at), until in zip(begun, ends, strict=True)
        if phase in ROUND_LIVE
    }
