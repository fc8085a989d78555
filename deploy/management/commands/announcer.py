"""`manage.py announcer`: tells webhooks what happened, until SIGTERM or SIGINT."""

import os
import signal
import time
from typing import Any, Final

import structlog
from django.core.management.base import BaseCommand
from django.db import Error as DatabaseFailed
from django.db import close_old_connections

from federation.services import announcing

# Events are looked for, not waited for: a receiver cannot tell a second from its own network's delays, and what is due
# again after a failure has to be looked for anyway.
LOOK_EVERY_SECONDS: Final = 1.0
PAUSE_SECONDS: Final = 5.0

_log = structlog.get_logger(__name__)


class Command(BaseCommand):
    """A process of its own: receivers may be slow. Any number may run at once: messages are taken under leases."""

    help = "Writes messages for webhooks and delivers them, until SIGTERM or SIGINT."

    def handle(self, *_: object, **__: Any) -> None:
        """Announce until a signal comes."""
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, _end)
        _log.info("announcer_started")
        on_their_way: announcing.OnTheirWay = {}
        while True:
            time.sleep(_pause(on_their_way))


def _pause(on_their_way: announcing.OnTheirWay) -> float:
    """Announce what there is, and say for how long to rest. An outage of the database is logged and waited out."""
    try:
        close_old_connections()
        return 0.0 if announcing.announce(on_their_way) else LOOK_EVERY_SECONDS
    except DatabaseFailed:
        _log.exception("announcing_failed", pause_seconds=PAUSE_SECONDS)
        return PAUSE_SECONDS


def _end(number: int, _: object) -> None:
    """End at once: what was sent and not recorded is sent again, under the same id.

    An exception would not do: raised within a query it comes out as an error of the database, which is waited out.
    """
    _log.info("announcer_stopped", signal=signal.Signals(number).name)
    os._exit(0)
