"""The way of every request: who calls, on whose behalf the database is asked, what is addressed, may they do this."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from functools import cache
from typing import Any, ClassVar, TypeVar

from django.conf import settings
from django.db import models, transaction
from django.http import HttpRequest
from django.http.response import HttpResponseBase
from rest_framework import serializers
from rest_framework.exceptions import NotAuthenticated
from rest_framework.negotiation import BaseContentNegotiation, DefaultContentNegotiation
from rest_framework.parsers import BaseParser
from rest_framework.permissions import SAFE_METHODS, BasePermission
from rest_framework.renderers import BaseRenderer
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from api import rates
from api.authentication import Principal
from api.client_address import client_address
from api.fields import Body
from api.pagination import NewestFirst
from api.permissions import Anyone
from api.refusals import LengthRequired, RequestTooLarge
from api.rows import of_a_list
from api.schema import ProblemSchema
from tenants import acting, scoping
from tenants.errors import PreludeError, RightMissing
from tenants.failpoints import FailPoint, reach
from tenants.rights import Action, Resource, Right, right
from tenants.services.request_windows import Rate

M = TypeVar("M", bound=models.Model)


class OneRepresentation(BaseContentNegotiation):
    """Every resource has one representation, which is sent whatever `Accept` says (RFC 9110, 12.5.1 allows it)."""

    def select_parser(self, request: Request, parsers: list[BaseParser]) -> BaseParser | None:  # type: ignore[override]
        """By the body's content type."""
        return DefaultContentNegotiation().select_parser(request, parsers)

    def select_renderer(  # type: ignore[override]
        self, _request: Request, renderers: list[BaseRenderer], _format_suffix: str | None = None
    ) -> tuple[BaseRenderer, str]:
        """The only one."""
        return renderers[0], str(renderers[0].media_type)


class ApiView(APIView):
    """A view whose handlers run in the caller's scope, in one transaction, after `load` has found what is addressed.

    What a caller may not see is not there: `load` comes before the permission, so that another tenant's object is 404
    for every operation, and 403 only ever speaks of objects that the caller sees.
    """

    # What the operations are about, said by each view that has a route; None where every key will do.
    resource: ClassVar[Resource | None]
    # By method; methods that are missing are for anyone with a key.
    only: ClassVar[Mapping[str, type[BasePermission]]] = {}
    # False: the handlers enter `scope()` themselves, when their body has arrived.
    holds_transaction: ClassVar[bool] = True
    max_body_bytes: ClassVar[int] = settings.DATA_UPLOAD_MAX_MEMORY_SIZE or 0

    content_negotiation_class = OneRepresentation
    http_method_names = ["get", "head", "post", "put", "delete"]
    schema = ProblemSchema()

    _failed: bool = False
    _rate: Rate | None = None

    @property
    def principal(self) -> Principal:
        """The caller. Raises NotAuthenticated."""
        if not isinstance(self.request.auth, Principal):
            raise NotAuthenticated()
        return self.request.auth

    def load(self, **ids: str) -> None:
        """Find what the path's ids address, among what the scope in force may see. Raises NotFound."""

    def dispatch(self, request: HttpRequest, *_: Any, **ids: Any) -> HttpResponseBase:
        """Answer. The path's ids are for `load`, which finds what the handlers work on."""
        self._ids: dict[str, str] = ids
        reach(FailPoint.REQUEST_RECEIVED, str(request.method))
        with ExitStack() as self._open:
            response = super().dispatch(request)
        reach(FailPoint.REQUEST_COMMITTED, str(request.method))
        return response

    def check_permissions(self, request: Request) -> None:
        """Count the request, enter the scope, find what is addressed, and only then ask whether the caller may.

        Raises RightMissing.
        """
        self._rate = rates.count(self.principal)  # who does not say who they are learns nothing else
        rates.admit(self.principal, self._rate)
        if request.method not in self.allowed_methods:
            self.http_method_not_allowed(request)  # whatever is addressed, or not there
        self._open.enter_context(acting.by(self.principal.acting()))
        self._check_length(request)
        if self.holds_transaction:
            self._open.enter_context(self.scope())
        self.load(**self._ids)
        super().check_permissions(request)
        needed = self.right_for(request.method or "")
        if needed is not None and needed not in self.principal.rights:
            raise RightMissing(right=needed)

    def may_go_on(self) -> bool:
        """Whether the caller, asked for anew, may still do this: for answers that are written after the handler."""
        authenticator = self.request.successful_authenticator
        try:
            # The middleware that says where a request comes from has been left by then.
            with acting.through(acting.Origin(address=client_address(self.request.META))):
                _, caller = (authenticator and authenticator.authenticate(self.request)) or (None, None)
        except PreludeError:
            return False
        needed = self.right_for(self.request.method or "")
        return isinstance(caller, Principal) and (needed is None or needed in caller.rights)

    @classmethod
    def right_for(cls, method: str) -> Right | None:
        """The right that an operation takes besides a key."""
        if cls.resource is None:
            return None
        return right(cls.resource, Action.READ if method in ("GET", "HEAD") else Action.WRITE)

    def get_permissions(self) -> list[BasePermission]:
        """That of the request's method; a HEAD is a GET whose body is not sent."""
        method = "GET" if self.request.method == "HEAD" else self.request.method
        return [self.only.get(method or "", Anyone)()]

    @contextmanager
    def scope(self) -> Iterator[None]:
        """The caller's scope: a transaction, which an error answer rolls back; what only reads takes none."""
        tenant = self.principal.tenant
        if self.request.method in SAFE_METHODS:
            with scoping.reading(tenant.id if tenant else None):
                yield
            return
        with scoping.platform() if tenant is None else scoping.tenant(tenant.id):
            yield
            if self._failed:
                transaction.set_rollback(True)

    def handle_exception(self, exc: Exception) -> Response:
        """Answer an error; what was written before it is not kept."""
        self._failed = True
        return super().handle_exception(exc)

    def finalize_response(self, request: Request, response: Any, *args: Any, **kwargs: Any) -> Any:
        """The answer, with what is left of the caller's rate."""
        answer = super().finalize_response(request, response, *args, **kwargs)
        for name, value in rates.headers(self._rate).items() if self._rate else ():
            answer[name] = value
        return answer

    def _check_length(self, request: Request) -> None:
        if request.headers.get("Transfer-Encoding"):
            raise LengthRequired()
        if int(request.META.get("CONTENT_LENGTH") or 0) > self.max_body_bytes:
            raise RequestTooLarge(limit_bytes=self.max_body_bytes)

    def body(self, form: type[Body]) -> dict[str, Any]:
        """The request's body, validated. Raises ValidationError."""
        return _validated(form(data=self.request.data))

    def filters(self, form: type[Body]) -> dict[str, Any]:
        """The request's query, but for its paging, validated. Raises ValidationError."""
        paging = ("cursor", "page_size")
        query = {name: value for name, value in self.request.query_params.items() if name not in paging}
        return _validated(form(data=query)) if query else dict(_asked_by_nothing(form))

    def page(
        self,
        rows: models.QuerySet[M],
        serializer: type[serializers.Serializer[M]],
        *,
        paginator: type[NewestFirst] = NewestFirst,
        measure: Callable[[list[M]], object] | None = None,
    ) -> Response:
        """A page of a list; `measure` looks at its rows together for the serializer. Raises CursorInvalid."""
        pages = paginator()
        found = pages.paginate_queryset(of_a_list(rows, serializer), self.request, self)
        context = {"measures": measure(found)} if measure else {}
        written = serializer(found, many=True, context=context)  # type: ignore[arg-type]  # many=True takes a list
        return pages.get_paginated_response(written.data)

    def made(self, serializer: type[serializers.Serializer[M]], row: M) -> Response:
        """201 with the row, as the database has it now: some of its values are the database's."""
        row.refresh_from_db()
        return Response(serializer(row).data, 201)


@cache
def _asked_by_nothing(form: type[Body]) -> dict[str, Any]:
    """What an empty query means to a form: the same each time, and most lists are asked for without one."""
    return _validated(form(data={}))


def _validated(form: Body) -> dict[str, Any]:
    form.is_valid(raise_exception=True)
    return dict(form.validated_data)
