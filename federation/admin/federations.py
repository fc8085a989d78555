"""Federations: the list, and the page with charts, versions, tenants and rounds."""

from dataclasses import asdict
from typing import Any, cast
from urllib.parse import urlencode

from django.contrib import admin
from django.db.models import Count, Q, QuerySet
from django.http import HttpRequest, HttpResponse
from django.template.response import TemplateResponse
from django.urls import URLPattern, path, reverse
from django.utils.decorators import method_decorator
from django.views.decorators.http import require_safe

from federation.admin.federation_form import FederationForm
from federation.models import Federation, Schedule
from federation.selectors import charts, standing, visibility
from federation.selectors.campaigns import newest_campaigns
from federation.selectors.progress import live_rounds
from federation.services.rounds import start_round
from federation.services.schedules import next_times
from federation.states import CAMPAIGN_LIVE, ROUND_LIVE, EnrolmentState, FederationState
from tenants import scoping
from tenants.admin.row_actions import Done, RowAction
from tenants.admin.rows import ServiceRows, change_url, require


def _start_round(federation: Federation, _actor: str) -> Done:
    federated_round = start_round(federation=federation)
    return Done(f"Round {federated_round.number} of {federation} has begun.", change_url(federated_round))


def _can_start(federation: Federation) -> bool:
    return (
        federation.state == FederationState.READY
        and not federation.rounds.filter(state__in=ROUND_LIVE).exists()
        and not federation.campaigns.filter(state__in=CAMPAIGN_LIVE).exists()
    )


@admin.register(Federation)
class FederationRows(ServiceRows):
    """Tenants that customize one base model together."""

    add_form = FederationForm
    visible = staticmethod(visibility.federations)
    platform_only = frozenset({"n_active"})
    row_actions = (
        RowAction(
            name="start-round",
            label="Start round",
            icon="play_arrow",
            question="Start a round of {row}? All active tenants train from the published version.",
            permission="federation.add_federatedround",
            run=_start_round,
            is_offered=_can_start,
            style="primary",
        ),
    )
    list_display = (
        "name",
        "state_badge",
        "base_model",
        "published_version",
        "n_active",
        "n_rounds",
        "identifier",
    )
    list_select_related = ("base_model", "published__version")
    list_filter = ("state", ("base_model", admin.RelatedOnlyFieldListFilter))
    search_fields = ("name", "base_model__name")

    def get_queryset(self, request: HttpRequest) -> QuerySet[Federation]:
        """Federations with the counts that the list shows."""
        active = Count("enrolments", filter=Q(enrolments__state=EnrolmentState.ACTIVE), distinct=True)
        counted = super().get_queryset(request).annotate(active=active, held=Count("rounds", distinct=True))
        return cast(QuerySet[Federation], counted)

    @admin.display(description="Published")
    def published_version(self, federation: Federation) -> str:
        """The version that tenants use."""
        pointer = getattr(federation, "published", None)
        return f"v{pointer.version.number}" if pointer else "–"

    @admin.display(description="Active tenants", ordering="active")
    def n_active(self, federation: Any) -> int:
        """Tenants that take part."""
        return int(federation.active)

    @admin.display(description="Rounds", ordering="held")
    def n_rounds(self, federation: Any) -> int:
        """Rounds held so far, whatever came of them."""
        return int(federation.held)

    def get_urls(self) -> list[URLPattern]:
        """The line about the live round, which renews itself, then the usual addresses."""
        live = self.admin_site.admin_view(require_safe(self.live_view))
        return [path("<uuid:object_id>/live/", live, name="federation_federation_live"), *super().get_urls()]

    def live_view(self, request: HttpRequest, object_id: str) -> HttpResponse:
        """The live round in one line, if there is one."""
        federation = self._visible(request, object_id)
        live = live_rounds(federation=federation)
        # Only a page with a live round asks: when none is left, the charts have something new to show.
        headers = {} if live else {"HX-Refresh": "true"}
        context = {"original": federation, "live_rounds": live}
        return TemplateResponse(request, "console/federation_live.html", context, headers=headers)

    @method_decorator(require_safe)
    def change_view(
        self,
        request: HttpRequest,
        object_id: str,
        form_url: str = "",
        extra_context: dict[str, Any] | None = None,
    ) -> HttpResponse:
        """The federation's page."""
        federation = self._visible(request, object_id)
        context = {**self.admin_site.each_context(request), "opts": self.opts, "title": federation.name}
        context |= {"original": federation, "live_rounds": live_rounds(federation=federation)}
        return TemplateResponse(request, "console/federation.html", context | _shown(federation))

    def _visible(self, request: HttpRequest, object_id: str) -> Federation:
        federation: Federation = self.row_or_404(request, object_id)
        require(self.has_view_permission(request, federation))
        return federation


def _shown(federation: Federation) -> dict[str, Any]:
    pointer = getattr(federation, "published", None)
    published = pointer.version if pointer else None
    accuracy = charts.accuracy_by_version(federation=federation)
    tenants = standing.tenants(federation=federation, published=published)
    schedule = getattr(federation, "schedule", None)
    return {
        "pointer": pointer,
        "tenants": tenants,
        "n_active": sum(place.enrolment.state == EnrolmentState.ACTIVE for place in tenants),
        "versions": standing.versions(federation=federation, published=published, chart=accuracy),
        "campaigns": newest_campaigns(federation=federation),
        "rounds": standing.newest_rounds(of=federation),
        "personal_prefixes": []
        if scoping.is_platform()
        else standing.newest_personal_prefixes(federation=federation),
        "schedule": schedule,
        "next_times": next_times(schedule) if schedule else [],
        "schedule_form_url": _schedule_form_url(federation, schedule),
        "published_mean": accuracy.mean_at(accuracy.published),
        "published_worst": accuracy.worst_at(accuracy.published),
        "gain": standing.gain(tenants),
        "base_mean": accuracy.mean_at(charts.BASE),
        **_charts(federation, accuracy),
    }


def _charts(federation: Federation, accuracy: charts.AccuracyChart) -> dict[str, Any]:
    stepped = charts.newest_round_with_losses(federation=federation)
    lines = charts.loss_by_step(federated_round=stepped) if stepped else []
    moved = charts.bytes_by_round(federation=federation)
    return {
        "accuracy": asdict(accuracy),
        "accuracy_is_empty": not accuracy.tenants,
        "loss_round": stepped,
        "loss_is_empty": not lines,
        "losses": [asdict(line) for line in lines],
        "bytes": asdict(moved),
        "bytes_are_empty": not moved.labels,
    }


def _schedule_form_url(federation: Federation, schedule: Schedule | None) -> str:
    rule = schedule.as_rule() if schedule else {}
    return f"{reverse('admin:federation_schedule_add')}?{urlencode({'federation': federation.pk, **rule})}"
