"""What one would write by hand: plain Django views that give the API's rows without a key, a scope or REST framework.

Each answers exactly what the API answers to the tenant in its path, but for the links between pages.
"""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from datetime import datetime
from itertools import pairwise
from typing import Any
from uuid import UUID

from django.db.models import Count, Q, QuerySet, Sum
from django.db.models.functions import Now
from django.http import HttpRequest, JsonResponse
from django.urls import path
from django.views.decorators.http import require_GET

from deploy.urls import handler400, handler404, handler500
from deploy.urls import urlpatterns as platform_patterns
from federation.models import Enrolment, Evaluation, FederatedRound, Federation, LocalRun, RoundEvent
from tenants.ids import encode
from tenants.models import Dataset, Tenant

PAGE = 50
Row = dict[str, Any]
STILL_ENDING = Count("id", filter=Q(stopping_until__gt=Now()))
NONE: Row = {"n_fetched": 0, "n_still_ending": 0}


def rows_of(model: Any) -> "QuerySet[Any]":
    """All rows, past the manager that asks for a scope."""
    found: QuerySet[Any] = model._base_manager.using("bare")
    return found


def named(prefix: str, key: UUID | None) -> str | None:
    """A public id."""
    return None if key is None else f"{prefix}_{encode(key)}"


def moment(at: datetime | None) -> str | None:
    """ISO 8601, as the API writes it."""
    return None if at is None else at.isoformat().replace("+00:00", "Z")


def dataset_json(row: Row) -> Row:
    refused = row["refusal_code"]
    refusal = {"code": refused, "detail": row["state_reason"], "row": row["refusal_row"]} if refused else None
    return {
        "id": named("dst", row["id"]),
        "tenant": named("tnt", row["tenant_id"]),
        "name": row["name"],
        "format": row["format"],
        "size_bytes": row["size_bytes"],
        "state": row["state"],
        "facts": row["facts"],
        "refusal": refusal,
        "created_at": moment(row["created_at"]),
        "finished_at": moment(row["finished_at"]),
    }


def federation_json(row: Row) -> Row:
    refused = row["refusal_code"]
    return {
        "id": named("fed", row["id"]),
        "name": row["name"],
        "base_model": named("bmd", row["base_model_id"]),
        "specification": row["specification"],
        "specification_sha256": row["specification_sha256"],
        "state": row["state"],
        "refusal": {"code": refused, "detail": row["state_reason"]} if refused else None,
        "priority": row["priority"],
        "weight": row["weight"],
        "created_at": moment(row["created_at"]),
    }


def local_run_json(row: Row) -> Row:
    rejected, size_bytes = row["rejection_code"], row["update_size_bytes"]
    return {
        "id": named("run", row["id"]),
        "round": named("rnd", row["federated_round_id"]),
        "federation": named("fed", row["federated_round__federation_id"]),
        "tenant": named("tnt", row["tenant_id"]),
        "dataset": named("dst", row["dataset_id"]),
        "state": row["state"],
        "reason": row["state_reason"],
        "rejection": {"code": rejected, "detail": row["state_reason"]} if rejected else None,
        "attempt": row["attempt"],
        "n_examples": row["n_examples"],
        "progress": row["progress"],
        "history": row["history"],
        "metrics": row["metrics"],
        "update": None if size_bytes is None else {"sha256": row["update_sha256"], "size_bytes": size_bytes},
        "created_at": moment(row["created_at"]),
        "finished_at": moment(row["finished_at"]),
    }


def rounds_json(rows: Iterable[Row], tenant: UUID) -> list[Row]:
    """Rounds with what they took of the tenant: three more queries, whatever their number."""
    found = list(rows)
    keys = [row["id"] for row in found]
    runs, scores, moves = runs_by_round(keys, tenant), scores_by_round(keys, tenant), moves_by_round(keys)
    return [round_json(row, runs[row["id"]], scores.get(row["id"], NONE), moves[row["id"]]) for row in found]


def runs_by_round(keys: Sequence[UUID], tenant: UUID) -> dict[UUID, list[Row]]:
    grouped = rows_of(LocalRun).filter(federated_round__in=keys, tenant=tenant)
    counted = grouped.values("federated_round", "state").annotate(
        n=Count("id"),
        up_bytes=Sum("update_size_bytes"),
        n_fetched=Sum("attempt"),
        n_still_ending=STILL_ENDING,
    )
    found: dict[UUID, list[Row]] = defaultdict(list)
    for group in counted.order_by("state"):
        found[group["federated_round"]].append(group)
    return found


def scores_by_round(keys: Sequence[UUID], tenant: UUID) -> dict[UUID, Row]:
    scored = rows_of(Evaluation).filter(version__made_in_round__in=keys, tenant=tenant)
    grouped = scored.values("version__made_in_round").annotate(
        n_fetched=Sum("attempt"), n_still_ending=STILL_ENDING
    )
    return {group["version__made_in_round"]: group for group in grouped}


def moves_by_round(keys: Sequence[UUID]) -> dict[UUID, list[tuple[str, datetime]]]:
    moves = rows_of(RoundEvent).filter(federated_round__in=keys, tenant=None, kind__startswith="round.")
    found: dict[UUID, list[tuple[str, datetime]]] = defaultdict(list)
    for key, kind, at in moves.order_by("id").values_list("federated_round", "kind", "happened_at"):
        found[key].append((kind.removeprefix("round."), at))
    return found


def round_json(row: Row, runs: list[Row], scores: Row, moves: list[tuple[str, datetime]]) -> Row:
    steps = pairwise([("open", row["opened_at"]), *moves])
    down_bytes = sum(group["n_fetched"] for group in runs) * row["parent_version__broadcast_size_bytes"]
    return {
        "id": named("rnd", row["id"]),
        "federation": named("fed", row["federation_id"]),
        "campaign": named("cmp", row["campaign_id"]),
        "number": row["number"],
        "state": row["state"],
        "reason": row["state_reason"],
        "parent_version": named("pfx", row["parent_version_id"]),
        "incumbent_version": named("pfx", row["incumbent_version_id"]),
        "candidate_version": named("pfx", row["candidate_version_id"]),
        "quorum": row["quorum"],
        "opened_at": moment(row["opened_at"]),
        "deadline_at": moment(row["deadline_at"]),
        "due_at": moment(row["due_at"]),
        "finished_at": moment(row["finished_at"]),
        "n_local_runs": {group["state"]: group["n"] for group in runs},
        "n_still_ending": sum(group["n_still_ending"] for group in (*runs, scores)),
        "phase_seconds": {phase: round((until - at).total_seconds(), 3) for (phase, at), (_, until) in steps},
        "up_bytes": sum(group["up_bytes"] or 0 for group in runs),
        "down_bytes": down_bytes + scores["n_fetched"] * (row["candidate_version__size_bytes"] or 0),
    }


DATASET_FIELDS = [
    "id", "tenant_id", "name", "format", "size_bytes", "state", "facts", "refusal_code", "state_reason",
    "refusal_row", "created_at", "finished_at",
]  # fmt: skip
FEDERATION_FIELDS = [
    "id", "name", "base_model_id", "specification", "specification_sha256", "state", "priority", "weight",
    "refusal_code", "state_reason", "created_at",
]  # fmt: skip
LOCAL_RUN_FIELDS = [
    "id", "federated_round_id", "federated_round__federation_id", "tenant_id", "dataset_id", "state",
    "state_reason", "rejection_code", "attempt", "n_examples", "progress", "history", "metrics", "update_sha256",
    "update_size_bytes", "created_at", "finished_at",
]  # fmt: skip
ROUND_FIELDS = [
    "id", "federation_id", "number", "state", "state_reason", "parent_version_id", "candidate_version_id",
    "quorum", "opened_at", "deadline_at", "due_at", "finished_at", "parent_version__broadcast_size_bytes",
    "candidate_version__size_bytes", "campaign_id", "incumbent_version_id",
]  # fmt: skip


@require_GET
def one_tenant(_: HttpRequest, tenant: str) -> JsonResponse:
    row = rows_of(Tenant).values("id", "name", "slug", "state", "created_at").get(pk=Tenant.key_from(tenant))
    return JsonResponse({**row, "id": named("tnt", row["id"]), "created_at": moment(row["created_at"])})


@require_GET
def datasets(request: HttpRequest, tenant: str) -> JsonResponse:
    rows = rows_of(Dataset).filter(tenant=Tenant.key_from(tenant))
    if "after" in request.GET:
        rows = rows.filter(pk__lt=Dataset.key_from(request.GET["after"]))
    page = rows.order_by("-pk").values(*DATASET_FIELDS)[:PAGE]
    return JsonResponse({"results": [dataset_json(row) for row in page]})


@require_GET
def one_dataset(_: HttpRequest, tenant: str, dataset: str) -> JsonResponse:
    rows = rows_of(Dataset).filter(tenant=Tenant.key_from(tenant)).values(*DATASET_FIELDS)
    return JsonResponse(dataset_json(rows.get(pk=Dataset.key_from(dataset))))


@require_GET
def federations(_: HttpRequest, tenant: str) -> JsonResponse:
    joined = rows_of(Enrolment).filter(tenant=Tenant.key_from(tenant), state__in=("invited", "active"))
    rows = rows_of(Federation).filter(pk__in=joined.values("federation"))
    page = rows.order_by("-pk").values(*FEDERATION_FIELDS)[:PAGE]
    return JsonResponse({"results": [federation_json(row) for row in page]})


@require_GET
def rounds(_: HttpRequest, tenant: str, federation: str) -> JsonResponse:
    rows = rows_of(FederatedRound).filter(federation=Federation.key_from(federation))
    page = rows.order_by("-pk").values(*ROUND_FIELDS)[:PAGE]
    return JsonResponse({"results": rounds_json(page, Tenant.key_from(tenant))})


@require_GET
def one_round(_: HttpRequest, tenant: str, federated_round: str) -> JsonResponse:
    rows = rows_of(FederatedRound).filter(pk=FederatedRound.key_from(federated_round))
    return JsonResponse(rounds_json(rows.values(*ROUND_FIELDS), Tenant.key_from(tenant))[0])


@require_GET
def local_runs(_: HttpRequest, tenant: str) -> JsonResponse:
    rows = rows_of(LocalRun).filter(tenant=Tenant.key_from(tenant))
    page = rows.order_by("-pk").values(*LOCAL_RUN_FIELDS)[:PAGE]
    return JsonResponse({"results": [local_run_json(row) for row in page]})


_TENANT = "bare/<str:tenant>"
urlpatterns = [
    path(_TENANT, one_tenant),
    path(f"{_TENANT}/datasets", datasets),
    path(f"{_TENANT}/datasets/<str:dataset>", one_dataset),
    path(f"{_TENANT}/federations", federations),
    path(f"{_TENANT}/federations/<str:federation>/rounds", rounds),
    path(f"{_TENANT}/rounds/<str:federated_round>", one_round),
    path(f"{_TENANT}/local-runs", local_runs),
    *platform_patterns,
]
__all__ = ["handler400", "handler404", "handler500", "urlpatterns"]
