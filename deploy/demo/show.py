"""The demo on the screen: a live table on a terminal, plain lines elsewhere, and the results at the end."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from rich.console import Console
from rich.live import Live
from rich.table import Table

from deploy.demo.client import Body
from deploy.demo.report import gain_points, table_rows
from deploy.demo.results import Results
from deploy.demo.rounds import RoundWatcher

TENANT_COLUMNS = ("tenant", "state", "step", "loss", "tokens/s")


class LineWatcher:
    """Writes a line whenever a round or a local run changes its state: for logs."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._told: dict[str, str] = {}

    def show_round(self, federated_round: Body, runs: Mapping[str, Body]) -> None:
        """Write what is new since the last time."""
        name = f"round {federated_round['number']}"
        for slug, run in runs.items():
            self._tell(f"{name}, {slug}", run["state"], detail=_training_figures(run))
        self._tell(name, federated_round["state"], detail=federated_round["reason"])

    def _tell(self, subject: str, state: str, *, detail: str) -> None:
        if self._told.get(subject) != state:
            self._told[subject] = state
            self._console.print(f"{subject}: {state}" + (f" ({detail})" if detail else ""), highlight=False)


class LiveWatcher:
    """Redraws one table in place: for people."""

    def __init__(self, live: Live) -> None:
        self._live = live
        self._number = 0

    def show_round(self, federated_round: Body, runs: Mapping[str, Body]) -> None:
        """Draw the round as it is now; the last picture of the round before it stays above."""
        if self._number and federated_round["number"] != self._number:
            self._live.console.print(self._live.get_renderable())
        self._number = federated_round["number"]
        self._live.update(round_table(federated_round, runs))


@contextmanager
def watching(console: Console) -> Iterator[RoundWatcher]:
    """Give the watcher that suits the console."""
    if not console.is_terminal:
        yield LineWatcher(console)
        return
    with Live(console=console, refresh_per_second=4) as live:
        yield LiveWatcher(live)


def round_table(federated_round: Body, runs: Mapping[str, Body]) -> Table:
    """One line a tenant, and the round's phase above."""
    title = f"Round {federated_round['number']}: {federated_round['state']}"
    table = Table(
        title=title, title_justify="left", caption=federated_round["reason"], caption_justify="left"
    )
    for column in TENANT_COLUMNS:
        table.add_column(column, justify="left" if column in ("tenant", "state") else "right", min_width=8)
    for slug, run in runs.items():
        table.add_row(slug, *_run_cells(run))
    return table


def show_results(
    console: Console, results: Results, report: Mapping[str, Any], tenants: Sequence[str]
) -> None:
    """Print the accuracies, the payload bytes and the seconds."""
    table = Table(title="Accuracy on held-out rows", title_justify="left")
    for column in ("", *tenants, "mean", "worst", ""):
        table.add_column(column, justify="right" if column else "left")
    for row in table_rows(results, tenants):
        table.add_row(*row)
    console.print(table)
    phases = ", ".join(f"{phase} {seconds:.0f} s" for phase, seconds in report["seconds"]["rounds"].items())
    console.print(
        f"Payloads: {_mebibytes(report['bytes']['up'])} up, {_mebibytes(report['bytes']['down'])} down."
    )
    console.print(f"Rounds by phase: {phases}.")
    gain = gain_points(results)
    if gain is not None:
        console.print(f"The published prefix is {gain:+.1f} points from the base model without a prefix.")


def _run_cells(run: Body) -> tuple[str, ...]:
    progress = run["progress"] or {}
    step = f"{progress['step']}/{progress['n_steps']}" if "step" in progress else ""
    return (
        run["state"],
        step,
        _figure(progress.get("loss"), 3),
        _figure(progress.get("tokens_per_second"), 0),
    )


def _training_figures(run: Body) -> str:
    _, step, loss, speed = _run_cells(run)
    return ", ".join(
        filter(None, (step and f"step {step}", loss and f"loss {loss}", speed and f"{speed} tokens/s"))
    )


def _figure(value: float | None, n_digits: int) -> str:
    return "" if value is None else f"{value:.{n_digits}f}"


def _mebibytes(n_bytes: int) -> str:
    return f"{n_bytes / 2**20:.2f} MiB"
