"""Requests that a process has had counted ahead, so that it need not ask Valkey for each one of a busy tenant.

They are counted as used from the moment they are taken, so that all processes together never let through more than the
limit. A lease grows while a tenant uses it up, and is one request for who asks seldom. What is left of it after
`LEASE_SECONDS` is given back with the next command, or forgotten, as if it had been used.
"""

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Final
from uuid import UUID

from tenants.services.request_windows import Rate, Window

LEASE_SECONDS: Final = 1.0
MOST_REQUESTS: Final = 64
MOST_TENANTS: Final = 4_096


@dataclass
class Lease:
    """What Valkey told when it counted `n_taken` requests, and how many of those have not come yet."""

    limit: int
    told: Window
    taken_at: float
    n_taken: int
    n_spare: int

    def rate(self, now: float) -> Rate:
        """Where the tenant stands: what has not come yet is left to it."""
        since = now - self.taken_at
        window = replace(
            self.told,
            n_now=self.told.n_now - self.n_spare,
            before_seconds=max(0.0, self.told.before_seconds - since),
            now_seconds=max(0.0, self.told.now_seconds - since),
        )
        return Rate(self.limit, window, is_admitted=True)


class Leases:
    """The leases of this process, by tenant."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self.clock = clock
        self._lock = threading.Lock()
        self._held: dict[UUID, Lease] = {}

    def spend(self, tenant_id: UUID, *, limit: int) -> Rate | None:
        """Let one request through that is counted already; None where Valkey has to be asked."""
        with self._lock:
            lease, now = self._held.get(tenant_id), self.clock()
            if lease is None or lease.limit != limit or not lease.n_spare or self._is_over(lease, now):
                return None
            lease.n_spare -= 1
            return lease.rate(now)

    def end(self, tenant_id: UUID) -> tuple[int, int]:
        """Let go of the tenant's lease: how many requests are given back, and how many to ask for."""
        with self._lock:
            lease, now = self._held.pop(tenant_id, None), self.clock()
        if lease is None:
            return 0, 1
        if lease.n_spare or self._is_over(lease, now):
            return lease.n_spare, max(1, lease.n_taken - lease.n_spare)
        return 0, min(2 * lease.n_taken, MOST_REQUESTS)

    def begin(self, tenant_id: UUID, *, limit: int, told: Window, n_taken: int, asked_at: float) -> Rate:
        """Hold what Valkey has just counted, one of it for the request that asked."""
        lease = Lease(limit=limit, told=told, taken_at=asked_at, n_taken=n_taken, n_spare=n_taken - 1)
        with self._lock:
            other = self._held.get(tenant_id)  # of a thread that asked at the same time
            if other is not None and other.limit == limit:
                lease.told = max(told, other.told, key=lambda one: one.n_now)
                lease.n_spare += other.n_spare
                lease.taken_at = min(lease.taken_at, other.taken_at)
            if len(self._held) >= MOST_TENANTS:
                self._held.clear()
            self._held[tenant_id] = lease
            return lease.rate(self.clock())

    def _is_over(self, lease: Lease, now: float) -> bool:
        return now - lease.taken_at >= LEASE_SECONDS
