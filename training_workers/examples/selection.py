"""The rows that one local run uses: a seeded sample to train on, always the same ones to evaluate on."""

import heapq
import random
from typing import BinaryIO

from training_workers.errors import DatasetChanged
from training_workers.examples.reading import read_examples
from training_workers.examples.rows import Example
from training_workers.examples.split import input_hash, is_held_out


def select_training(file: BinaryIO, file_format: str, *, n: int, n_train: int, seed: int) -> list[Example]:
    """`n` training rows, drawn by the seed without replacement, in the seed's order.

    `n_train` is the number of training rows that validation counted; where `n` is larger, every row is used
    before any is used again. Memory holds the `n` rows only, and reading ends with the last one of them.

    Raises:
        DatasetChanged: the file has fewer training rows than `n_train`.
    """
    places: dict[int, list[int]] = {}
    for place, index in enumerate(_drawn(n, n_train, seed)):
        places.setdefault(index, []).append(place)
    chosen: dict[int, Example] = {}
    n_seen = 0
    for example in read_examples(file, file_format):
        if is_held_out(input_hash(example)):
            continue
        for place in places.pop(n_seen, ()):
            chosen[place] = example
        n_seen += 1
        if not places:
            break
    if places:
        raise DatasetChanged(n_expected=n_train, n_found=n_seen)
    return [chosen[place] for place in range(n)]


def _drawn(n: int, n_train: int, seed: int) -> list[int]:
    """`n` indices below `n_train`: whole shuffles first, then a sample."""
    generator = random.Random(seed)  # noqa: S311 (a reproducible draw, no secret)
    drawn: list[int] = []
    while n_train and len(drawn) < n:
        drawn += generator.sample(range(n_train), min(n_train, n - len(drawn)))
    if len(drawn) < n:
        raise DatasetChanged(n_expected=n, n_found=0)
    return drawn


def select_held_out(file: BinaryIO, file_format: str, *, n: int) -> list[Example]:
    """The `n` different held-out inputs with the smallest hashes: always the same ones."""
    heap: list[int] = []
    kept: dict[int, Example] = {}
    for example in read_examples(file, file_format):
        hashed = input_hash(example)
        if not is_held_out(hashed) or hashed in kept:
            continue
        if len(heap) == n and -hashed <= heap[0]:
            continue
        kept[hashed] = example
        if len(heap) < n:
            heapq.heappush(heap, -hashed)
        else:
            del kept[-heapq.heapreplace(heap, -hashed)]
    return [kept[hashed] for hashed in sorted(kept)]
