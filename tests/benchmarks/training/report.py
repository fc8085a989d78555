"""Turns made into figures: a table for people, JSON for programs, Markdown for docs/measurements.md."""

import json
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Final

from tests.benchmarks.training.contenders import START, TITLES, Contender, Turn
from tests.benchmarks.training.measuring import MEBIBYTE, Measurement

COLUMNS: Final = (
    "contender",
    "tokens/s: median (min – max)",
    "s a run",
    "Prelude's speed by its: median of turns (min – max)",
    "by processor time",
    "peak MiB",
    "held-out loss",
)
GOALS: Final[Mapping[Contender, float]] = {
    Contender.TRAINER: 2.5,
    Contender.TRAINER_SAME_DTYPE: 2.5,
    Contender.LOOP: 0.95,
}
# Of what training gains from the start prefix: contenders see the same rows, but not in the same order or format.
LOSS_TOLERANCE: Final = 0.15
# Dense products in bfloat16, by NVIDIA's data sheets; found in the device's name.
PEAK_FLOPS: Final[Mapping[str, float]] = {"H100": 989e12, "H200": 989e12, "A100": 312e12, "L4": 121e12}


def ratios(found: Measurement, other: Contender, *, is_processor_time: bool = False) -> list[float]:
    """Turn by turn, how many times as fast as the other one Prelude was."""
    pairs = zip(found.turns[other], found.turns[Contender.PRELUDE], strict=True)
    return [_seconds(theirs, is_processor_time) / _seconds(ours, is_processor_time) for theirs, ours in pairs]


def _seconds(turn: Turn, is_processor_time: bool) -> float:
    return turn.cpu_seconds if is_processor_time else turn.seconds


def rows(found: Measurement) -> list[tuple[str, ...]]:
    """The table's rows."""
    return [_row(found, contender) for contender in Contender]


def _row(found: Measurement, contender: Contender) -> tuple[str, ...]:
    turns = found.turns[contender]
    return (
        TITLES[contender],
        _spread([found.n_tokens / turn.seconds for turn in turns], ".0f"),
        f"{statistics.median(turn.seconds for turn in turns):.1f}",
        _spread(ratios(found, contender), ".2f"),
        f"{statistics.median(ratios(found, contender, is_processor_time=True)):.2f}",
        f"{turns[-1].peak_bytes / MEBIBYTE:.0f}",
        f"{found.losses[contender]:.3f}",
    )


def _spread(values: Sequence[float], form: str) -> str:
    return f"{statistics.median(values):{form}} ({min(values):{form}} – {max(values):{form}})"


def verdicts(found: Measurement) -> list[str]:
    """The goals, each with what was measured."""
    lines = []
    for contender, goal in GOALS.items():
        ratio = statistics.median(ratios(found, contender))
        lines.append(
            f"{'met' if ratio >= goal else 'MISSED'}: {ratio:.2f} times {TITLES[contender]} (at least {goal:g})"
        )
    share = peak_share(found)
    told = "no GPU here" if found.device != "cuda" else f"no peak is known of {found.device_name}"
    lines.append(
        f"share of the chip's peak: {told if share is None else f'{share:.3f} of {found.device_name}'}"
    )
    return lines


def peak_share(found: Measurement) -> float | None:
    """Prelude's floating-point operations a second by the GPU's peak in bfloat16; None without a known GPU.

    4 · parameters of the layers · tokens: forward, and backward to the activations alone, for the weights are
    frozen. Padding is no work; attention's own products and the output layer are left out: the share is a floor.
    """
    peaks = [peak for name, peak in PEAK_FLOPS.items() if name in found.device_name]
    if not peaks:
        return None
    seconds = statistics.median(turn.seconds for turn in found.turns[Contender.PRELUDE])
    return 4 * found.n_layer_parameters * found.n_tokens / seconds / peaks[0]


def strays(found: Measurement) -> list[str]:
    """The contenders that did not end where Prelude did, within LOSS_TOLERANCE."""
    own = found.losses[Contender.PRELUDE]
    allowed = LOSS_TOLERANCE * (found.losses[START] - own)
    return [
        f"{TITLES[contender]}: held-out loss {found.losses[contender]:.4f}, Prelude's {own:.4f}, allowed ±{allowed:.4f}"
        for contender in Contender
        if not abs(found.losses[contender] - own) <= allowed
    ]


def markdown(found: Measurement, *, machine: str) -> str:
    """The section for docs/measurements.md."""
    n_turns = len(found.turns[Contender.PRELUDE])
    lines = [f"{machine}. {n_turns} turns each, {found.n_threads} thread, {found.n_tokens} tokens a run.", ""]
    lines += ["| " + " | ".join(COLUMNS) + " |", "|" + "---|" * len(COLUMNS)]
    lines += ["| " + " | ".join(row) + " |" for row in rows(found)]
    lines += ["", *(f"- {line}" for line in (*verdicts(found), *strays(found)))]
    return "\n".join(lines) + "\n"


def write_json(path: Path, found: Measurement, *, machine: str) -> None:
    """All that was measured."""
    path.write_text(json.dumps({"machine": machine, **asdict(found)}, indent=2) + "\n")
