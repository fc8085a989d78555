"""The same thing in many threads at once."""

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from django.db import connection

T = TypeVar("T")


def at_once(n_racers: int, run: Callable[[], T]) -> list[T]:
    """What `run` returns in as many threads that start together, each with a database connection of its own."""
    barrier = threading.Barrier(n_racers)

    def race(_: int) -> T:
        barrier.wait()
        try:
            return run()
        finally:
            connection.close()

    with ThreadPoolExecutor(n_racers) as racers:
        return list(racers.map(race, range(n_racers)))
