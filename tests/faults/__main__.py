"""`make faults`: four loops of faults over one platform, a line for each fault, and a table.

python -m tests.faults [--seed N] [--directory var/faults] [--passes N --kills N --outages N --scattered N]
"""

import argparse
import random
import sys
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

from tests.faults.arena import Arena, arena
from tests.faults.faults import AT_FAIL_POINTS, KILLS, OUTAGES, Fault, Scattered, at_some_time
from tests.faults.judging import Outcome, endure
from tests.places import emptied

N_UNDISTURBED = 12
HEADER = ("fault", "rounds", "published", "lost", "doubled", "stuck", "longest recovery (s)")


def planned(options: argparse.Namespace) -> list[Fault]:
    """All faults of the run: each fail point so many times, then random kills, outages, and messages scattered."""
    draw = random.Random(options.seed)
    return [
        *(AT_FAIL_POINTS * options.passes),
        *at_some_time(KILLS, n=options.kills, draw=draw),
        *at_some_time(OUTAGES, n=options.outages, draw=draw),
        *[Scattered() for _ in range(options.scattered)],
    ]


def run(ready: Arena, faults: list[Fault]) -> Iterator[Outcome]:
    """Every fault's outcome, told as it comes; after one that went wrong the next round is a new federation's."""
    is_spoilt = False
    for number, fault in enumerate(faults, start=1):
        place = ready.next_place(fresh=is_spoilt)
        started_at = time.monotonic()
        outcome = endure(ready, fault, place)
        seconds = time.monotonic() - started_at
        told = "; ".join(outcome.problems) or "published"
        print(f"{number:4d}/{len(faults)}  {seconds:5.1f} s  {outcome.fault}: {told}", flush=True)
        is_spoilt = bool(outcome.problems)
        yield outcome


def table(outcomes: Iterable[Outcome]) -> str:
    """The outcomes by fault, as Markdown, with a line of sums."""
    by_fault: dict[str, list[Outcome]] = {}
    everything = list(outcomes)
    for outcome in everything:
        by_fault.setdefault(outcome.fault, []).append(outcome)
    lines = [_row(name, found) for name, found in by_fault.items()] + [_row("all", everything)]
    rule = tuple("---" for _ in HEADER)
    return "\n".join("| " + " | ".join(cells) + " |" for cells in (HEADER, rule, *lines)) + "\n"


def _row(name: str, outcomes: list[Outcome]) -> tuple[str, ...]:
    recoveries = [outcome.recovery_seconds for outcome in outcomes if outcome.recovery_seconds is not None]
    counts = (
        len(outcomes),
        sum(outcome.is_published for outcome in outcomes),
        sum(bool(outcome.lost) for outcome in outcomes),
        sum(bool(outcome.doubled) for outcome in outcomes),
        sum(bool(outcome.stuck) for outcome in outcomes),
    )
    return (name, *map(str, counts), f"{max(recoveries):.1f}" if recoveries else "")


def main(arguments: list[str]) -> int:
    """Run the loops; returns 1 unless nothing was lost, doubled or stuck."""
    parser = argparse.ArgumentParser(prog="python -m tests.faults", description=__doc__)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--directory", type=Path, default=Path("var/faults"))
    for name, n in {"passes": 2, "kills": 42, "outages": 40, "scattered": 40}.items():
        parser.add_argument(f"--{name}", type=int, default=n)
    options = parser.parse_args(arguments)
    faults = planned(options)
    options.directory.mkdir(parents=True, exist_ok=True)
    place = emptied(options.directory.resolve() / "run")  # stays for whoever wants to know why
    print(f"{len(faults)} faults, seed {options.seed}", flush=True)
    with arena(place, n_undisturbed=N_UNDISTURBED) as ready:
        print(f"An undisturbed round takes {ready.calm_seconds:.1f} s.", flush=True)
        outcomes: list[Outcome] = []
        for outcome in run(ready, faults):
            outcomes.append(outcome)
            (options.directory / "table.md").write_text(table(outcomes))  # so far: the run may be cut off
    print(table(outcomes))
    return int(any(outcome.problems for outcome in outcomes))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
