"""The report: the results as JSON values and as the rows of a table. Pure functions."""

from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import Any, Final

from deploy.demo.paths import shown
from deploy.demo.results import Results, RoundResult, Score, VersionResult

Scores = Mapping[str, Score]

NO_SCORE: Final = "-"


def build_report(results: Results, seconds: Mapping[str, float]) -> dict[str, Any]:
    """Return the whole report as JSON values; `seconds` are those of this run's steps."""
    return {
        "federation": {"id": results.federation["id"], "name": results.federation["name"]},
        "base": {
            "name": results.base_model["name"],
            "weights_sha256": results.base_model["weights_sha256"],
            **_summary(results.base_scores),
        },
        "versions": [_version_entry(version) for version in results.versions],
        "rounds": [_round_entry(found) for found in results.rounds],
        "gain_points": gain_points(results),
        "bytes": {
            "up": sum(found.up_bytes for found in results.rounds),
            "down": sum(found.down_bytes for found in results.rounds),
        },
        "seconds": {"steps": _rounded(seconds), "phases": _rounded(phase_totals(results.rounds))},
    }


def mean_accuracy(scores: Scores) -> float | None:
    """The plain mean over tenants, each counting the same; None without a score."""
    return fmean(score.accuracy for score in scores.values()) if scores else None


def worst_accuracy(scores: Scores) -> float | None:
    """The worst tenant's; None without a score."""
    return min((score.accuracy for score in scores.values()), default=None)


def published_version(results: Results) -> VersionResult | None:
    """The version that the federation's pointer names."""
    return next((version for version in results.versions if version.is_published), None)


def gain_points(results: Results) -> float | None:
    """By how many points (of 100) the published prefix's mean accuracy is above the base model's."""
    published = published_version(results)
    base, now = mean_accuracy(results.base_scores), mean_accuracy(published.scores) if published else None
    return None if base is None or now is None else round(100 * (now - base), 2)


def phase_totals(rounds: Sequence[RoundResult]) -> dict[str, float]:
    """Seconds by phase over all rounds."""
    totals: dict[str, float] = {}
    for found in rounds:
        for phase, seconds in found.seconds.items():
            totals[phase] = totals.get(phase, 0.0) + seconds
    return totals


def table_rows(results: Results, tenants: Sequence[str]) -> list[tuple[str, ...]]:
    """The table of accuracies: what was scored, each tenant, mean, worst, what became of it."""
    outcomes = {found.candidate: found.state for found in results.rounds if found.candidate is not None}
    rows = [_table_row("base model", results.base_scores, tenants, "")]
    for version in results.versions:
        name = "version 0 (start)" if version.number == 0 else f"version {version.number}"
        note = "in use" if version.is_published else outcomes.get(version.number, "")
        rows.append(_table_row(name, version.scores, tenants, note))
    return rows


def _table_row(name: str, scores: Scores, tenants: Sequence[str], note: str) -> tuple[str, ...]:
    accuracies = [scores[tenant].accuracy if tenant in scores else None for tenant in tenants]
    shown_values = [*accuracies, mean_accuracy(scores), worst_accuracy(scores)]
    return (name, *(NO_SCORE if value is None else f"{value:.3f}" for value in shown_values), note)


def _version_entry(version: VersionResult) -> dict[str, Any]:
    return {
        "number": version.number,
        "id": version.id,
        "sha256": version.sha256,
        "size_bytes": version.size_bytes,
        "file": shown(version.file),
        "archive": shown(version.archive),
        "published": version.is_published,
        **_summary(version.scores),
    }


def _round_entry(found: RoundResult) -> dict[str, Any]:
    return {
        "number": found.number,
        "state": found.state,
        "reason": found.reason,
        "parent": found.parent,
        "candidate": found.candidate,
        "bytes": {"up": found.up_bytes, "down": found.down_bytes},
        "seconds": _rounded(found.seconds),
    }


def _summary(scores: Scores) -> dict[str, Any]:
    entries = {
        tenant: {"accuracy": score.accuracy, "n_rows": score.n_rows}
        for tenant, score in sorted(scores.items())
    }
    return {
        "scores": entries,
        "mean_accuracy": mean_accuracy(scores),
        "worst_accuracy": worst_accuracy(scores),
    }


def _rounded(seconds: Mapping[str, float]) -> dict[str, float]:
    return {name: round(value, 2) for name, value in seconds.items()}
