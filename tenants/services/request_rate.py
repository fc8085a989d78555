"""Requests a minute and tenant, counted in Valkey over a sliding window that all web processes share.

Two counters a tenant: this window's, and the last one's, which weighs less the longer ago it ended. So memory does not
grow with the limit, and the clock is Valkey's. Requests that are refused do not count. While Valkey is away every
request is let through: availability goes before limits.
"""

import math
import time
from dataclasses import dataclass
from functools import cache
from uuid import UUID

import structlog
from django.conf import settings
from redis import Redis, RedisError
from redis.backoff import NoBackoff
from redis.commands.core import Script
from redis.retry import Retry

from tenants.errors import RateLimited
from tenants.models import Tenant

WINDOW_SECONDS = 60
PATIENCE_SECONDS = 0.1
TOLD_EVERY_SECONDS = 60

# A counter lives for two windows from its first request on: in the first it is this window's, in the second the last
# one's. What fits is added, and the counters are told, in one round trip.
_COUNT = """
local before, now = KEYS[1], KEYS[2]
local limit, window, amount = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])
local now_left = redis.call('pttl', now)
if now_left >= 0 and now_left < window then
    redis.call('rename', now, before)
    redis.call('set', now, 0, 'PX', now_left + window)
end
local n_before, n_now = tonumber(redis.call('get', before) or 0), tonumber(redis.call('get', now) or 0)
local before_left = math.max(redis.call('pttl', before), 0)
local used = math.floor(n_before * before_left / window) + n_now
local is_admitted = used + amount <= limit
if is_admitted and amount > 0 then
    if redis.call('exists', now) == 0 then
        redis.call('set', now, 0, 'PX', 2 * window)
    end
    n_now = redis.call('incrby', now, amount)
end
return {is_admitted and 1 or 0, n_before, before_left, n_now, math.max(redis.call('pttl', now), 0)}
"""

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
    limit = tenant.limits.requests_per_minute
    if limit is None:
        return None
    try:
        return _count(tenant.pk, limit=limit, n_requests=1)
    except RedisError as error:
        _OUTAGE.tell(error)
        return None


def n_used(tenant: Tenant) -> int | None:
    """Requests of the last minute, as far as they were limited. None when Valkey does not tell."""
    try:
        return _count(tenant.pk, limit=0, n_requests=0).window.used
    except RedisError as error:
        _OUTAGE.tell(error)
        return None


def _count(tenant_id: UUID, *, limit: int, n_requests: int) -> Rate:
    name = f"prelude:requests:{{{tenant_id}}}"  # braces: both counters in one slot of a cluster
    counters, asked = [f"{name}:before", f"{name}:now"], [limit, WINDOW_SECONDS * 1_000, n_requests]
    is_admitted, n_before, before_ms, n_now, now_ms = _script()(counters, asked)
    return Rate(limit, Window(n_before, before_ms / 1_000, n_now, now_ms / 1_000), bool(is_admitted))


@cache
def _script() -> Script:
    client = Redis.from_url(
        settings.BROKER_URL.get_secret_value(),
        socket_timeout=PATIENCE_SECONDS,
        socket_connect_timeout=PATIENCE_SECONDS,
        retry=Retry(NoBackoff(), 0),
    )
    return client.register_script(_COUNT)
