"""The rows that one local run uses: a seeded sample to train on, always the same ones to evaluate on."""

import heapq
import random
from collections.abc import Sequence
from itertools import cycle, islice
from typing import BinaryIO

from training_workers.errors import DatasetChanged, TrainingRowsHeldOut
from training_workers.examples.reading import read_examples
from training_workers.examples.rows import Example
from training_workers.examples.split import input_hash, is_held_out


def select_held_out(file: BinaryIO, file_format: str, *, n: int) -> list[Example]:
    """The `n` different held-out inputs with the smallest hashes: always the same ones."""
    smallest = _Smallest(n)
    for example in read_examples(file, file_format):
        smallest.look_at(example, input_hash(example))
    return smallest.rows()


def select_both(
    file: BinaryIO,
    file_format: str,
    *,
    n: int,
    n_train: int,
    seed: int,
    n_held_out: int,
    max_characters: int | None = None,
) -> tuple[list[Example], list[Example]]:
    """`n` training rows and what `select_held_out` gives, with the file read once.

    The rows to train on are drawn by the seed without replacement, in the seed's order. `n_train` is the number of them
    that validation counted; where `n` is larger, every row is used before any is used again. Memory holds the rows that
    are given alone.

    Where the model is shown the first `max_characters` of a text, a row that shows it the same as a held-out one is not
    trained on: the other rows that were drawn take its place in turn.

    Raises:
        DatasetChanged: the file has fewer training rows than `n_train`.
        TrainingRowsHeldOut: every row that was drawn shows what a held-out one shows.
    """
    drawn, smallest = _Drawn(n, n_train, seed), _Smallest(n_held_out)
    for example in read_examples(file, file_format):
        hashed = input_hash(example)
        if is_held_out(hashed):
            smallest.look_at(example, hashed)
        else:
            drawn.look_at(example)
    training, held_out = drawn.rows(), smallest.rows()
    return _without(training, held_out, max_characters), held_out


def _without(
    training: list[Example], held_out: Sequence[Example], max_characters: int | None
) -> list[Example]:
    if max_characters is None:
        return training
    shown = {input_hash(example, max_characters=max_characters) for example in held_out}
    others = [one for one in training if input_hash(one, max_characters=max_characters) not in shown]
    if not others:
        raise TrainingRowsHeldOut(max_characters=max_characters)
    return training if len(others) == len(training) else list(islice(cycle(others), len(training)))


class _Drawn:
    """Those of the training rows that the seed draws, each as often as it does."""

    def __init__(self, n: int, n_train: int, seed: int) -> None:
        self._n, self._n_train = n, n_train
        self._places: dict[int, list[int]] = {}
        for place, index in enumerate(_draw(n, n_train, seed)):
            self._places.setdefault(index, []).append(place)
        self._chosen: dict[int, Example] = {}
        self._n_seen = 0

    def look_at(self, example: Example) -> None:
        """The file's next training row."""
        for place in self._places.pop(self._n_seen, ()):
            self._chosen[place] = example
        self._n_seen += 1

    def rows(self) -> list[Example]:
        if self._places:
            raise DatasetChanged(n_expected=self._n_train, n_found=self._n_seen)
        return [self._chosen[place] for place in range(self._n)]


def _draw(n: int, n_train: int, seed: int) -> list[int]:
    """`n` indices below `n_train`: whole shuffles first, then a sample."""
    generator = random.Random(seed)  # noqa: S311 (a reproducible draw, no secret)
    drawn: list[int] = []
    while n_train and len(drawn) < n:
        drawn += generator.sample(range(n_train), min(n_train, n - len(drawn)))
    if len(drawn) < n:
        raise DatasetChanged(n_expected=n, n_found=0)
    return drawn


class _Smallest:
    """The held-out rows with the smallest hashes; of the same input the first."""

    def __init__(self, n: int) -> None:
        self._n = n
        self._heap: list[int] = []
        self._kept: dict[int, Example] = {}

    def look_at(self, example: Example, hashed: int) -> None:
        """The file's next row."""
        if not is_held_out(hashed) or hashed in self._kept:
            return
        if len(self._heap) == self._n and (not self._heap or -hashed <= self._heap[0]):
            return
        self._kept[hashed] = example
        if len(self._heap) < self._n:
            heapq.heappush(self._heap, -hashed)
        else:
            del self._kept[-heapq.heapreplace(self._heap, -hashed)]

    def rows(self) -> list[Example]:
        return [self._kept[hashed] for hashed in sorted(self._kept)]
