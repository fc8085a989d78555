"""The contenders take turns in an order that rotates; then their prefixes are judged."""

import json
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path

from tests.benchmarks.training.contenders import Contender, Process, Turn, judge
from tests.benchmarks.training.turns import TASK_FILE, Task


@dataclass(frozen=True)
class Measurement:
    """What came of it. `losses` are the held-out rows', in float32, by contender and of the start prefix."""

    turns: Mapping[Contender, Sequence[Turn]]
    peak_bytes: Mapping[Contender, int]
    losses: Mapping[str, float]
    n_tokens: int
    n_threads: int
    dtype: str
    device: str
    device_name: str
    n_layer_parameters: int


def measure(
    task: Task, place: Path, *, n_turns: int, n_threads: int, say: Callable[[str], None] = lambda _text: None
) -> Measurement:
    """All contenders' turns. Every process lives through the whole of it, and only one of them works at a time.

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
        turns = _take_turns(processes, n_turns, say)
        facts = {name: value for process in processes.values() for name, value in process.facts.items()}
        ends = {contender: process.end() for contender, process in processes.items()}
    say("the judge scores all prefixes")
    return Measurement(
        turns=turns,
        peak_bytes={contender: end["peak_bytes"] for contender, end in ends.items()},
        losses=judge(place, n_threads=n_threads),
        n_tokens=ends[Contender.PRELUDE]["n_tokens"],
        n_threads=n_threads,
        **facts,
    )


def _take_turns(
    processes: Mapping[Contender, Process], n_turns: int, say: Callable[[str], None]
) -> dict[Contender, list[Turn]]:
    turns: dict[Contender, list[Turn]] = {contender: [] for contender in processes}
    order = list(processes)
    for number in range(n_turns):
        for contender in order[number % len(order) :] + order[: number % len(order)]:
            turn = processes[contender].take_turn()
            turns[contender].append(turn)
            say(
                f"turn {number + 1}/{n_turns}, {contender}: {turn.seconds:.2f} s, {turn.cpu_seconds:.2f} s of processor"
            )
    return turns
