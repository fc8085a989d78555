"""Where a tenant stands within the sliding window of its requests: arithmetic on what Valkey told."""

import math
from dataclasses import dataclass

from tenants.errors import RateLimited

WINDOW_SECONDS = 60


@dataclass(frozen=True)
class Window:
    """The counters: what was counted in the last window and in this one, and the seconds until each is forgotten."""

    n_before: int
    before_seconds: float
    n_now: int
    now_seconds: float

    @property
    def used(self) -> int:
        """Requests within the sliding window."""
        return math.floor(self.n_before * self.before_seconds / WINDOW_SECONDS) + self.n_now

    @property
    def reset_seconds(self) -> int:
        """Until nothing is used, if nothing more is asked for."""
        return math.ceil(self.now_seconds if self.n_now else self.before_seconds)

    def opens_in_seconds(self, limit: int) -> int:
        """Until one more request fits a window that is full."""
        if self.n_now < limit:
            opens_in = self.before_seconds - (limit - self.n_now) * WINDOW_SECONDS / max(self.n_before, 1)
        else:  # this window has to become the last one first, and a limit that was lowered to be undercut
            opens_in = self.now_seconds - WINDOW_SECONDS * min(1.0, limit / max(self.n_now, 1))
        return math.floor(max(opens_in, 0.0)) + 1


@dataclass(frozen=True)
class Rate:
    """Where a tenant stands after a request."""

    limit: int
    window: Window
    is_admitted: bool

    @property
    def n_left(self) -> int:
        """Requests that still fit."""
        return max(0, self.limit - self.window.used)

    def check(self) -> None:
        """Raises RateLimited when the request did not fit."""
        if not self.is_admitted:
            raise RateLimited(
                limit=self.limit,
                used=self.window.used,
                retry_after_seconds=self.window.opens_in_seconds(self.limit),
            )
