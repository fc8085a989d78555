"""Paths below `/api/v1/`."""

from django.urls import path
from drf_spectacular.views import SpectacularJSONAPIView, SpectacularSwaggerSplitView

from api import (
    audit,
    base_models,
    datasets,
    enrolments,
    evaluations,
    federations,
    keys,
    limits,
    local_runs,
    me,
    members,
    prefixes,
    rounds,
    schedules,
    tenants,
)

_FEDERATION = "federations/<str:federation_id>"

urlpatterns = [
    path("me", me.Me.as_view()),
    path("tenants", tenants.Tenants.as_view()),
    path("tenants/<str:tenant_id>", tenants.OneTenant.as_view()),
    path("tenants/<str:tenant_id>/keys", keys.Keys.as_view()),
    path("tenants/<str:tenant_id>/keys/<str:key_id>", keys.OneKey.as_view()),
    path("tenants/<str:tenant_id>/keys/<str:key_id>/rotate", keys.KeyRotation.as_view()),
    path("tenants/<str:tenant_id>/members", members.Members.as_view()),
    path("tenants/<str:tenant_id>/members/<str:member_id>", members.OneMember.as_view()),
    path("tenants/<str:tenant_id>/limits", limits.Limits.as_view()),
    path("tenants/<str:tenant_id>/limits/standing", limits.Standings.as_view()),
    path("tenants/<str:tenant_id>/usage", limits.Usage.as_view()),
    path("datasets", datasets.Datasets.as_view()),
    path("datasets/<str:dataset_id>", datasets.OneDataset.as_view()),
    path("base-models", base_models.BaseModels.as_view()),
    path("base-models/<str:base_model_id>", base_models.OneBaseModel.as_view()),
    path("federations", federations.Federations.as_view()),
    path(_FEDERATION, federations.OneFederation.as_view()),
    path(f"{_FEDERATION}/enrolments", enrolments.Enrolments.as_view()),
    path(f"{_FEDERATION}/enrolments/<str:enrolment_id>", enrolments.OneEnrolment.as_view()),
    path(f"{_FEDERATION}/rounds", rounds.Rounds.as_view()),
    path(f"{_FEDERATION}/prefix-versions", prefixes.PrefixVersions.as_view()),
    path(f"{_FEDERATION}/published", prefixes.Published.as_view()),
    path(f"{_FEDERATION}/roll-back", prefixes.RollBack.as_view()),
    path(f"{_FEDERATION}/schedule", schedules.FederationSchedule.as_view()),
    path("rounds/<str:round_id>", rounds.OneRound.as_view()),
    path("rounds/<str:round_id>/cancel", rounds.RoundCancellation.as_view()),
    path("rounds/<str:round_id>/events", rounds.RoundEvents.as_view()),
    path("local-runs", local_runs.LocalRuns.as_view()),
    path("local-runs/<str:local_run_id>", local_runs.OneLocalRun.as_view()),
    path("evaluations", evaluations.Evaluations.as_view()),
    path("prefix-versions/<str:version_id>", prefixes.OnePrefixVersion.as_view()),
    path("prefix-versions/<str:version_id>/archive", prefixes.PrefixVersionArchive.as_view()),
    path("audit-entries", audit.AuditEntries.as_view()),
    path("audit-entries/export", audit.AuditExport.as_view()),
    path("openapi.json", SpectacularJSONAPIView.as_view(), name="openapi"),
    path("docs", SpectacularSwaggerSplitView.as_view(url_name="openapi"), name="docs"),
]
