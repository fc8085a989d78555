"""Limits and usage of a tenant: it reads its own, operators read all and set limits."""

from typing import Any, ClassVar

from rest_framework import serializers
from rest_framework.exceptions import ValidationError
from rest_framework.request import Request
from rest_framework.response import Response

from api.fields import Body
from api.pagination import NewestDayFirst
from api.permissions import OperatorOnly
from api.preconditions import conditional
from api.rows import RowSerializer
from api.schema import operation, paged
from api.tenants import TenantView
from federation.selectors.limits import Standing, standing
from tenants import selectors
from tenants.models import TenantLimits, UsageDay
from tenants.rights import Resource
from tenants.services.limits import set_limits

_MOST = 2**53  # beyond it, JSON's numbers are not what every reader takes them for
_MOST_COUNTED = 2**31 - 1


class StandingSerializer(serializers.Serializer[Standing]):
    """A limit beside what is used now."""

    limit = serializers.IntegerField(allow_null=True, help_text="null: there is none.")
    used = serializers.FloatField(allow_null=True, help_text="null: it cannot be told at the moment.")


class LimitsStandingSerializer(serializers.Serializer[dict[str, Standing]]):
    """A tenant's limits, each beside what is used of it now."""

    requests_per_minute = StandingSerializer()
    rounds_in_flight = StandingSerializer(help_text="Live rounds that the tenant takes part in.")
    dataset_rows = StandingSerializer(help_text="Of all datasets that were found sound.")
    stored_bytes = StandingSerializer(help_text="Of all datasets.")
    device_seconds_per_month = StandingSerializer(help_text="Since the month began (UTC).")
    concurrent_runs = StandingSerializer(
        help_text="Attempts at validating, training and evaluating that run now."
    )


class LimitsSerializer(RowSerializer[TenantLimits]):
    """A tenant's limits; null: there is none."""

    requests_per_minute = serializers.IntegerField(allow_null=True)
    rounds_in_flight = serializers.IntegerField(allow_null=True)
    dataset_rows = serializers.IntegerField(allow_null=True)
    stored_bytes = serializers.IntegerField(allow_null=True)
    device_seconds_per_month = serializers.IntegerField(allow_null=True)
    concurrent_runs = serializers.IntegerField(allow_null=True)
    weight = serializers.IntegerField(help_text="Of its work among the tenants' of a federation.")


class NewLimitsSerializer(Body):
    """All limits of a tenant; null takes one away."""

    requests_per_minute = serializers.IntegerField(min_value=1, max_value=_MOST_COUNTED, allow_null=True)
    rounds_in_flight = serializers.IntegerField(min_value=0, max_value=_MOST_COUNTED, allow_null=True)
    dataset_rows = serializers.IntegerField(min_value=0, max_value=_MOST, allow_null=True)
    stored_bytes = serializers.IntegerField(min_value=0, max_value=_MOST, allow_null=True)
    device_seconds_per_month = serializers.IntegerField(min_value=0, max_value=_MOST, allow_null=True)
    concurrent_runs = serializers.IntegerField(min_value=1, max_value=_MOST_COUNTED, allow_null=True)
    weight = serializers.IntegerField(
        min_value=1, max_value=100, help_text="Of its work among the tenants' of a federation."
    )


class UsageFilter(Body):
    """Which days."""

    since = serializers.DateField(required=False, help_text="The first day.")
    until = serializers.DateField(required=False, help_text="The last day.")

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        """The days in their order. Raises ValidationError."""
        if "since" in attrs and "until" in attrs and attrs["since"] > attrs["until"]:
            raise ValidationError({"until": "It is before since."}, code="out_of_range")
        return attrs


class UsageDaySerializer(RowSerializer[UsageDay]):
    """What the tenant used on one day (UTC). Days without any use are not listed."""

    day = serializers.DateField()
    n_requests = serializers.IntegerField(help_text="Requests that were not refused for their rate.")
    device_seconds = serializers.FloatField(help_text="Attempts at validating, training and evaluating.")
    received_bytes = serializers.IntegerField(help_text="Datasets uploaded and updates submitted.")
    sent_bytes = serializers.IntegerField(help_text="Archives downloaded and versions fetched by attempts.")


class LimitsView(TenantView):
    """The base of views of a tenant's limits."""

    limits: TenantLimits

    def load(self, tenant_id: str) -> None:  # type: ignore[override]
        """Those of a tenant that the caller sees."""
        super().load(tenant_id)
        self.limits = selectors.limits(tenant=self.tenant)


class Limits(LimitsView):
    """`/tenants/{id}/limits`."""

    resource: ClassVar = Resource.LIMITS
    only: ClassVar = {"PUT": OperatorOnly}

    def hold(self) -> None:
        """The limits' row."""
        self.limits.lock()

    def representation(self) -> Any:
        """The limits."""
        return LimitsSerializer(self.limits).data

    @operation("read_limits", tag="limits", answer=LimitsSerializer)
    @conditional
    def get(self, _: Request) -> Response:
        """Read the limits."""
        return Response(self.representation())

    @operation("set_limits", tag="limits", body=NewLimitsSerializer, answer=LimitsSerializer)
    @conditional
    def put(self, _: Request) -> Response:
        """Set all limits; they hold within a second."""
        set_limits(limits=self.limits, **self.body(NewLimitsSerializer))
        return Response(self.representation())


class Standings(LimitsView):
    """`/tenants/{id}/limits/standing`."""

    resource: ClassVar = Resource.LIMITS

    @operation("read_standing", tag="limits", answer=LimitsStandingSerializer)
    def get(self, _: Request) -> Response:
        """Read each limit beside what is used of it now."""
        return Response(LimitsStandingSerializer(standing(limits=self.limits)).data)


class Usage(TenantView):
    """`/tenants/{id}/usage`."""

    resource: ClassVar = Resource.USAGE

    @paged("list_usage", tag="limits", rows=UsageDaySerializer, filters=UsageFilter)
    def get(self, _: Request) -> Response:
        """List what the tenant used by day, the newest first."""
        asked, rows = self.filters(UsageFilter), selectors.usage_days(tenant=self.tenant)
        if "since" in asked:
            rows = rows.filter(day__gte=asked["since"])
        if "until" in asked:
            rows = rows.filter(day__lte=asked["until"])
        return self.page(rows, UsageDaySerializer, paginator=NewestDayFirst)
