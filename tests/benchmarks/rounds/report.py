"""Sessions made into figures: a table for people, JSON for programs, Markdown for docs/measurements.md."""

import json
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Final

from tests.benchmarks.rounds.cases import (
    CASES,
    KILLING,
    POINTS,
    SMALL_BYTES,
    THOUSAND,
    TITLES,
    Case,
    System,
)
from tests.benchmarks.rounds.sessions import Session

MEBIBYTE: Final = 2**20
COLUMNS: Final = (
    "case",
    "system",
    "seconds a round: median (min – max, n)",
    "of it training",
    "CPU s a round",
    "servers MiB",
    "summing process's peak MiB",
    "all MiB",
    "loopback / file MiB a round",
)
Key = tuple[Case, System]
Groups = Mapping[Key, Sequence[Session]]


def group(sessions: Sequence[Session]) -> dict[Key, list[Session]]:
    """The sessions of the same rounds on the same system, from all passes."""
    groups: dict[Key, list[Session]] = {}
    for session in sessions:
        groups.setdefault((session.case, session.system), []).append(session)
    return groups


def rows(groups: Groups) -> list[tuple[str, ...]]:
    """The table's rows."""
    return [
        _row(key, groups[key])
        for case in (*CASES, KILLING, THOUSAND)
        for system in System
        if (key := (case, system)) in groups
    ]


def _row(key: Key, sessions: Sequence[Session]) -> tuple[str, ...]:
    case, system = key
    seconds = _all_seconds(sessions)
    training = [value for session in sessions for value in session.training_seconds]
    held = [session for session in sessions if session.per_round]
    problems = sum(bool(session.problem) for session in sessions)
    if not seconds:
        return (case.name, TITLES[system], "failed: see below", *["" for _ in COLUMNS[3:]])
    spread = f"{_short(statistics.median(seconds))} ({_short(min(seconds))} – {_short(max(seconds))}, {len(seconds)})"
    told = spread + (f"; {problems} of {len(sessions)} sessions failed" if problems else "")
    return (
        case.name,
        TITLES[system],
        told + _survivors(case, sessions),
        _short(statistics.median(training)) if training else "–",
        _figure(held, lambda session: session.per_round["cpu_seconds"], "{:.2f}"),
        _figure(held, lambda session: session.server_bytes / MEBIBYTE, "{:.0f}"),
        _figure(held, lambda session: session.coordinator_bytes / MEBIBYTE, "{:.0f}"),
        _figure(held, lambda session: session.total_bytes / MEBIBYTE, "{:.0f}"),
        _figure(held, lambda session: session.per_round["loopback_bytes"] / MEBIBYTE, "{:.1f}")
        + " / "
        + _figure(held, lambda session: session.per_round["file_bytes"] / MEBIBYTE, "{:.1f}"),
    )


def _survivors(case: Case, sessions: Sequence[Session]) -> str:
    if not case.is_killing:
        return ""
    counted = [session.n_clients for session in sessions if session.n_clients is not None]
    return f"; {min(counted)} of {case.n_tenants} clients counted" if counted else ""


def _figure(sessions: Sequence[Session], value: Callable[[Session], float], form: str) -> str:
    return form.format(statistics.median(map(value, sessions))) if sessions else "–"


def _short(seconds: float) -> str:
    return f"{seconds:.3f}" if seconds < 10 else f"{seconds:.1f}"


def _all_seconds(sessions: Sequence[Session]) -> list[float]:
    return [value for session in sessions for value in session.seconds]


def _median(groups: Groups, case: Case, system: System) -> float | None:
    seconds = _all_seconds(groups.get((case, system), ()))
    return statistics.median(seconds) if seconds else None


def goals(groups: Groups) -> list[str]:
    """The goals, each with what was measured; those that cannot be judged are left out."""
    lines = []
    for case in CASES[:2]:
        own = _median(groups, case, System.PRELUDE)
        for system, share in ((System.FLOWER_SIMULATION, 0.5), (System.NVFLARE, 0.1)):
            other = _median(groups, case, system)
            if own and other:
                what = f"{case.name}: {own / other:.2f} of {TITLES[system]}'s time"
                lines.append(_verdict(own / other <= share, f"{what} (at most {share:g})"))
    few = _peak(groups, CASES[0])
    many = _peak(groups, Case(64, SMALL_BYTES))
    if few and many:
        what = f"coordinator's memory at 64 tenants {many / few:.3f} of that at 4 (at most 1.1)"
        lines.append(_verdict(many <= 1.1 * few, what))
    for case in CASES:
        base, peak = _base(groups), _peak(groups, case)
        if base and peak:
            allowed = base + 4 * case.payload_bytes
            told = f"{peak / MEBIBYTE:.0f} MiB, base plus 4 payloads {allowed / MEBIBYTE:.0f}"
            lines.append(_verdict(peak <= allowed, f"{case.name}: coordinator's peak {told}"))
    sixteen, thousand = _median(groups, CASES[1], System.PRELUDE), _median(groups, THOUSAND, System.PRELUDE)
    if sixteen and thousand:
        ratio = thousand / THOUSAND.n_tenants / (sixteen / CASES[1].n_tenants)
        lines.append(
            _verdict(ratio <= 2, f"time for each of 1,000 tenants {ratio:.2f} of that at 16 (at most 2)")
        )
    return lines


def _verdict(is_met: bool, what: str) -> str:
    return f"{'met' if is_met else 'MISSED'}: {what}"


def _peak(groups: Groups, case: Case) -> float | None:
    sizes = [session.coordinator_bytes for session in groups.get((case, System.PRELUDE), ())]
    return statistics.median(sizes) if any(sizes) else None


def _base(groups: Groups) -> float | None:
    """What the coordinator has resident between the first round, which warms it up, and the second."""
    sizes = [
        session.coordinator_between_bytes
        for (_, system), sessions in groups.items()
        for session in sessions
        if system is System.PRELUDE and session.coordinator_between_bytes
    ]
    return min(sizes) if sizes else None


def problems(groups: Groups) -> list[str]:
    """What failed, and the end of its log."""
    return [
        f"{case.name} on {TITLES[system]}: {session.problem}"
        for (case, system), sessions in groups.items()
        for session in sessions
        if session.problem
    ]


def markdown(groups: Groups, *, machine: str, versions: Mapping[str, str]) -> str:
    """The section for docs/measurements.md."""
    lines = [f"On {machine}. " + " ".join(f"{name}: {text}." for name, text in versions.items()), ""]
    lines += ["| " + " | ".join(COLUMNS) + " |", "|" + "---|" * len(COLUMNS)]
    lines += ["| " + " | ".join(row) + " |" for row in rows(groups)]
    lines += ["", "What a round's time is:", ""]
    lines += [f"- {TITLES[system]}: {text}." for system, text in POINTS.items()]
    lines += ["", "Goals:", "", *(f"- {line}" for line in goals(groups))]
    lines += ["", *(f"- Failed: {problem.splitlines()[0]}" for problem in problems(groups))]
    return "\n".join(lines).rstrip() + "\n"


def write_json(path: Path, sessions: Sequence[Session], *, machine: str, versions: Mapping[str, str]) -> None:
    """All that was measured."""
    content = {
        "machine": machine,
        "versions": dict(versions),
        "sessions": [asdict(session) for session in sessions],
    }
    path.write_text(json.dumps(content, indent=2) + "\n")
