"""The training side's work within federations: local runs and evaluations."""

from typing import Any

from django.contrib import admin
from django.http import HttpRequest, HttpResponse
from django.utils.html import format_html_join

from federation.models import Evaluation, LocalRun
from federation.selectors import trainer_logs
from tenants.admin.rows import ServiceRows
from tenants.admin.tags import percent, thousands


@admin.register(LocalRun)
class LocalRunRows(ServiceRows):
    """One tenant's training within one round."""

    list_display = (
        "tenant",
        "federated_round",
        "state_badge",
        "step",
        "loss",
        "attempt",
        "identifier",
        "created_at",
    )
    list_select_related = ("tenant", "federated_round__federation")
    list_filter = ("state", ("federated_round__federation", admin.RelatedOnlyFieldListFilter))
    search_fields = ("tenant__name", "tenant__slug", "federated_round__federation__name", "update_sha256")
    fieldsets = (
        (
            None,
            {"fields": ("tenant", "federated_round", "dataset", "state_badge", "state_reason", "identifier")},
        ),
        ("Training", {"fields": ("examples", "progress", "metrics")}),
        ("Update", {"fields": ("update_sha256", "update_size_bytes", "rejection_code")}),
        (
            "Work",
            {
                "fields": (
                    "attempt",
                    "lease_owner",
                    "lease_expires_at",
                    "created_at",
                    "finished_at",
                    "log_tails",
                )
            },
        ),
    )
    readonly_fields = ("state_badge", "examples", "identifier", "created_at", "finished_at", "log_tails")
    # A library may have quoted what it worked on, and its paths are the platform's.
    platform_only = ServiceRows.platform_only | {"log_tails"}
    change_form_outer_after_template = "console/local_run.html"

    def change_view(
        self,
        request: HttpRequest,
        object_id: str,
        form_url: str = "",
        extra_context: dict[str, Any] | None = None,
    ) -> HttpResponse:
        """The run's facts, and its loss as a chart."""
        local_run: LocalRun = self.row_or_404(request, object_id)
        losses = [{"name": local_run.tenant.name, "points": local_run.history}] if local_run.history else []
        return super().change_view(request, object_id, form_url, {**(extra_context or {}), "losses": losses})

    @admin.display(description="What lost trainers wrote last")
    def log_tails(self, local_run: LocalRun) -> str:
        """By attempt."""
        tails = trainer_logs.tails_of(local_run)
        shown = format_html_join(
            "", "<p>Attempt {}</p><pre>{}</pre>", ((tail.attempt, "\n".join(tail.lines)) for tail in tails)
        )
        return shown or "–"

    @admin.display(description="Rows to train on", ordering="n_examples")
    def examples(self, local_run: LocalRun) -> str:
        """The update's weight."""
        return thousands(local_run.n_examples)

    @admin.display(description="Step")
    def step(self, local_run: LocalRun) -> str:
        """Steps taken and to take, as the worker said last."""
        reported = local_run.progress
        return f"{reported['step']} / {reported['n_steps']}" if reported.get("n_steps") else "–"

    @admin.display(description="Loss")
    def loss(self, local_run: LocalRun) -> str:
        """The training loss of that step."""
        loss = local_run.progress.get("loss")
        return "–" if loss is None else f"{loss:.3f}"


@admin.register(Evaluation)
class EvaluationRows(ServiceRows):
    """Scores of versions on tenants' held-out rows."""

    list_display = (
        "tenant",
        "federation",
        "measured",
        "state_badge",
        "score",
        "rows",
        "identifier",
        "created_at",
    )
    list_select_related = ("tenant", "federation", "version")
    list_filter = ("state", ("federation", admin.RelatedOnlyFieldListFilter))
    search_fields = ("tenant__name", "tenant__slug", "federation__name")
    fieldsets = (
        (None, {"fields": ("tenant", "federation", "measured", "dataset", "state_badge", "state_reason")}),
        ("Score", {"fields": ("score", "loss", "rows")}),
        ("Work", {"fields": ("attempt", "lease_owner", "lease_expires_at", "created_at", "finished_at")}),
    )
    readonly_fields = ("measured", "state_badge", "score", "rows", "created_at", "finished_at")

    @admin.display(description="Version", ordering="version__number")
    def measured(self, evaluation: Evaluation) -> str:
        """What was measured."""
        return f"v{evaluation.version.number}" if evaluation.version else "base model, no prefix"

    @admin.display(description="Held-out accuracy", ordering="accuracy")
    def score(self, evaluation: Evaluation) -> str:
        """Of the held-out rows answered rightly."""
        return percent(evaluation.accuracy)

    @admin.display(description="Held-out rows", ordering="n_rows")
    def rows(self, evaluation: Evaluation) -> str:
        """How many rows the score is taken over."""
        return thousands(evaluation.n_rows)
