"""A federation's schedule: when its rounds open by themselves."""

from datetime import datetime
from typing import Any, ClassVar

from django.utils import timezone
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from api.federations import FederationView
from api.fields import Body
from api.permissions import OperatorOnly
from api.preconditions import conditional
from api.rows import RowSerializer
from api.schema import operation
from federation.models import Schedule
from federation.selectors import visibility
from federation.services.schedules import MAX_MINUTES, next_times, remove_schedule, set_schedule
from tenants.rights import Resource


class NewScheduleSerializer(Body):
    """Either an interval, or a cron line with the time zone that it is read in."""

    every_minutes = serializers.IntegerField(
        min_value=1, max_value=MAX_MINUTES, allow_null=True, default=None
    )
    cron = serializers.CharField(
        max_length=200,
        allow_blank=True,
        default="",
        help_text="Minute, hour, day of month, month and day of week, such as `30 2 * * 1-5`.",
    )
    time_zone = serializers.CharField(max_length=64, default="UTC")
    is_paused = serializers.BooleanField(default=False, help_text="Its times pass without a round.")


class ScheduleSerializer(RowSerializer[Schedule]):
    """When rounds open by themselves."""

    every_minutes = serializers.IntegerField(allow_null=True)
    cron = serializers.CharField(help_text="Empty where there is an interval.")
    time_zone = serializers.CharField()
    is_paused = serializers.BooleanField()
    next_due_at = serializers.DateTimeField()
    next_times = serializers.SerializerMethodField(
        help_text="The next times at which a round opens; none while it is paused."
    )
    last_outcome = serializers.CharField(help_text="What came of the last due time.")

    def get_next_times(self, row: Schedule) -> list[datetime]:
        """In the rule's own words, the first being `next_due_at`."""
        return next_times(row)


class FederationSchedule(FederationView):
    """`/federations/{id}/schedule`."""

    resource = Resource.SCHEDULES
    only: ClassVar = {"GET": OperatorOnly, "PUT": OperatorOnly, "DELETE": OperatorOnly}

    def hold(self) -> None:
        """The federation's row, be there a schedule or not: whoever sets, removes or follows one locks that."""
        self.federation.lock()

    def representation(self) -> Any:
        """The schedule. Raises NotFound."""
        return ScheduleSerializer(visibility.schedule(federation=self.federation)).data

    @operation("read_schedule", tag="schedules", answer=ScheduleSerializer)
    @conditional
    def get(self, _: Request) -> Response:
        """Read the schedule."""
        return Response(self.representation())

    @operation("set_schedule", tag="schedules", body=NewScheduleSerializer, answer=ScheduleSerializer)
    @conditional
    def put(self, _: Request) -> Response:
        """Make or replace the schedule."""
        rule = self.body(NewScheduleSerializer)
        set_schedule(federation=self.federation, **rule, now=timezone.now())
        return Response(self.representation())

    @operation("remove_schedule", tag="schedules", status=204)
    @conditional
    def delete(self, _: Request) -> Response:
        """From now on rounds open by hand only; removing it again changes nothing."""
        remove_schedule(federation=self.federation)
        return Response(status=204)
