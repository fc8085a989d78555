"""Every refusal has a status and a text; every error answer has one shape."""

import importlib
import inspect
import pkgutil
from collections.abc import Iterator
from http import HTTPStatus
from types import ModuleType
from typing import Any, ClassVar

import httpx
import psycopg
import pytest
from django.db import OperationalError
from django.urls import path
from pytest_django import Settings
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.test import APIClient

import api
import federation
import tenants
from api.errors import NEVER_ANSWERED, STATUSES, problem_of
from api.views import ApiView
from deploy.wsgi import application
from federation.errors import FederationNotReady, RoundStateConflict, SpecificationInvalid
from tenants import scoping
from tenants.errors import LeaseLost, PreludeError
from tenants.models import Tenant
from tenants.services.tenants import create_tenant
from tests.api.problems import faults, problem
from tests.keys import new_key

_ROOMS = (tenants, federation, api)
_EXAMPLES: dict[object, object] = {
    str: "example",
    int: 7,
    float: 0.5,
    list[str]: ["one"],
    tuple[int, ...]: (1, 2),
    object: "example",
}


def _modules(room: ModuleType) -> Iterator[ModuleType]:
    for found in pkgutil.walk_packages(room.__path__, f"{room.__name__}."):
        if ".migrations" not in found.name:
            yield importlib.import_module(found.name)


def _refusals() -> list[type[PreludeError]]:
    classes = {
        kind
        for room in _ROOMS
        for module in _modules(room)
        for kind in vars(module).values()
        if isinstance(kind, type) and issubclass(kind, PreludeError)
    }
    return sorted(classes, key=lambda kind: f"{kind.__module__}.{kind.__name__}")


def _constructed(kind: type[PreludeError]) -> PreludeError:
    parameters = inspect.signature(kind, eval_str=True).parameters.values()
    named = [parameter for parameter in parameters if parameter.kind is parameter.KEYWORD_ONLY]
    return kind(**{parameter.name: _EXAMPLES[parameter.annotation] for parameter in named})


CONCRETE = [kind for kind in _refusals() if kind.__init__ is not PreludeError.__init__]


def test_the_walk_finds_the_refusals_of_every_room() -> None:
    assert len(CONCRETE) > 50
    assert {kind.__module__.partition(".")[0] for kind in CONCRETE} == {"tenants", "federation", "api"}


@pytest.mark.parametrize("kind", CONCRETE, ids=lambda kind: kind.__name__)
def test_every_refusal_has_a_place_in_the_table_a_code_and_a_text(kind: type[PreludeError]) -> None:
    is_answered = any(base in STATUSES for base in kind.__mro__)
    assert is_answered != issubclass(kind, NEVER_ANSWERED), "in the table, or never answered: one of the two"
    error = _constructed(kind)
    assert len(str(error)) > 20
    assert kind.__doc__
    told = problem_of(error)
    if is_answered:
        assert told is not None
        assert (told.code, told.detail) == (kind.code, str(error))
        assert 400 <= told.status < 500
    else:
        assert told is None


def test_no_two_refusals_share_a_code() -> None:
    assert len({kind.code for kind in CONCRETE}) == len(CONCRETE)


def test_a_class_stands_for_those_that_derive_from_it() -> None:
    told = problem_of(RoundStateConflict(round_id="rnd_1", state="failed", wanted="canceled"))
    assert told is not None
    assert told.status == HTTPStatus.CONFLICT


def test_a_faulty_field_is_named() -> None:
    told = problem_of(SpecificationInvalid(field="gate.tolerance", problem="too large"))
    assert told is not None
    assert told.body()["field"] == "gate.tolerance"


class Failing(ApiView):
    """Makes a tenant, and then fails as the test wants it."""

    resource = None
    error: ClassVar[Exception]

    def post(self, _: Request) -> Response:
        """Fail."""
        create_tenant(name="Left behind", slug="left-behind")
        raise self.error


urlpatterns = [path("api/v1/failing", Failing.as_view())]
handler400 = "api.errors.bad_request"
handler404 = "api.errors.not_found"
handler500 = "api.errors.server_error"


@pytest.fixture
def failing_client(operator_client: APIClient, settings: Settings) -> APIClient:
    settings.ROOT_URLCONF = __name__
    operator_client.raise_request_exception = False
    return operator_client


@pytest.mark.parametrize(
    ("error", "status", "code"),
    [
        (FederationNotReady(federation_id="fed_1", state="preparing"), 409, "federation_not_ready"),
        (LeaseLost(public_id="run_1", attempt=2), 500, "internal_error"),
        (RuntimeError("a secret of ours"), 500, "internal_error"),
        (OperationalError("the secret of a connection"), 503, "database_away"),
    ],
)
def test_an_error_rolls_back_what_its_request_wrote(
    failing_client: APIClient, platform_scope: None, error: Exception, status: int, code: str
) -> None:
    Failing.error = error
    body = problem(failing_client.post("/api/v1/failing"), status, code)
    assert "secret" not in str(body)
    assert not Tenant.objects.filter(slug="left-behind").exists()


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("cause", "status"),
    [
        (psycopg.OperationalError("server closed the connection unexpectedly"), 503),
        (psycopg.errors.AdminShutdown(), 503),
        (psycopg.errors.CannotConnectNow(), 503),
        (psycopg.errors.DeadlockDetected(), 500),
    ],
)
def test_a_database_that_is_away_is_no_defect(
    failing_client: APIClient, cause: Exception, status: int
) -> None:
    Failing.error = OperationalError("a secret of ours")
    Failing.error.__cause__ = cause
    answer = failing_client.post("/api/v1/failing")
    assert (answer.status_code, answer.get("Retry-After")) == (status, "5" if status == 503 else None)


@pytest.mark.django_db
def test_an_unknown_path_below_the_api_is_a_problem(operator_client: APIClient) -> None:
    problem(operator_client.get("/api/v1/nothing"), 404, "not_found")
    problem(operator_client.get("/api/v1/tenants/"), 404, "not_found")
    assert operator_client.get("/nothing")["Content-Type"].startswith("text/html")


@pytest.mark.django_db
def test_a_method_that_there_is_not_is_a_problem(operator_client: APIClient) -> None:
    refused = operator_client.patch("/api/v1/tenants", {}, format="json")
    problem(refused, 405, "method_not_allowed")
    assert refused["Allow"] == "GET, HEAD, POST"
    problem(operator_client.options("/api/v1/tenants"), 405, "method_not_allowed")


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("body", "content_type", "status", "code"),
    [
        (b"{", "application/json", 400, "parse_error"),
        (b"\xff", "application/json", 400, "parse_error"),
        (b'{"name": NaN}', "application/json", 400, "parse_error"),
        (b'{"\\ud800": 1}', "application/json", 400, "request_not_readable"),
        (b"[" * 200_000, "application/json", 400, "request_not_readable"),
        (b" " * (2**20 + 1), "application/json", 413, "request_too_large"),
        (b"name=Acme", "application/x-www-form-urlencoded", 415, "unsupported_media_type"),
    ],
)
def test_a_body_that_cannot_be_read_is_a_problem(
    operator_client: APIClient, body: bytes, content_type: str, status: int, code: str
) -> None:
    refused = operator_client.post("/api/v1/tenants", body, content_type=content_type)
    problem(refused, status, code)


@pytest.fixture
def over_wsgi(db: None) -> httpx.Client:
    """An operator's client of what the server runs; Django's own test client enters behind it."""
    with scoping.platform():
        key = new_key(tenant=None)
    headers = {"Authorization": f"Bearer {key.text}"}
    transport = httpx.WSGITransport(application)
    return httpx.Client(transport=transport, base_url="http://testserver", headers=headers)


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize(
    "charset",
    [
        *("=zlib", "=rot13", "=idna", "=undefined", "=utf-16", "=latin-1", "=nobodys", "="),
        *("*=utf-8''rot13", "*=undefined''utf-8", "*=nobodys''utf-8", "*0=ro; charset*1=t13"),
    ],
)
def test_a_body_in_another_charset_is_refused_and_a_query_is_utf8(
    over_wsgi: httpx.Client, charset: str
) -> None:
    for content_type in ("text/plain", "application/json", "multipart/form-data; boundary=B"):
        headers = {"Content-Type": f"{content_type}; charset{charset}"}
        refused = over_wsgi.post("/api/v1/tenants?%41=%C3%84", content=b"{}", headers=headers)
        assert (refused.status_code, refused.json()["code"]) == (415, "unsupported_media_type")
        assert over_wsgi.get("/api/v1/tenants?page_size=%35", headers=headers).status_code == 200
        assert over_wsgi.get("/console/login/?next=%2F", headers=headers).status_code == 200


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("charset", ["utf-8", '"UTF-8"', "utf8"])
def test_utf8_may_be_announced_by_any_of_its_names(over_wsgi: httpx.Client, charset: str) -> None:
    answer = over_wsgi.post(
        "/api/v1/tenants",
        content='{"name": "Ärzte", "slug": "aerzte"}'.encode(),
        headers={"Content-Type": f"application/json; charset={charset}"},
    )
    assert answer.status_code == 201, answer.content
    assert answer.json()["name"] == "Ärzte"


@pytest.mark.django_db
def test_a_body_without_a_length_is_refused(operator_client: APIClient) -> None:
    refused = operator_client.post("/api/v1/tenants", {}, format="json", HTTP_TRANSFER_ENCODING="chunked")
    problem(refused, 411, "length_required")


@pytest.mark.django_db
def test_faults_of_inner_fields_have_dotted_paths(acme_client: APIClient) -> None:
    refused = acme_client.get("/api/v1/evaluations?version=&strange=1")
    assert faults(refused) == {("strange", "unknown_field")}


@pytest.mark.django_db
@pytest.mark.parametrize(("sent", "is_taken"), [("abc-1.2_3", True), ("a b", False), ("x" * 65, False)])
def test_a_harmless_request_id_is_taken_over(operator_client: APIClient, sent: str, is_taken: bool) -> None:
    answer: Any = operator_client.get("/api/v1/me", HTTP_X_REQUEST_ID=sent)
    assert (answer["X-Request-ID"] == sent) is is_taken
    assert is_taken or answer["X-Request-ID"].startswith("req_")


@pytest.mark.django_db
def test_a_method_that_a_path_does_not_have_says_nothing_of_what_is_addressed(
    globex_client: APIClient, acme: Tenant
) -> None:
    for tenant_id in (acme.public_id, f"tnt_{'0' * 26}"):
        answer = globex_client.patch(f"/api/v1/tenants/{tenant_id}")
        problem(answer, 405, "method_not_allowed")
        assert answer["Allow"] == "GET, HEAD, PUT"
