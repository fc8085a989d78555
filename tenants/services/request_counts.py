"""How many requests tenants make, and with which keys: kept in the web process, and written within a second.

A process that ends in order writes what is left. One that is killed loses at most what it counted within that second.
"""

import atexit
import os
import threading
import time
from collections import Counter
from collections.abc import Set
from datetime import timedelta
from typing import Final
from uuid import UUID

import structlog
from django.db import DatabaseError, close_old_connections
from django.db.models import Q
from django.db.models.functions import Now

from tenants import scoping
from tenants.models import ApiKey
from tenants.services import usage
from tenants.services.usage import Amount

WRITTEN_EVERY_SECONDS = 1.0
KEY_USE_EVERY: Final = timedelta(minutes=1)

_log = structlog.get_logger(__name__)


class RequestCounts:
    """A process's counts that are not written yet, and the thread that writes them; it begins with the first one."""

    def __init__(self) -> None:
        self._forget()
        # Only the forking thread lives on in a child, and what was counted before is the parent's to write.
        os.register_at_fork(after_in_child=self._forget)

    def _forget(self) -> None:
        self._lock = threading.Lock()
        self._writing = threading.Lock()
        self._counted: Counter[UUID] = Counter()
        self._used_keys: set[UUID] = set()
        self._has_counted = threading.Event()
        self._has_begun = False

    def count(self, tenant_id: UUID) -> None:
        """One request more."""
        with self._lock:
            self._counted[tenant_id] += 1
            self._wake()

    def note_use(self, key_id: UUID) -> None:
        """A key was used, and that was not on record of late."""
        with self._lock:
            self._used_keys.add(key_id)
            self._wake()

    def _wake(self) -> None:
        self._has_counted.set()
        if not self._has_begun:
            self._has_begun = True
            self._begin()

    def write(self) -> None:
        """Add the counts to the tenants' days, and note the keys. What cannot be written is kept for the next time."""
        with self._writing:  # at the process's end too: it waits for what the thread is about to write
            with self._lock:
                counted, self._counted = self._counted, Counter()
                used_keys, self._used_keys = self._used_keys, set()
                self._has_counted.clear()
            try:
                self._add(counted, used_keys)
            except DatabaseError:
                _log.exception("requests_not_written", n_requests=counted.total())
                with self._lock:
                    self._counted.update(counted)
                    self._used_keys |= used_keys
                    self._has_counted.set()

    def _add(self, counted: Counter[UUID], used_keys: Set[UUID]) -> None:
        if not counted and not used_keys:
            return
        with scoping.platform():
            if used_keys:
                _note_keys(used_keys)
            if counted:
                usage.add({tenant_id: Amount(n_requests=n) for tenant_id, n in counted.items()})

    def _begin(self) -> None:
        threading.Thread(target=self._write_forever, name="request-counts", daemon=True).start()
        atexit.register(self.write)

    def _write_forever(self) -> None:
        while self._has_counted.wait():
            time.sleep(WRITTEN_EVERY_SECONDS)
            close_old_connections()
            self.write()


def _note_keys(used_keys: Set[UUID]) -> None:
    """Each at most once a minute; what another process is noting is noted."""
    stale = Q(last_used_at=None) | Q(last_used_at__lt=Now() - KEY_USE_EVERY)
    found = ApiKey.objects.select_for_update(skip_locked=True, no_key=True).filter(stale, pk__in=used_keys)
    ApiKey.objects.filter(pk__in=list(found.values_list("pk", flat=True))).update(last_used_at=Now())


REQUESTS = RequestCounts()
