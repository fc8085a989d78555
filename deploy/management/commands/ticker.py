"""`manage.py ticker`: opens scheduled rounds when they are due, sets going again what was lost, forgets what is old."""

import os
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import structlog
from django.conf import settings
from django.contrib.sessions.backends.db import SessionStore
from django.core.management.base import BaseCommand
from django.db import Error as DatabaseFailed
from django.db import close_old_connections
from django.utils import timezone

from federation.services import reconciling, schedules, webhooks
from tenants import scoping
from tenants.errors import PreludeError
from tenants.services import idempotency

TICK_SECONDS: Final = 1.0
PURGE_SECONDS: Final = 10.0
SESSIONS_SECONDS: Final = 3_600.0
LONGEST_PAUSE_SECONDS: Final = 30.0

_log = structlog.get_logger(__name__)


@dataclass
class Duty:
    """Something to do again and again; after a failure with growing pauses."""

    name: str
    work: Callable[[], object]
    every_seconds: float
    due_at: float = 0.0
    n_failures: int = 0

    def perform(self, now: float) -> None:
        """Do it. An outage is logged and waited out: what is due stays due.

        (One of the broker is met after the commit, where `tenants.dispatch` logs it and leaves it to a later tick.)
        """
        try:
            close_old_connections()
            self.work()
        except (DatabaseFailed, PreludeError):
            self.n_failures += 1
            pause = min(LONGEST_PAUSE_SECONDS, self.every_seconds * 2**self.n_failures)
            _log.exception("duty_failed", duty=self.name, n_failures=self.n_failures, pause_seconds=pause)
        else:
            self.n_failures, pause = 0, self.every_seconds
        self.due_at = now + pause


class Command(BaseCommand):
    """Any number may run at once: rows are taken under locks, and each due time opens one round at most."""

    help = "Opens scheduled rounds, sends again what was lost, forgets old answers, until SIGTERM or SIGINT."

    def handle(self, *_: object, **__: Any) -> None:
        """Tick until a signal comes."""
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, _end)
        in_platform = scoping.platform()  # as a decorator: entered anew with each call
        duties = [
            Duty("open_due_rounds", lambda: schedules.open_due_rounds(now=timezone.now()), TICK_SECONDS),
            Duty("reconcile", reconciling.reconcile, settings.RECONCILE_SECONDS),
            Duty("purge_idempotency", in_platform(idempotency.purge_expired), PURGE_SECONDS),
            Duty("purge_webhook_deliveries", in_platform(webhooks.purge_old_deliveries), PURGE_SECONDS),
            Duty("purge_sessions", in_platform(SessionStore.clear_expired), SESSIONS_SECONDS),
        ]
        _log.info("ticker_started")
        while True:
            now = time.monotonic()
            for duty in duties:
                if now >= duty.due_at:
                    duty.perform(now)
            time.sleep(max(0.0, min(duty.due_at for duty in duties) - time.monotonic()))


def _end(number: int, _: object) -> None:
    """End at once, wherever the process is: what it had not committed is rolled back and found again."""
    _log.info("ticker_stopped", signal=signal.Signals(number).name)
    os._exit(0)  # a SystemExit raised within a call of the database's driver may never come out of it
