"""Rounds: the list, and a page whose progress moves while the round runs."""

from dataclasses import asdict
from typing import Any

from django.contrib import admin
from django.http import HttpRequest, HttpResponse
from django.template.response import TemplateResponse
from django.urls import URLPattern, path
from django.utils.decorators import method_decorator
from django.views.decorators.http import require_safe

from federation.models import FederatedRound
from federation.selectors import visibility
from federation.selectors.charts import loss_by_step
from federation.selectors.measures import measure_rounds
from federation.selectors.progress import round_progress
from federation.services.rounds import cancel_round
from tenants.admin.row_actions import Done, RowAction
from tenants.admin.rows import ServiceRows, change_url, require
from tenants.admin.tags import duration


def _cancel(federated_round: FederatedRound, actor: str) -> Done:
    cancel_round(federated_round=federated_round, actor=actor)
    return Done(f"{federated_round} is canceled; nothing of it is published.", change_url(federated_round))


@admin.register(FederatedRound)
class FederatedRoundRows(ServiceRows):
    """Turns of federations."""

    visible = staticmethod(visibility.rounds)
    row_actions = (
        RowAction(
            name="cancel",
            label="Cancel round",
            icon="cancel",
            question="Cancel {row}? Training ends now and nothing of the round is published.",
            permission="federation.change_federatedround",
            run=_cancel,
            is_offered=lambda federated_round: (
                not federated_round.is_finished and federated_round.campaign_id is None
            ),
            style="danger",
        ),
    )
    list_display = ("__str__", "state_badge", "reason", "versions", "opened_at", "took", "identifier")
    list_select_related = ("federation", "parent_version", "candidate_version")
    list_filter = (
        "state",
        ("federation", admin.RelatedOnlyFieldListFilter),
        ("campaign", admin.RelatedOnlyFieldListFilter),
    )
    search_fields = ("federation__name", "state_reason")

    @admin.display(description="Reason", empty_value="–")
    def reason(self, federated_round: FederatedRound) -> str:
        """Why it is in this state."""
        return federated_round.state_reason

    @admin.display(description="Versions")
    def versions(self, federated_round: FederatedRound) -> str:
        """The parent and, once there is one, the candidate."""
        candidate = federated_round.candidate_version
        return f"v{federated_round.parent_version.number} → {f'v{candidate.number}' if candidate else '–'}"

    @admin.display(description="Took")
    def took(self, federated_round: FederatedRound) -> str:
        """From its opening to its end."""
        ended_at = federated_round.finished_at
        return duration((ended_at - federated_round.opened_at).total_seconds() if ended_at else None)

    def get_urls(self) -> list[URLPattern]:
        """The part of a round's page that renews itself, then the usual addresses."""
        progress = self.admin_site.admin_view(require_safe(self.progress_view))
        return [
            path("<uuid:object_id>/progress/", progress, name="federation_federatedround_progress"),
            *super().get_urls(),
        ]

    @method_decorator(require_safe)
    def change_view(
        self,
        request: HttpRequest,
        object_id: str,
        form_url: str = "",
        extra_context: dict[str, Any] | None = None,
    ) -> HttpResponse:
        """The round's page."""
        context = self._progress(request, object_id)
        context |= {
            **self.admin_site.each_context(request),
            "opts": self.opts,
            "title": str(context["original"]),
        }
        return TemplateResponse(request, "console/round.html", context)

    def progress_view(self, request: HttpRequest, object_id: str) -> HttpResponse:
        """The part of the page that renews itself until the round has ended."""
        context = self._progress(request, object_id)
        # Only the page of a live round asks: when the round has ended, its buttons have to go too.
        headers = {"HX-Refresh": "true"} if context["original"].is_finished else {}
        return TemplateResponse(request, "console/round_progress.html", context, headers=headers)

    def _progress(self, request: HttpRequest, object_id: str) -> dict[str, Any]:
        federated_round = self.row_or_404(request, object_id)
        require(self.has_view_permission(request, federated_round))
        losses = loss_by_step(federated_round=federated_round)
        return {
            "original": federated_round,
            "progress": round_progress(federated_round=federated_round),
            "measures": measure_rounds([federated_round])[federated_round.pk],
            "losses": [asdict(line) for line in losses],
        }
