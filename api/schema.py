"""The OpenAPI document: what every operation says besides its own request and response."""

from collections.abc import Callable
from functools import cache
from http import HTTPStatus
from typing import Any, TypeVar

from drf_spectacular.extensions import OpenApiAuthenticationExtension
from drf_spectacular.generators import SchemaGenerator
from drf_spectacular.openapi import AutoSchema
from drf_spectacular.plumbing import ComponentRegistry, ResolvedComponent
from drf_spectacular.utils import PolymorphicProxySerializer, extend_schema
from rest_framework import serializers

from api import idempotency, preconditions, rates

_F = TypeVar("_F", bound=Callable[..., Any])


class ApiKeyScheme(OpenApiAuthenticationExtension):  # type: ignore[no-untyped-call]
    """API keys in the OpenAPI document."""

    target_class = "api.authentication.ApiKeyAuthentication"
    name = "ApiKey"

    def get_security_definition(self, _auto_schema: AutoSchema) -> dict[str, str]:
        """A bearer token."""
        return {"type": "http", "scheme": "bearer", "bearerFormat": "prl_…"}


class FaultSerializer(serializers.Serializer[Any]):
    """One faulty field of a request."""

    field = serializers.CharField(help_text="Dotted path; empty for the request as a whole.")
    code = serializers.CharField()
    detail = serializers.CharField()


class ProblemSerializer(serializers.Serializer[Any]):
    """Problem details (RFC 9457). `code` is stable; `detail` is for people."""

    type = serializers.CharField()
    title = serializers.CharField()
    status = serializers.IntegerField()
    detail = serializers.CharField()
    code = serializers.CharField()
    field = serializers.CharField(required=False, help_text="The faulty field, where a single one is.")
    limit = serializers.IntegerField(required=False, help_text="Of a rate or quota that is used up.")
    used = serializers.IntegerField(required=False, help_text="What is used of that limit.")
    errors = FaultSerializer(many=True, required=False)  # type: ignore[assignment]  # hides Serializer.errors
    request_id = serializers.CharField()


class DrawnOnce(SchemaGenerator):
    """Draws the document once a process: that takes a tenth of a second, and whoever has no key may ask for it."""

    def get_schema(self, *_args: Any, **_options: Any) -> dict[str, Any]:
        """The document, which is the same for everybody, whoever asks for it how."""
        return _document()


class ProblemSchema(AutoSchema):
    """Adds to each operation the problems that the views' common ground may answer."""

    def get_operation(
        self, path: str, path_regex: str, path_prefix: str, method: str, registry: ComponentRegistry
    ) -> dict[str, Any] | None:
        """The operation, with its problems."""
        operation = super().get_operation(path, path_regex, path_prefix, method, registry)
        if operation is None:
            return None
        problem = self.resolve_serializer(ProblemSerializer(), "response").ref
        for status in self._problem_statuses(operation):
            operation["responses"].setdefault(
                str(int(status)),
                {
                    "description": status.phrase,
                    "content": {"application/problem+json": {"schema": problem}},
                },
            )
        if self._handler_is("takes_idempotency_key"):
            _add_idempotency_key(operation)
        if self._handler_is("is_conditional"):
            _add_preconditions(operation, is_read=self.method == "GET")
        _add_rate(operation, registry)
        return operation

    def _get_request_for_media_type(self, serializer: Any, direction: str = "request") -> tuple[Any, bool]:
        """A body that is one of several forms is required as any other; the base class cannot tell."""
        schema, is_required = super()._get_request_for_media_type(serializer, direction)  # type: ignore[no-untyped-call]
        return schema, is_required or isinstance(serializer, PolymorphicProxySerializer)

    def _handler_is(self, mark: str) -> bool:
        return getattr(getattr(self.view, self.method.lower()), mark, False)

    def _problem_statuses(self, operation: dict[str, Any]) -> list[HTTPStatus]:
        statuses = [
            HTTPStatus.BAD_REQUEST,
            HTTPStatus.UNAUTHORIZED,
            HTTPStatus.FORBIDDEN,
            HTTPStatus.LENGTH_REQUIRED,
            HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
            HTTPStatus.UNPROCESSABLE_ENTITY,
            HTTPStatus.TOO_MANY_REQUESTS,
            HTTPStatus.SERVICE_UNAVAILABLE,
        ]
        if self.method != "GET":
            statuses.append(HTTPStatus.CONFLICT)
        if operation.get("parameters") or "requestBody" in operation:  # there are ids in them
            statuses.append(HTTPStatus.NOT_FOUND)
        if "requestBody" in operation:
            statuses.append(HTTPStatus.UNSUPPORTED_MEDIA_TYPE)
        if self._handler_is("is_conditional"):
            statuses.append(HTTPStatus.PRECONDITION_FAILED)
        return sorted(statuses)


@cache
def _document() -> dict[str, Any]:
    drawn: dict[str, Any] = SchemaGenerator().get_schema(public=True)  # type: ignore[no-untyped-call]
    return drawn


def _add_rate(operation: dict[str, Any], registry: ComponentRegistry) -> None:
    """Every answer to a tenant tells of its rate; it is described for those of success and for the refusal.

    And when to come again, where it is too early.
    """
    headers = {name: _header(registry, name, text) for name, text in rates.HEADERS.items()}
    refused = str(int(HTTPStatus.TOO_MANY_REQUESTS))
    for status, answer in operation["responses"].items():
        if status.startswith("2") or status == refused:
            answer.setdefault("headers", {}).update(headers)
    retry_after = _header(registry, "Retry-After", "Seconds until it is worth another try.")
    for status in (refused, str(int(HTTPStatus.SERVICE_UNAVAILABLE))):
        operation["responses"][status].setdefault("headers", {})["Retry-After"] = retry_after


def _header(registry: ComponentRegistry, name: str, text: str) -> dict[str, Any]:
    described = {"schema": {"type": "integer", "minimum": 0}, "description": text}
    component = ResolvedComponent(  # type: ignore[no-untyped-call]
        name, ResolvedComponent.HEADER, described, object=name
    )
    registry.register_on_missing(component)
    return dict(component.ref)


def _add_idempotency_key(operation: dict[str, Any]) -> None:
    key = {
        "in": "header",
        "name": idempotency.HEADER,
        "schema": {"type": "string", "pattern": idempotency.PATTERN, "maxLength": idempotency.MAX_LENGTH},
        "description": "Sent again within 24 hours with the same request, it gets the same answer; with another: 409.",
    }
    operation.setdefault("parameters", []).append(key)
    replayed = {"schema": {"const": "true"}, "description": "The answer is that of the key's first request."}
    for status, answer in operation["responses"].items():
        if status.startswith("2"):
            answer.setdefault("headers", {})[idempotency.REPLAYED] = replayed


def _add_preconditions(operation: dict[str, Any], *, is_read: bool) -> None:
    told = {
        preconditions.IF_MATCH: "ETags, or `*` for any: without a match nothing is done, and 412 answered.",
        preconditions.IF_NONE_MATCH: "ETags, or `*` for any: with a match nothing is done, and "
        + (
            "304 answered."
            if is_read
            else "412 answered; `*` alone lets the request through where nothing is."
        ),
    }
    operation.setdefault("parameters", []).extend(
        {"in": "header", "name": name, "schema": {"type": "string"}, "description": description}
        for name, description in told.items()
    )
    etag = {"schema": {"type": "string"}, "description": "Tells this representation from others (strong)."}
    if is_read:
        operation["responses"]["304"] = {"description": "The caller's copy is what is there."}
    for status, answer in operation["responses"].items():
        if ("content" in answer and status.startswith("2")) or status == "304":
            answer.setdefault("headers", {})[preconditions.ETAG] = etag


def operation(
    name: str, *, tag: str, answer: Any = None, status: int = 200, body: Any = None, filters: Any = None
) -> Callable[[_F], _F]:
    """Describe a handler: its stable operation id, what it reads, what it answers when all is well."""
    return extend_schema(
        operation_id=name,
        tags=[tag],
        request=body,
        responses={status: answer},
        parameters=[filters] if filters else None,
    )


@cache  # two lists of the same rows have one schema
def page_of(serializer: type[serializers.Serializer[Any]]) -> Any:
    """The schema of a page of `serializer`'s rows, for a list's handler."""
    name = serializer.__name__.replace("Serializer", "PageSerializer")
    links = {name: serializers.URLField(allow_null=True) for name in ("next", "previous")}
    fields = {**links, "results": serializer(many=True)}
    return type(name, (serializers.Serializer,), {"__doc__": "A page of a list.", **fields})


def paged(
    name: str, *, tag: str, rows: type[serializers.Serializer[Any]], filters: Any = None
) -> Callable[[_F], _F]:
    """Describe a list's handler."""
    parameters = [PageQuery, *([filters] if filters else [])]
    return extend_schema(operation_id=name, tags=[tag], parameters=parameters, responses={200: page_of(rows)})


class PageQuery(serializers.Serializer[Any]):
    """Which page of a list."""

    cursor = serializers.CharField(required=False, help_text="From `next` or `previous` of another page.")
    page_size = serializers.IntegerField(required=False, min_value=1, max_value=200, default=50)
