"""Refusals as HTTP: one table from error class to status, one handler, bodies as problem details (RFC 9457)."""

import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any

from django.core.exceptions import RequestDataTooBig, SuspiciousOperation
from django.db import InterfaceError, OperationalError
from django.http import HttpRequest, HttpResponse, HttpResponseBase, JsonResponse, UnreadablePostError
from django.views import defaults
from rest_framework import exceptions
from rest_framework.response import Response

from api import refusals
from api.request_ids import current_request_id
from federation import errors as federation
from tenants import encryption, storage
from tenants import errors as tenants
from tenants.errors import PreludeError

CONTENT_TYPE = "application/problem+json"
API_PATH = "/api/"
# Of PostgreSQL's error codes: connection exceptions, ended by an operator or starting, no connection left.
AWAY_CODES = ("08", "57P", "53300")
AWAY_SECONDS = 5

STATUSES: Mapping[type[PreludeError], HTTPStatus] = {
    refusals.CursorInvalid: HTTPStatus.BAD_REQUEST,
    refusals.IdempotencyKeyInvalid: HTTPStatus.BAD_REQUEST,
    refusals.LengthRequired: HTTPStatus.LENGTH_REQUIRED,
    refusals.PreconditionFailed: HTTPStatus.PRECONDITION_FAILED,
    refusals.PreconditionInvalid: HTTPStatus.BAD_REQUEST,
    refusals.RequestNotReadable: HTTPStatus.BAD_REQUEST,
    refusals.RequestTooLarge: HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
    refusals.TooManyStreams: HTTPStatus.TOO_MANY_REQUESTS,
    refusals.UploadInterrupted: HTTPStatus.BAD_REQUEST,
    tenants.AddressNotAllowed: HTTPStatus.FORBIDDEN,
    tenants.ApiKeyEnded: HTTPStatus.CONFLICT,
    tenants.ApiKeyInvalid: HTTPStatus.UNAUTHORIZED,
    tenants.DatasetEmpty: HTTPStatus.UNPROCESSABLE_ENTITY,
    tenants.DatasetFormatUnknown: HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
    tenants.DatasetInUse: HTTPStatus.CONFLICT,
    tenants.DatasetNotText: HTTPStatus.UNPROCESSABLE_ENTITY,
    tenants.DatasetStateConflict: HTTPStatus.CONFLICT,
    tenants.DatasetTooLarge: HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
    tenants.ExpiryInPast: HTTPStatus.UNPROCESSABLE_ENTITY,
    tenants.IdempotencyInProgress: HTTPStatus.CONFLICT,
    tenants.IdempotencyKeyReused: HTTPStatus.CONFLICT,
    tenants.LastOwner: HTTPStatus.CONFLICT,
    tenants.MembershipExists: HTTPStatus.CONFLICT,
    tenants.NetworkInvalid: HTTPStatus.UNPROCESSABLE_ENTITY,
    tenants.NotFound: HTTPStatus.NOT_FOUND,
    tenants.QuotaExceeded: HTTPStatus.FORBIDDEN,
    tenants.RateLimited: HTTPStatus.TOO_MANY_REQUESTS,
    tenants.RightMissing: HTTPStatus.FORBIDDEN,
    tenants.RightNotHeld: HTTPStatus.FORBIDDEN,
    tenants.RightOutOfReach: HTTPStatus.UNPROCESSABLE_ENTITY,
    tenants.TenantSlugTaken: HTTPStatus.CONFLICT,
    tenants.TenantSuspended: HTTPStatus.FORBIDDEN,
    federation.AlreadyInvited: HTTPStatus.CONFLICT,
    federation.AlreadyPublished: HTTPStatus.CONFLICT,
    federation.BaseModelDirectoryInvalid: HTTPStatus.UNPROCESSABLE_ENTITY,
    federation.BaseModelNameTaken: HTTPStatus.CONFLICT,
    federation.BaseModelNotReady: HTTPStatus.CONFLICT,
    federation.CampaignInProgress: HTTPStatus.CONFLICT,
    federation.DatasetDoesNotFit: HTTPStatus.UNPROCESSABLE_ENTITY,
    federation.DatasetNotReady: HTTPStatus.CONFLICT,
    federation.EnrolmentNotActive: HTTPStatus.CONFLICT,
    federation.FederationNameTaken: HTTPStatus.CONFLICT,
    federation.FederationNotReady: HTTPStatus.CONFLICT,
    federation.NotInvited: HTTPStatus.CONFLICT,
    federation.PersonalPrefixLimitReached: HTTPStatus.CONFLICT,
    federation.PersonalPrefixNotCompleted: HTTPStatus.CONFLICT,
    federation.PersonalRuleInvalid: HTTPStatus.UNPROCESSABLE_ENTITY,
    federation.QuorumOutOfReach: HTTPStatus.CONFLICT,
    federation.RoundInProgress: HTTPStatus.CONFLICT,
    federation.RoundOfCampaign: HTTPStatus.CONFLICT,
    federation.ScheduleInvalid: HTTPStatus.UNPROCESSABLE_ENTITY,
    federation.SpecificationInvalid: HTTPStatus.UNPROCESSABLE_ENTITY,
    federation.StateConflict: HTTPStatus.CONFLICT,
    federation.VersionOfAnotherFederation: HTTPStatus.UNPROCESSABLE_ENTITY,
    federation.WebhookDisabled: HTTPStatus.CONFLICT,
    federation.WebhookKindUnknown: HTTPStatus.UNPROCESSABLE_ENTITY,
    federation.WebhookLimitReached: HTTPStatus.CONFLICT,
    federation.WebhookUrlInvalid: HTTPStatus.UNPROCESSABLE_ENTITY,
}
"""What callers can bring about, by class; a class stands for those that derive from it."""

NEVER_ANSWERED: tuple[type[PreludeError], ...] = (
    encryption.DecryptionFailed,
    storage.BlobCorrupt,
    storage.BlobMissing,
    storage.BlobTooLarge,
    tenants.AuditChainBroken,
    tenants.LeaseLost,
    tenants.ScopeMissing,
    tenants.ScopeReadOnly,
    federation.AddressNotReachable,
    federation.AggregateNotFinite,
    federation.NothingToAggregate,
    federation.TooFewUpdates,
    federation.UpdateRefused,
    federation.WeightInvalid,
)
"""Refusals among our own processes. One that reaches HTTP is a defect of ours and answers 500 without its text."""


@dataclass(frozen=True)
class Problem:
    """An error as its caller sees it."""

    status: int
    code: str
    detail: str
    members: Mapping[str, object] = field(default_factory=dict)
    retry_after_seconds: int | None = None

    def body(self) -> dict[str, object]:
        """The JSON object of RFC 9457, `members` being its extensions."""
        return {
            "type": f"urn:prelude:problem:{self.code}",
            "title": self.code.replace("_", " ").capitalize(),
            "status": int(self.status),
            "detail": self.detail,
            "code": self.code,
            **self.members,
            "request_id": current_request_id(),
        }

    def headers(self) -> dict[str, str]:
        """What the status asks for, and when to come again."""
        if self.status == HTTPStatus.UNAUTHORIZED:
            return {"WWW-Authenticate": "Bearer"}
        if self.retry_after_seconds is not None:
            return {"Retry-After": str(self.retry_after_seconds)}
        return {}

    def as_response(self) -> JsonResponse:
        """For views outside of Django REST framework."""
        return JsonResponse(
            self.body(), status=self.status, content_type=CONTENT_TYPE, headers=self.headers()
        )


def handle(error: Exception, _: Mapping[str, Any]) -> Response | None:
    """The handler of all API views; None leaves the unexpected to Django, which logs it and calls `server_error`."""
    problem = problem_of(error)
    if problem is None:
        return None
    return Response(problem.body(), problem.status, headers=problem.headers(), content_type=CONTENT_TYPE)


def problem_of(error: Exception) -> Problem | None:
    """What a caller is told about an error; nothing when it is not the caller's."""
    match error:
        case PreludeError():
            return _refusal(error)
        case exceptions.ValidationError():
            return _invalid(error)
        case exceptions.APIException():
            return Problem(error.status_code, _code_of(error), str(error.detail))
        case RequestDataTooBig():
            return Problem(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "request_too_large", "The form is too large.")
        case UnreadablePostError():
            return _refusal(refusals.UploadInterrupted())
        case SuspiciousOperation():
            return Problem(HTTPStatus.BAD_REQUEST, "request_not_readable", "The request cannot be read.")
    return None


def _refusal(error: PreludeError) -> Problem | None:
    status = next((STATUSES[kind] for kind in type(error).__mro__ if kind in STATUSES), None)
    if status is None:
        return None
    told = {name: getattr(error, name, None) for name in ("field", "limit", "used")}
    members = {name: value for name, value in told.items() if value not in (None, "")}
    return Problem(status, error.code, str(error), members, getattr(error, "retry_after_seconds", None))


def _code_of(error: exceptions.APIException) -> str:
    codes = error.get_codes()
    return codes if isinstance(codes, str) else error.default_code


def _invalid(error: exceptions.ValidationError) -> Problem:
    faults = list(_faults(error.detail, ""))
    named = ", ".join(sorted({fault["field"] for fault in faults if fault["field"]}))
    detail = f"The request is not valid: see {named or 'errors'}."
    return Problem(HTTPStatus.UNPROCESSABLE_ENTITY, "invalid", detail, {"errors": faults})


def _faults(detail: Any, path: str) -> Iterator[dict[str, str]]:
    """One entry a fault, its field as a dotted path."""
    if isinstance(detail, dict):
        for name, inner in detail.items():
            step = "" if name == "non_field_errors" else str(name)
            yield from _faults(inner, ".".join(part for part in (path, step) if part))
    elif isinstance(detail, list):
        for inner in detail:
            yield from _faults(inner, path)
    else:
        yield {"field": path, "code": detail.code, "detail": str(detail)}


def bad_request(request: HttpRequest, exception: Exception) -> HttpResponseBase:
    """Django's handler400."""
    if not request.path.startswith(API_PATH):
        return defaults.bad_request(request, exception)
    return Problem(
        HTTPStatus.BAD_REQUEST, "request_not_readable", "The request cannot be read."
    ).as_response()


def not_found(request: HttpRequest, exception: Exception) -> HttpResponseBase:
    """Django's handler404: no such path."""
    if not request.path.startswith(API_PATH):
        return defaults.page_not_found(request, exception)
    return Problem(HTTPStatus.NOT_FOUND, "not_found", "There is nothing at this path.").as_response()


def server_error(request: HttpRequest) -> HttpResponse:
    """Django's handler500: a defect of ours, or a server of ours that is away; the log has the traceback."""
    if not request.path.startswith(API_PATH):
        return defaults.server_error(request)
    # Here and not in `handle`: a connection may be lost as late as in the commit.
    if _is_database_away(sys.exception()):
        detail = (
            "The database does not answer. Send the request again, with its Idempotency-Key if it had one."
        )
        away = Problem(HTTPStatus.SERVICE_UNAVAILABLE, "database_away", detail, {}, AWAY_SECONDS)
        return away.as_response()
    detail = "Something went wrong here. The request id finds it in the platform's log."
    return Problem(HTTPStatus.INTERNAL_SERVER_ERROR, "internal_error", detail).as_response()


def _is_database_away(error: BaseException | None) -> bool:
    """Whether the same request may do when it is sent again; drivers give errors without an answer no code."""
    if not isinstance(error, OperationalError | InterfaceError):
        return False
    code = getattr(error.__cause__, "sqlstate", None)
    return code is None or code.startswith(AWAY_CODES)
