"""The stream of events for the console's pages: what the API streams to keys, to whoever is signed in to a browser.

A page asks for the rounds that it shows, and renews its part of them at each message.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from typing import Final

from django.conf import settings
from django.contrib.auth import get_user
from django.core.exceptions import PermissionDenied
from django.db.models import Max, QuerySet
from django.http import Http404, HttpRequest, StreamingHttpResponse

from api.event_stream import EventStream
from api.pagination import cursor_after, place_of
from api.refusals import CursorInvalid, TooManyStreams
from deploy import console_scope
from federation.models import Campaign, FederatedRound, Federation, RoundEvent
from federation.selectors import visibility
from federation.selectors.progress import last_sign
from federation.services.events import number_new_events
from tenants.admin.signing_in import sessions
from tenants.errors import NotFound

# Each stream holds a thread of the server. They are the API's places too: a page's lasts so short that pages take
# turns, and a page that gets no place is told what there is, and to come again so much later with its last cursor.
STREAM_SECONDS: Final = 30.0
POLL_MILLISECONDS: Final = 5_000
_EVENTS_AT_ONCE: Final = 200
_SESSIONS: Final = import_module(settings.SESSION_ENGINE)


def follow(request: HttpRequest, public_id: str) -> StreamingHttpResponse:
    """Follow a round, a campaign or a federation: a message for new events, and for each sign of work under way.

    Raises PermissionDenied, and Http404 for what this person does not see.
    """
    following = _Following(request, public_id)
    try:
        following.start()
    except NotFound:
        raise Http404 from None
    try:
        content: EventStream | list[str] = EventStream(following.look, seconds=STREAM_SECONDS)
    except TooManyStreams:
        content = [f"retry: {POLL_MILLISECONDS}\n\n", following.look() or ""]
    return StreamingHttpResponse(
        content,
        content_type="text/event-stream",
        headers={"Cache-Control": "no-store", "X-Accel-Buffering": "no"},
    )


class _Following:
    """A place in the stream of the rounds that a page shows."""

    def __init__(self, request: HttpRequest, public_id: str) -> None:
        self._request = request
        self._public_id = public_id
        self._number = _last_seen(request)
        self._sign: object = None

    def start(self) -> None:
        """Without a cursor: from now on. Raises NotFound and PermissionDenied."""
        events = self._events()
        if self._number is None:
            number_new_events()
            self._number = events.aggregate(last=Max("number"))["last"] or 0

    def look(self) -> str | None:
        """What has come since the last look; at the first one there is always a sign. None: the session has ended."""
        try:
            with _session_of(self._request):
                number_new_events()
                found = self._events().filter(number__gt=self._number).order_by("number")
                news = list(found.values_list("number", "kind")[:_EVENTS_AT_ONCE])
                sign = last_sign(self._rounds())
        except (NotFound, PermissionDenied):
            return None
        if news:
            last, _ = news[-1]
            assert last is not None  # the selector finds numbered ones
            self._number, self._sign = last, sign
            return f"id: {cursor_after(last)}\ndata: {' '.join(kind for _, kind in news)}\n\n"
        if sign != self._sign:
            self._sign = sign
            return "data: progress\n\n"
        return ""

    def _events(self) -> QuerySet[RoundEvent]:
        return visibility.events().filter(federated_round__in=self._rounds())

    def _rounds(self) -> QuerySet[FederatedRound]:
        if not self._request.user.has_perm("federation.view_federatedround"):
            raise PermissionDenied
        rounds, public_id = visibility.rounds().select_related(None), self._public_id
        match public_id.partition("_")[0]:
            case Campaign.id_prefix:
                return rounds.filter(campaign=Campaign.pick(visibility.campaigns(), public_id))
            case Federation.id_prefix:
                return rounds.filter(federation=Federation.pick(visibility.federations(), public_id))
            case _:
                return rounds.filter(pk=FederatedRound.pick(rounds, public_id).pk)


def _last_seen(request: HttpRequest) -> int | None:
    """The place after which a browser that connects again goes on."""
    try:
        return place_of(request.headers.get("Last-Event-ID", ""))
    except CursorInvalid:
        return None


@contextmanager
def _session_of(request: HttpRequest) -> Iterator[None]:
    """The scope of the session as it is now, entered when the request itself is over. Raises PermissionDenied.

    Everything is read anew: who has signed out, whose account or membership has ended, listens no longer.
    """
    request.session = _SESSIONS.SessionStore(request.session.session_key)
    request.user = person = get_user(request)
    if not person.is_active or sessions.has_ended(request.session):
        raise PermissionDenied
    with console_scope.entered(request) as is_open:
        if not is_open:
            raise PermissionDenied
        yield
