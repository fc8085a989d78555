"""Things in threads beside each other, each with a database connection of its own."""

import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

from django.db import connection

T = TypeVar("T")


def at_once(n_racers: int, run: Callable[[], T]) -> list[T]:
    """What `run` returns in as many threads that start together, each with a database connection of its own."""
    barrier = threading.Barrier(n_racers)

    def race(_: int) -> T:
        barrier.wait()
        return _closing(run)

    with ThreadPoolExecutor(n_racers) as racers:
        return list(racers.map(race, range(n_racers)))


def beside(run: Callable[[], T]) -> Future[T]:
    """`run` in a thread of its own, which has begun."""
    return ThreadPoolExecutor(1).submit(_closing, run)


def until_it_waits() -> None:
    """Until some connection to the database waits for a lock that another one holds."""
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        with connection.cursor() as cursor:
            cursor.execute("SELECT count(*) FROM pg_locks WHERE NOT granted")
            if cursor.fetchone()[0]:
                return
        time.sleep(0.01)
    raise AssertionError("nobody waits for a lock")


def _closing(run: Callable[[], T]) -> T:
    try:
        return run()
    finally:
        connection.close()
