"""Events as they happen: server-sent events (WHATWG HTML, 9.2) over a connection that stays open for some minutes."""

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from typing import ClassVar, Final

from django.conf import settings
from rest_framework.renderers import JSONRenderer

from api.refusals import TooManyStreams

# Looked for, not waited for. NOTIFY in the transaction of each event takes one lock of the whole server until it has
# committed, so that all who write in rounds would wait for one another, and no LISTEN comes through a pooler in
# transaction mode. A look is one short transaction, in which the caller's key is checked again.
LOOK_EVERY_SECONDS: Final = 1.0
# A comment at each look that has nothing to tell. Who has gone is met by writing alone, and by the second write: a page
# that is loaded anew would hold its old place for that long. Proxies close what is silent, too.
BEAT: Final = ":\n\n"
RETRY_MILLISECONDS: Final = 1_000

Event = dict[str, object]


class EventStream:
    """An answer's body that goes on as events happen, in one of the few places that this process has for such.

    `look` returns what is to be sent since the last look, or None when the caller may no longer listen. Each stream
    holds a thread of the server for as long as it lasts: their number is bounded, and it ends after `seconds`, so that
    clients spread anew. A tenant gets half of them at most, so that it leaves some to others. Raises TooManyStreams.
    """

    places = threading.BoundedSemaphore(settings.MAX_EVENT_STREAMS)
    _n_of_tenant: ClassVar[Counter[object]] = Counter()
    _counting: ClassVar = threading.Lock()

    def __init__(
        self, look: Callable[[], str | None], *, seconds: float, tenant_id: object | None = None
    ) -> None:
        with self._counting:
            share = max(1, settings.MAX_EVENT_STREAMS // 2)
            if tenant_id is not None and self._n_of_tenant[tenant_id] >= share:
                raise TooManyStreams(limit=share)
            if not self.places.acquire(blocking=False):
                raise TooManyStreams(limit=settings.MAX_EVENT_STREAMS)
            self._n_of_tenant[tenant_id] += 1
        self._tenant_id = tenant_id
        self._look = look
        self._seconds = seconds
        self._is_open = True

    def __iter__(self) -> Iterator[str]:
        """What is sent, until the time is over or the caller may no longer listen."""
        started = time.monotonic()
        yield f"retry: {RETRY_MILLISECONDS}\n\n"
        while (text := self._look()) is not None:
            yield text or BEAT
            if time.monotonic() - started >= self._seconds:
                return
            time.sleep(LOOK_EVERY_SECONDS)

    def close(self) -> None:
        """Give the place back. The server calls it however the answer ends, also before it began."""
        with self._counting:
            if self._is_open:
                self._is_open = False
                self._n_of_tenant.subtract([self._tenant_id])
                if not self._n_of_tenant[self._tenant_id]:
                    del self._n_of_tenant[self._tenant_id]
                self.places.release()


def framed(event: Event) -> str:
    """An event as it is sent: its cursor is the id, its kind the name."""
    data = JSONRenderer().render(event).decode()  # one line: JSON escapes breaks within texts
    return f"id: {event['cursor']}\nevent: {event['kind']}\ndata: {data}\n\n"
