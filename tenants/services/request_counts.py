"""How many requests tenants make: counted in the web process, and added to their days within a second.

A process that ends in order adds what is left. One that is killed loses at most what it counted within that second.
"""

import atexit
import os
import threading
import time
from collections import Counter
from uuid import UUID

import structlog
from django.db import DatabaseError, close_old_connections

from tenants import scoping
from tenants.services import usage
from tenants.services.usage import Amount

WRITTEN_EVERY_SECONDS = 1.0

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
        self._has_counted = threading.Event()
        self._has_begun = False

    def count(self, tenant_id: UUID) -> None:
        """One request more."""
        with self._lock:
            self._counted[tenant_id] += 1
            self._has_counted.set()
            if not self._has_begun:
                self._has_begun = True
                self._begin()

    def write(self) -> None:
        """Add what was counted to the tenants' days. What cannot be written now is kept for the next time."""
        with self._writing:  # at the process's end too: it waits for what the thread is about to write
            with self._lock:
                counted, self._counted = self._counted, Counter()
                self._has_counted.clear()
            try:
                self._add(counted)
            except DatabaseError:
                _log.exception("requests_not_written", n_requests=counted.total())
                with self._lock:
                    self._counted.update(counted)
                    self._has_counted.set()

    def _add(self, counted: Counter[UUID]) -> None:
        if counted:
            with scoping.platform():
                usage.add({tenant_id: Amount(n_requests=n) for tenant_id, n in counted.items()})

    def _begin(self) -> None:
        threading.Thread(target=self._write_forever, name="request-counts", daemon=True).start()
        atexit.register(self.write)

    def _write_forever(self) -> None:
        while self._has_counted.wait():
            time.sleep(WRITTEN_EVERY_SECONDS)
            close_old_connections()
            self.write()


REQUESTS = RequestCounts()
