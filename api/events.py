"""Events: what happened in rounds, as one stream that can be followed from any place in it."""

from functools import partial
from typing import Any, Final

from django.conf import settings
from django.db.models import QuerySet
from django.http import StreamingHttpResponse
from django.http.response import HttpResponseBase
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from api.event_stream import EventStream, framed
from api.fields import Body, Facts, PublicIdField
from api.pagination import InOrder, cursor_after, place_of
from api.rounds import RoundView
from api.rows import RowSerializer
from api.schema import ProblemSerializer, paged
from api.views import ApiView
from federation.models import FederatedRound, Federation, RoundEvent
from federation.selectors import visibility
from federation.services.events import number_new_events, number_up_to_now
from tenants.errors import PreludeError
from tenants.lookups import pick
from tenants.models import Tenant
from tenants.rights import Resource

EVENTS_AT_ONCE: Final = 200


class EventFilter(Body):
    """Which events."""

    federation = serializers.CharField(required=False, max_length=64)
    round = serializers.CharField(required=False, max_length=64)
    kind = serializers.CharField(required=False, max_length=64, help_text="Such as round.published.")
    since = serializers.DateTimeField(required=False, help_text="At this time or later.")


class LiveEventFilter(EventFilter):
    """Which events, and from where on."""

    cursor = serializers.CharField(
        required=False, max_length=64, help_text="Of an event, to go on after it; none: from now on."
    )


class RoundEventSerializer(RowSerializer[RoundEvent]):
    """Something that happened in a round."""

    id = serializers.IntegerField()
    cursor = serializers.SerializerMethodField(help_text="Of the page that goes on after this event.")
    kind = serializers.CharField(help_text="Such as round.training or local_run.accepted.")
    federation = PublicIdField(Federation, source="federated_round.federation_id")
    round = PublicIdField(FederatedRound, source="federated_round_id")
    tenant = PublicIdField(Tenant, source="tenant_id", allow_null=True)
    message = serializers.CharField()
    facts = Facts(source="data")
    happened_at = serializers.DateTimeField()

    def get_cursor(self, row: RoundEvent) -> str:
        """Of the event's own place."""
        assert row.number is not None  # the selector finds numbered ones
        return cursor_after(row.number)


class NearestInOrder(InOrder):
    """Pages of the stream of which a tenant sees little."""

    def paginate_queryset(  # type: ignore[override]  # as the base's
        self, queryset: QuerySet[RoundEvent], request: Request, view: APIView | None = None
    ) -> list[RoundEvent]:
        """The page that the request asks for. Raises as the base's does."""
        self._key = RoundEvent._meta.get_field(self.ordering)
        cursor, n_most = self.decode_cursor(request), self.get_page_size(request) + 1
        backwards = cursor is not None and cursor.reverse
        near = queryset
        if cursor is not None:
            near = queryset.filter(**{"number__lt" if backwards else "number__gt": cursor.position})
        near = visibility.nearest_events(near, n_most=n_most, backwards=backwards)
        return super().paginate_queryset(near, request, view)


class Events(ApiView):
    """`/events`."""

    resource = Resource.ROUNDS

    @paged("list_events", tag="events", rows=RoundEventSerializer, filters=EventFilter)
    def get(self, _: Request) -> Response:
        """List what happened in all rounds, the oldest first. Go on after the last event's cursor: none is missed."""
        # A page is found by several statements: what got its place between two of them would be passed over.
        until_now = _chosen(self.filters(EventFilter)).filter(number__lte=number_up_to_now())
        return self.page(until_now, RoundEventSerializer, paginator=NearestInOrder)


class LiveEvents(ApiView):
    """`/events/stream`. The answer is written when the view has returned: each look enters a scope of its own."""

    resource = Resource.ROUNDS
    holds_transaction = False
    http_method_names = ["get"]  # the answer to a HEAD would last as long

    @extend_schema(
        operation_id="stream_events",
        tags=["events"],
        parameters=[
            LiveEventFilter,
            OpenApiParameter(
                "Last-Event-ID", location="header", description="As `cursor`, which it precedes."
            ),
        ],
        responses={
            (200, "text/event-stream"): OpenApiTypes.STR,
            (429, "application/problem+json"): ProblemSerializer,
        },
    )
    def get(self, request: Request) -> HttpResponseBase:
        """Follow what happens, as server-sent events: a cursor as `id`, the kind as `event`, the event as `data`.

        The stream ends after some minutes; connect again with `Last-Event-ID`, as browsers do. A revoked key ends it
        within seconds.
        """
        asked = self.filters(EventFilter)
        cursor = request.headers.get("Last-Event-ID") or self.request.query_params.get("cursor")
        self._number = None if cursor is None else place_of(cursor)
        with self.scope():
            _chosen(asked)  # what is asked for has to be there
        if self._number is None:
            self._number = number_up_to_now()
        tenant = self.principal.tenant
        stream = EventStream(
            partial(self._look, asked),
            seconds=settings.EVENT_STREAM_SECONDS,
            tenant_id=tenant.pk if tenant else None,
        )
        return StreamingHttpResponse(
            stream,
            content_type="text/event-stream",
            headers={"Cache-Control": "no-store", "X-Accel-Buffering": "no"},
        )

    def _look(self, asked: dict[str, Any]) -> str | None:
        if not self.may_go_on():
            return None
        last = number_up_to_now()
        try:
            with self.scope():
                following = _chosen(asked).filter(number__gt=self._number, number__lte=last)
                events = list(following.order_by("number")[:EVENTS_AT_ONCE])
        except PreludeError:
            return None  # what is asked for is no longer the caller's
        # Also where nothing was the caller's: the next look reads only what came since.
        self._number = events[-1].number if len(events) == EVENTS_AT_ONCE else last
        return "".join(framed(dict(RoundEventSerializer(event).data)) for event in events)


class RoundEvents(RoundView):
    """`/rounds/{id}/events`."""

    resource = Resource.ROUNDS

    @paged("list_round_events", tag="events", rows=RoundEventSerializer)
    def get(self, _: Request) -> Response:
        """List what happened, the oldest first; a tenant sees the round's own events and those about itself."""
        number_new_events()
        events = visibility.events().filter(federated_round=self.federated_round)
        return self.page(events, RoundEventSerializer, paginator=InOrder)


def _chosen(asked: dict[str, Any]) -> QuerySet[RoundEvent]:
    """Raises NotFound for a federation or a round that the caller does not see."""
    events = visibility.events()
    if "federation" in asked:
        federation = pick(visibility.federations, asked["federation"])
        events = events.filter(federated_round__federation=federation)
    if "round" in asked:
        events = events.filter(federated_round=pick(visibility.rounds, asked["round"]))
    wanted = {"kind": "kind", "since": "happened_at__gte"}
    return events.filter(**{wanted[name]: value for name, value in asked.items() if name in wanted})
