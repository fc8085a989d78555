"""How far the benchmark is: bars on a terminal, plain lines elsewhere."""

from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

from training_workers.benchmark.processes import Broken, Message, Noted
from training_workers.benchmark.schedule import Schedule


class Teller:
    """Writes a line at a run's end; on a terminal it also shows what each process is doing. Used as a context."""

    def __init__(self, console: Console, schedule: Schedule) -> None:
        self._console = console
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[doing]}"),
            console=console,
            disable=not console.is_terminal,
            transient=True,
        )
        self._doing: dict[str, str] = {}
        n_finished = _n_finished(schedule)
        self._bar = self._progress.add_task("runs", total=len(schedule.runs), completed=n_finished, doing="")
        console.print(f"{len(schedule.runs)} runs, of which {n_finished} are finished already")

    def __enter__(self) -> "Teller":
        self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._progress.stop()

    def note(self, message: Message, schedule: Schedule) -> None:
        """Tell what a process said."""
        name = message.job.run.name
        if isinstance(message, Noted):
            self._doing[name] = message.text
        else:
            self._doing.pop(name, None)
            n_finished = _n_finished(schedule)
            told = f"broke: {message.reason}" if isinstance(message, Broken) else _figures(message.result)
            self._console.print(
                f"{n_finished}/{len(schedule.runs)} {name}: {told}{_time_left(schedule)}", highlight=False
            )
            self._progress.update(self._bar, completed=n_finished)
        doing = "; ".join(f"{name}: {text}" for name, text in self._doing.items())
        self._progress.update(self._bar, doing=doing)


def _n_finished(schedule: Schedule) -> int:
    return sum(schedule.record(run) is not None for run in schedule.runs)


def _figures(result: dict[str, object]) -> str:
    validation = result.get("validation")
    scores = [f"{100 * score:.1f}" for score in validation] if isinstance(validation, list) else []
    told = f"validation {', '.join(scores)}, " if scores else ""
    return f"{told}{result['seconds']:.0f} s"


def _time_left(schedule: Schedule) -> str:
    seconds = schedule.remaining_seconds()
    return "" if seconds is None else f"; about {seconds / 60:.0f} min left"
