"""What the database told of API keys a moment ago, so that a process does not ask with each request.

Only keys that opened something are kept. What changes elsewhere (a revocation, a role, a limit) is known here within
`REMEMBERED_SECONDS`, counted from before the database was asked.
"""

import time
from collections.abc import Callable
from typing import Any, Final
from uuid import UUID

REMEMBERED_SECONDS: Final = 0.9
MOST_KEYS: Final = 4_096

Values = tuple[Any, ...]


class OpenKeys:
    """The values of keys that were open lately. Any thread may ask: each step is one of a dict's own."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self.clock = clock
        self._found: dict[UUID, tuple[float, Values]] = {}

    def recall(self, key_id: UUID) -> Values | None:
        """What was kept of the key, if that is not too long ago."""
        asked_at, values = self._found.get(key_id, (None, ()))
        if asked_at is None or self.clock() - asked_at >= REMEMBERED_SECONDS:
            return None
        return values

    def keep(self, key_id: UUID, values: Values, *, asked_at: float) -> None:
        """Remember what the database told, having been asked at that time of the clock."""
        if len(self._found) >= MOST_KEYS:
            self._found.clear()  # they are asked for anew, which happens each second anyway
        self._found[key_id] = (asked_at, values)


OPEN_KEYS = OpenKeys()
