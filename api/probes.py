"""Probes for whoever keeps the processes running: alive, and ready to serve."""

from collections.abc import Callable, Mapping
from http import HTTPStatus

import structlog
from django.core.checks import ERROR, Tags, run_checks
from django.db import DEFAULT_DB_ALIAS, DatabaseError, connection
from django.db.migrations.executor import MigrationExecutor
from django.http import HttpRequest, JsonResponse
from django.http.response import HttpResponseBase
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_safe

from api.errors import Problem
from tenants import dispatch

_log = structlog.get_logger(__name__)


class ProbesMiddleware:
    """Answers before anything that judges a request's host or scheme: probes come to an address, without the proxy."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponseBase]) -> None:
        self._get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        """The probe's answer, or what the others make of the request."""
        return _PROBES.get(request.path, self._get_response)(request)


@require_safe
@never_cache
def healthz(_: HttpRequest) -> JsonResponse:
    """This process answers; it says nothing of what it needs."""
    return JsonResponse({"status": "ok"})


@require_safe
@never_cache
def readyz(_: HttpRequest) -> JsonResponse:
    """This process can serve: 503 with the parts that fail until it can."""
    failed = [name for name, is_sound in _PARTS.items() if not is_sound()]
    if not failed:
        return JsonResponse({"status": "ok"})
    detail = f"Not ready: {', '.join(failed)}."
    return Problem(HTTPStatus.SERVICE_UNAVAILABLE, "not_ready", detail, {"failed": failed}).as_response()


def _database_answers() -> bool:
    try:
        with connection.cursor() as cursor:
            cursor.execute("SELECT 1")
    except DatabaseError as error:
        _log.warning("database_away", error=str(error))
        return False
    return True


def _migrations_are_applied() -> bool:
    try:
        executor = MigrationExecutor(connection)
        return not executor.migration_plan(executor.loader.graph.leaf_nodes())
    except DatabaseError:
        return False  # `_database_answers` has logged why


def _wall_stands() -> bool:
    """The database's own system checks, some milliseconds of catalogue queries: better no answer than another's."""
    try:
        found = run_checks(tags=[Tags.database], databases=[DEFAULT_DB_ALIAS])
    except DatabaseError:
        return False  # `_database_answers` has logged why
    problems = [str(message) for message in found if message.level >= ERROR]
    if problems:
        _log.error("wall_open", problems=problems)
    return not problems


_PARTS: Mapping[str, Callable[[], bool]] = {
    "database": _database_answers,
    "migrations": _migrations_are_applied,
    "wall": _wall_stands,
    "broker": dispatch.broker_answers,
}
_PROBES: Mapping[str, Callable[[HttpRequest], HttpResponseBase]] = {"/healthz": healthz, "/readyz": readyz}
