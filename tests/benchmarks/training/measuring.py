"""The contenders take turns in an order that rotates; then their prefixes are judged."""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

from tests.benchmarks.training.contenders import Contender, Process, Turn, judge
from tests.benchmarks.training.turns import TASK_FILE, Task

MEBIBYTE: Final = 2**20


@dataclass(frozen=True)
class Measurement:
    """What came of it. `losses` are the held-out rows', in float32, by contender and of the start prefix."""

    turns: Mapping[Contender, Sequence[Turn]]
    losses: Mapping[str, float]
    n_threads: int
    dtype: str
    device: str
    device_name: str
    n_layer_parameters: int

    @property
    def n_tokens(self) -> int:
        """Of a run; Prelude counts them."""
        n_tokens = self.turns[Contender.PRELUDE][-1].n_tokens
        assert n_tokens is not None
        return n_tokens


def measure(
    task: Task, place: Path, *, n_turns: int, n_threads: int, say: Callable[[str], None] = lambda _text: None
) -> Iterator[Measurement]:
    """What is known after each time that all have had a turn; a command that is cut off has told that much.

    Every process lives through the whole of it, and only one of them works at a time. Prefixes are judged after the
    first turns: the same rows from the same start lead to the same one each time.

    Raises:
        ContenderFailed: one of them did not get through.
    """
    place.mkdir(parents=True, exist_ok=True)
    (place / TASK_FILE).write_text(json.dumps(asdict(task)))
    with ExitStack() as stack:
        processes: dict[Contender, Process] = {}
        for (
            contender
        ) in Contender:  # Prelude first: it makes the start prefix, and the choice of number format
            say(f"{contender} loads and warms up")
            dtype = processes[Contender.PRELUDE].facts["dtype"] if processes else None
            processes[contender] = Process(contender, place, n_threads=n_threads, dtype=dtype)
            stack.callback(processes[contender].kill)
        facts = {name: value for process in processes.values() for name, value in process.facts.items()}
        turns: dict[Contender, list[Turn]] = {contender: [] for contender in processes}
        losses: Mapping[str, float] = {}
        for number in range(n_turns):
            say(f"turn {number + 1} of {n_turns}")
            _take_turns(processes, turns, number, say)
            if not losses:
                losses = judge(place, n_threads=n_threads)
                say(f"held-out losses: {', '.join(f'{name} {loss:.3f}' for name, loss in losses.items())}")
            yield Measurement(
                turns={contender: tuple(taken) for contender, taken in turns.items()},
                losses=losses,
                n_threads=n_threads,
                **facts,
            )


def _take_turns(
    processes: Mapping[Contender, Process],
    turns: Mapping[Contender, list[Turn]],
    number: int,
    say: Callable[[str], None],
) -> None:
    order = list(processes)
    for contender in order[number % len(order) :] + order[: number % len(order)]:
        turn = processes[contender].take_turn()
        turns[contender].append(turn)
        say(
            f"{contender}: {turn.seconds:.2f} s, {turn.cpu_seconds:.2f} s of processor, "
            f"peak {turn.peak_bytes / MEBIBYTE:.0f} MiB"
        )
