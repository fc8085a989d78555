"""Requests a minute and tenant, counted in Valkey over a sliding window that all web processes share.

Two counters a tenant: this window's, and the last one's, which weighs less the longer ago it ended. So memory does not
grow with the limit, and the clock is Valkey's. Requests that are refused do not count. A busy tenant's are counted some
at a time (`request_leases`). While Valkey is away every request is let through: availability goes before limits.
"""

import math
import time
from functools import cache
from uuid import UUID

import structlog
from django.conf import settings
from redis import Redis, RedisError
from redis.backoff import NoBackoff
from redis.commands.core import Script
from redis.retry import Retry

from tenants.models import Tenant
from tenants.services import request_windows
from tenants.services.request_leases import Leases
from tenants.services.request_windows import Rate, Window

PATIENCE_SECONDS = 0.1
TOLD_EVERY_SECONDS = 60

# A counter lives for two windows from its first request on: in the first it is this window's, in the second the last
# one's. What was counted ahead and not used is taken off, of what is wanted as many are counted as fit, and the
# counters are told, in one round trip. Who wants several gets no more than a quarter of what is left: others come too.
_COUNT = """
local before, now = KEYS[1], KEYS[2]
local limit, window, wanted, unused = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4])
local now_left = redis.call('pttl', now)
if now_left >= 0 and now_left < window then
    redis.call('rename', now, before)
    redis.call('set', now, 0, 'PX', now_left + window)
end
local n_before, n_now = tonumber(redis.call('get', before) or 0), tonumber(redis.call('get', now) or 0)
unused = math.min(unused, n_now)
if unused > 0 then
    n_now = redis.call('decrby', now, unused)
end
local before_left = math.max(redis.call('pttl', before), 0)
local left = limit - math.floor(n_before * before_left / window) - n_now
local n_granted = math.max(0, math.min(wanted, left, math.max(1, math.floor(left / 4))))
if n_granted > 0 then
    if redis.call('exists', now) == 0 then
        redis.call('set', now, 0, 'PX', 2 * window)
    end
    n_now = redis.call('incrby', now, n_granted)
end
return {n_granted, n_before, before_left, n_now, math.max(redis.call('pttl', now), 0)}
"""

_log = structlog.get_logger(__name__)


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
LEASES = Leases()


def hit(tenant: Tenant) -> Rate | None:
    """Count a request, if it fits. None where the tenant has no limit, or nothing can be counted."""
    limit = tenant.limits.requests_per_minute
    if limit is None:
        return None
    rate = LEASES.spend(tenant.pk, limit=limit)
    if rate is not None:
        return rate
    asked_at, (n_unused, n_wanted) = LEASES.clock(), LEASES.end(tenant.pk)
    try:
        n_granted, told = _count(tenant.pk, limit=limit, n_wanted=n_wanted, n_unused=n_unused)
    except RedisError as error:
        _OUTAGE.tell(error)
        return None
    if not n_granted:
        return Rate(limit, told, is_admitted=False)
    return LEASES.begin(tenant.pk, limit=limit, told=told, n_taken=n_granted, asked_at=asked_at)


def n_used(tenant: Tenant) -> int | None:
    """Requests of the last minute, as far as they were limited, and those that processes hold ahead for a second.

    None when Valkey does not tell.
    """
    try:
        return _count(tenant.pk, limit=0, n_wanted=0, n_unused=0)[1].used
    except RedisError as error:
        _OUTAGE.tell(error)
        return None


def _count(tenant_id: UUID, *, limit: int, n_wanted: int, n_unused: int) -> tuple[int, Window]:
    """How many of those that are wanted fit and were counted, and the counters after that."""
    name = f"prelude:requests:{{{tenant_id}}}"  # braces: both counters in one slot of a cluster
    counters = [f"{name}:before", f"{name}:now"]
    asked = [limit, request_windows.WINDOW_SECONDS * 1_000, n_wanted, n_unused]
    n_granted, n_before, before_ms, n_now, now_ms = _script()(counters, asked)
    return n_granted, Window(n_before, before_ms / 1_000, n_now, now_ms / 1_000)


@cache
def _script() -> Script:
    client = Redis.from_url(
        settings.BROKER_URL.get_secret_value(),
        socket_timeout=PATIENCE_SECONDS,
        socket_connect_timeout=PATIENCE_SECONDS,
        retry=Retry(NoBackoff(), 0),
    )
    return client.register_script(_COUNT)
