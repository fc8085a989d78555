"""The same no-op round on Prelude, Flower and NVIDIA FLARE, interleaved: `python -m tests.benchmarks.rounds [--quick]`.

Each pass holds one session of every case on every system, one system after the other, none of the others running.
"""

import argparse
import platform
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import psutil
from rich.console import Console
from rich.table import Table

from deploy.embedded.layout import n_cores
from tests.benchmarks.rounds import environments, report
from tests.benchmarks.rounds.cases import CASES, KILLING, THOUSAND, Case, System
from tests.benchmarks.rounds.sessions import Session, hold
from tests.platform import PROJECT

DIRECTORY: Final = PROJECT / "var" / "benchmarks"
N_PASSES: Final = 3


def plan(arguments: argparse.Namespace) -> Iterator[tuple[Case, System]]:
    """All sessions in their order."""
    systems = [System(name) for name in arguments.systems]
    for number in range(1 if arguments.quick else arguments.passes):
        cases = CASES[:1] if arguments.quick else CASES
        for case in (*cases, *((KILLING,) if number == 0 and not arguments.quick else ())):
            if _is_wanted(case, arguments):
                yield from ((case, system) for system in systems)
    if System.PRELUDE in systems and not arguments.quick and _is_wanted(THOUSAND, arguments):
        yield THOUSAND, System.PRELUDE


def _is_wanted(case: Case, arguments: argparse.Namespace) -> bool:
    is_of_size = not arguments.megabytes or case.payload_bytes / 1e6 in arguments.megabytes
    return is_of_size and (not arguments.tenants or case.n_tenants in arguments.tenants)


def machine() -> str:
    """What it runs on."""
    memory = psutil.virtual_memory().total / 2**30
    return f"{n_cores()} cores, {memory:.0f} GiB, {platform.system()}, Python {platform.python_version()}"


def parse() -> argparse.Namespace:
    """The command's words."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="4 tenants of 0.9 MB, 2 rounds on each system")
    parser.add_argument("--passes", type=int, default=N_PASSES, help="sessions of each case on each system")
    parser.add_argument("--systems", nargs="+", choices=list(System), default=list(System))
    parser.add_argument("--tenants", nargs="+", type=int, help="only the cases with so many tenants")
    parser.add_argument(
        "--megabytes", nargs="+", type=float, help="only the cases with payloads of so many MB"
    )
    return parser.parse_args()


def main() -> None:
    """Install the peers, hold all sessions, show and write what came of them."""
    arguments, console = parse(), Console()
    wanted = {environments.ENVIRONMENT_OF.get(System(name)) for name in arguments.systems} - {None}
    installed = {}
    for name in sorted(str(one) for one in wanted):
        console.print(f"Installing {environments.WANTED[name]} …", markup=False)
        installed[name] = environments.install(DIRECTORY / "peers", name)
    versions = {name: one.versions or one.problem for name, one in installed.items()}
    for name, text in versions.items():
        console.print(f"  {name}: {text}")
    places = DIRECTORY / "sessions"
    shutil.rmtree(places, ignore_errors=True)
    sessions: list[Session] = []
    steps = list(plan(arguments))
    for number, (case, system) in enumerate(steps, start=1):
        console.print(f"{number}/{len(steps)}  {case.name} on {system} …", end=" ", highlight=False)
        peer = installed.get(environments.ENVIRONMENT_OF.get(system, ""))
        if peer is not None and peer.problem:
            session = Session(system, case, problem=peer.problem)
        else:
            python = peer.python if peer is not None else Path(sys.executable)
            n_rounds = case.n_rounds(system, is_quick=arguments.quick)
            session = hold(system, case, python=python, directory=places, n_rounds=n_rounds)
        sessions.append(session)
        told = ", ".join(f"{seconds:.3f}" for seconds in session.seconds)
        console.print(f"{told} s" if told else "", session.problem, highlight=False, markup=False)
        report.write_json(DIRECTORY / "rounds.json", sessions, machine=machine(), versions=versions)
    groups = report.group(sessions)
    _show(console, groups)
    (DIRECTORY / "rounds.md").write_text(report.markdown(groups, machine=machine(), versions=versions))
    console.print(f"Written: {DIRECTORY / 'rounds.json'}, {DIRECTORY / 'rounds.md'}")


def _show(console: Console, groups: report.Groups) -> None:
    table = Table(*report.COLUMNS)
    for row in report.rows(groups):
        table.add_row(*row)
    console.print(table)
    for line in (*report.goals(groups), *report.problems(groups)):
        console.print(line, highlight=False, markup=False)


if __name__ == "__main__":
    main()
