"""Requests a minute and tenant, counted in Valkey over a sliding window that all web processes share.

Two counters a tenant: this window's, and the last one's, which weighs less the longer ago it ended. So memory does not
grow with the limit, and the clock is Valkey's. Requests that are refused do not count. While Valkey is away every
request is let through: availability goes before limits.
"""

import math
import time
from dataclasses import dataclass
from functools import cache

import structlog
from django.conf import settings
from limits.errors import StorageError
from limits.storage import RedisStorage
from redis.backoff import NoBackoff
from redis.retry import Retry

from tenants.errors import RateLimited
from tenants.models import Tenant

WINDOW_SECONDS = 60
PATIENCE_SECONDS = 0.1
TOLD_EVERY_SECONDS = 60
_PREFIX = "prelude:requests"

_log = structlog.get_logger(__name__)


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


class _Told:
    """When the log was last told that Valkey is away: once a minute is enough."""

    def __init__(self) -> None:
        self._at = -math.inf

    def tell(self, error: Exception) -> None:
        """Log it, unless it was told lately."""
        if time.monotonic() - self._at >= TOLD_EVERY_SECONDS:
            self._at = time.monotonic()
            _log.warning("requests_not_counted", error=str(error))


_OUTAGE = _Told()


def hit(tenant: Tenant) -> Rate | None:
    """Count a request, if it fits. None where the tenant has no limit, or nothing can be counted."""
    limit, key = tenant.limits.requests_per_minute, str(tenant.pk)
    if limit is None:
        return None
    try:
        is_admitted = _storage().acquire_sliding_window_entry(key, limit, WINDOW_SECONDS)
        return Rate(limit, _window(key), is_admitted)
    except StorageError as error:
        _OUTAGE.tell(error)
        return None


def n_used(tenant: Tenant) -> int | None:
    """Requests of the last minute, as far as they were limited. None when Valkey does not tell."""
    try:
        return _window(str(tenant.pk)).used
    except StorageError as error:
        _OUTAGE.tell(error)
        return None


def _window(key: str) -> Window:
    return Window(*_storage().get_sliding_window(key, WINDOW_SECONDS))


@cache
def _storage() -> RedisStorage:
    return RedisStorage(
        settings.BROKER_URL.get_secret_value(),
        key_prefix=_PREFIX,
        wrap_exceptions=True,
        socket_timeout=PATIENCE_SECONDS,
        socket_connect_timeout=PATIENCE_SECONDS,
        retry=Retry(NoBackoff(), 0),  # type: ignore[arg-type]  # passed on to the client
    )
