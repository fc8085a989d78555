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
from deploy.demo.rounds import Moment, RoundWatcher

_LEFT = ("tenant", "state", "doing")
_COLUMNS = (*_LEFT, "done", "loss", "tokens/s", "accuracy")


class LineWatcher:
    """Writes a line whenever a round or a local run changes its state: for logs."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._told: dict[str, str] = {}

    def show(self, moment: Moment) -> None:
        """Write what is new since the last time."""
        name = f"round {moment.federated_round['number']}"
        for slug, run in sorted(moment.runs.items()):
            _, _, _, loss, speed, accuracy = _cells(run, moment.evaluations.get(slug))
            self._tell(f"{name}, {slug}", run["state"], detail=_figures(loss, speed))
            if accuracy:
                self._tell(f"{name}, {slug}, candidate", f"accuracy {accuracy}", detail="")
        state, reason = moment.federated_round["state"], moment.federated_round["reason"]
        self._tell(name, state, detail=reason)

    def _tell(self, subject: str, state: str, *, detail: str) -> None:
        if self._told.get(subject) != state:
            self._told[subject] = state
            self._console.print(f"{subject}: {state}" + (f" ({detail})" if detail else ""), highlight=False)


class LiveWatcher:
    """Redraws one table in place: for people."""

    def __init__(self, live: Live) -> None:
        self._live = live
        self._number = 0

    def show(self, moment: Moment) -> None:
        """Draw the round as it is now; the last picture of the round before it stays above."""
        number = moment.federated_round["number"]
        if self._number and number != self._number:
            self._live.console.print(self._live.get_renderable())
        self._number = number
        self._live.update(round_table(moment))


@contextmanager
def watching(console: Console) -> Iterator[RoundWatcher]:
    """Give the watcher that suits the console."""
    if not console.is_terminal:
        yield LineWatcher(console)
        return
    with Live(console=console, refresh_per_second=4) as live:
        yield LiveWatcher(live)


def round_table(moment: Moment) -> Table:
    """One line a tenant; the round's phase and its seconds above, its reason below."""
    found = moment.federated_round
    phases = ", ".join(f"{phase} {seconds:.0f} s" for phase, seconds in found["phase_seconds"].items())
    title = f"Round {found['number']}: {found['state']} ({phases})"
    table = Table(
        title=title,
        title_justify="left",
        caption=found["reason"] or None,
        caption_justify="left",
        min_width=90,
    )
    for column in _COLUMNS:
        table.add_column(column, justify="left" if column in _LEFT else "right")
    for slug, run in sorted(moment.runs.items()):
        table.add_row(slug, *_cells(run, moment.evaluations.get(slug)))
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
    phases = ", ".join(f"{phase} {seconds:.0f} s" for phase, seconds in report["seconds"]["phases"].items())
    console.print(
        f"Payloads: {_mebibytes(report['bytes']['up'])} up, {_mebibytes(report['bytes']['down'])} down."
    )
    console.print(f"Rounds by phase: {phases}.")
    gain = gain_points(results)
    if gain is not None:
        console.print(f"The published prefix is {gain:+.1f} points from the base model without a prefix.")


def _cells(run: Body, evaluation: Body | None) -> tuple[str, ...]:
    """A tenant's line: state, what its worker does, how far, last loss, speed, and the candidate's accuracy."""
    progress = run["progress"] if run["state"] == "running" else {}
    n_done, n_all = (
        progress.get("step", progress.get("n_done")),
        progress.get("n_steps", progress.get("n_rows")),
    )
    loss = run["history"][-1][1] if run["history"] else None
    speed = progress.get("tokens_per_second", run["metrics"].get("tokens_per_second"))
    return (
        run["state"],
        progress.get("phase", "").replace("_", " "),
        "" if n_done is None else f"{n_done}/{n_all}",
        _figure(loss, 3),
        _figure(speed, 0),
        _figure(evaluation["accuracy"] if evaluation else None, 3),
    )


def _figures(loss: str, speed: str) -> str:
    return ", ".join(filter(None, (loss and f"loss {loss}", speed and f"{speed} tokens/s")))


def _figure(value: float | None, n_digits: int) -> str:
    return "" if value is None else f"{value:.{n_digits}f}"


def _mebibytes(n_bytes: int) -> str:
    return f"{n_bytes / 2**20:.2f} MiB"
