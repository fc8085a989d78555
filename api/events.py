"""Events: what happened in rounds, as one stream that can be followed from any place in it."""

from typing import Any

from django.db.models import QuerySet
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from api.fields import Body, Facts, PublicIdField
from api.pagination import InOrder, cursor_after
from api.rounds import RoundView
from api.schema import paged
from api.views import ApiView
from federation.models import FederatedRound, Federation, RoundEvent
from federation.selectors import visibility
from federation.services.events import number_new_events
from tenants.models import Tenant


class EventFilter(Body):
    """Which events."""

    federation = serializers.CharField(required=False, max_length=64)
    kind = serializers.CharField(required=False, max_length=64, help_text="Such as round.published.")
    since = serializers.DateTimeField(required=False, help_text="At this time or later.")


class RoundEventSerializer(serializers.Serializer[RoundEvent]):
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


class Events(ApiView):
    """`/events`."""

    @paged("list_events", tag="events", rows=RoundEventSerializer, filters=EventFilter)
    def get(self, _: Request) -> Response:
        """List what happened in all rounds, the oldest first. Go on after the last event's cursor: none is missed."""
        number_new_events()
        return self.page(_chosen(self.filters(EventFilter)), RoundEventSerializer, paginator=InOrder)


class RoundEvents(RoundView):
    """`/rounds/{id}/events`."""

    @paged("list_round_events", tag="events", rows=RoundEventSerializer)
    def get(self, _: Request) -> Response:
        """List what happened, the oldest first; a tenant sees the round's own events and those about itself."""
        number_new_events()
        events = visibility.events().filter(federated_round=self.federated_round)
        return self.page(events, RoundEventSerializer, paginator=InOrder)


def _chosen(asked: dict[str, Any]) -> QuerySet[RoundEvent]:
    """Raises NotFound for a federation that the caller does not see."""
    events = visibility.events()
    if "federation" in asked:
        federation = Federation.pick(visibility.federations(), asked["federation"])
        events = events.filter(federated_round__federation=federation)
    wanted = {"kind": "kind", "since": "happened_at__gte"}
    return events.filter(**{wanted[name]: value for name, value in asked.items() if name in wanted})
