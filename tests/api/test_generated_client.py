"""A Python client that is generated from the committed document, against a running server."""

import importlib
import subprocess
import sys
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from types import ModuleType
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from pytest_django.live_server_helper import LiveServer

from tenants import scoping
from tenants.models import Tenant
from tests.factories import EnrolmentFactory, ready_federation
from tests.keys import new_key

pytestmark = pytest.mark.django_db(transaction=True)
DOCS = Path(__file__).resolve().parents[2] / "docs"
PACKAGE = "generated_client"
ROWS = b'{"text": "A good film", "label": "positive"}\n' * 3


@pytest.fixture(scope="module", autouse=True)
def package(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """The client's package, on the path. A warning of the generator is a failure: something would be missing."""
    directory = tmp_path_factory.mktemp("generated")
    command: list[str | Path] = [
        *(Path(sys.executable).parent / "openapi-python-client", "generate", "--fail-on-warning"),
        *("--path", DOCS / "openapi.json", "--config", DOCS / "python_client.yaml"),
        *("--meta", "none", "--output-path", directory / PACKAGE),
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    with pytest.MonkeyPatch.context() as patched:
        patched.syspath_prepend(str(directory))
        yield


def module(name: str) -> ModuleType:
    return importlib.import_module(f"{PACKAGE}.{name}")


def call(name: str, client: Any, *ids: str, **arguments: Any) -> Any:
    """An operation's answer, with status and headers."""
    return module(f"api.{name}").sync_detailed(*ids, client=client, **arguments)


def connected(live_server: LiveServer, text: str) -> Any:
    """A client that takes no answer which the document does not tell of; to be entered, so that it closes."""
    return module("client").AuthenticatedClient(
        base_url=live_server.url, token=text, raise_on_unexpected_status=True
    )


def key_text(tenant: Tenant | None) -> str:
    with scoping.platform():
        return new_key(tenant=tenant, name="generated").text


@pytest.fixture
def operator(live_server: LiveServer) -> Iterator[Any]:
    with connected(live_server, key_text(None)) as client:
        yield client


@pytest.fixture
def engineer(live_server: LiveServer, acme: Tenant) -> Iterator[Any]:
    with connected(live_server, key_text(acme)) as client:
        yield client


def test_an_operator_makes_a_tenant_and_the_tenant_uploads(live_server: LiveServer, operator: Any) -> None:
    models, types = module("models"), module("types")
    assert call("me.read_me", operator).parsed.kind is models.PrincipalKind.OPERATOR
    body = models.NewTenantRequest(name="Initech", slug="initech")
    tenant = call("tenants.create_tenant", operator, body=body).parsed
    assert isinstance(tenant, models.Tenant)
    assert tenant.state is models.TenantState.ACTIVE
    key = call("keys.create_key", operator, tenant.id, body=models.NewKeyRequest(name="ci")).parsed
    file = types.File(payload=BytesIO(ROWS), file_name="reviews.jsonl", mime_type="application/jsonl")
    upload = models.NewDatasetRequest(name="reviews", file=file)
    with connected(live_server, key.key) as programs:
        assert call("me.read_me", programs).parsed.tenant.id == tenant.id
        made = call("datasets.upload_dataset", programs, body=upload)
        assert made.status_code == 201, made.content
        assert made.parsed.state is models.DatasetState.VALIDATING
        assert call("datasets.read_dataset", programs, made.parsed.id).parsed == made.parsed
        assert call("datasets.delete_dataset", programs, made.parsed.id).status_code == 204


def test_a_list_is_followed_to_its_end(operator: Any, acme: Tenant, globex: Tenant) -> None:
    found, cursor = [], module("types").UNSET
    while cursor is not None:
        page = call("tenants.list_tenants", operator, cursor=cursor, page_size=1).parsed
        found += [tenant.name for tenant in page.results]
        cursor = parse_qs(urlsplit(page.next_).query)["cursor"][0] if page.next_ else None
    assert found == ["Globex", "Acme"]


def test_refusals_are_typed(engineer: Any, operator: Any) -> None:
    models = module("models")
    unknown = call("datasets.read_dataset", engineer, "dst_unknown")
    assert unknown.status_code == 404
    assert isinstance(unknown.parsed, models.Problem)
    assert (unknown.parsed.code, unknown.parsed.status) == ("not_found", 404)
    assert unknown.parsed.request_id == unknown.headers["X-Request-ID"]
    invalid = call("tenants.create_tenant", operator, body=models.NewTenantRequest(name="", slug="A")).parsed
    assert {fault.field for fault in invalid.errors} == {"name", "slug"}


def test_an_idempotency_key_and_a_precondition_are_arguments(operator: Any, acme: Tenant) -> None:
    models = module("models")
    body = models.NewTenantRequest(name="Hooli", slug="hooli")
    first, again = (
        call("tenants.create_tenant", operator, body=body, idempotency_key="once") for _ in range(2)
    )
    assert again.headers["Idempotent-Replayed"] == "true"
    assert again.parsed == first.parsed
    seen = call("tenants.read_tenant", operator, acme.public_id).headers["ETag"]
    unchanged = call("tenants.read_tenant", operator, acme.public_id, if_none_match=seen)
    assert (unchanged.status_code, unchanged.parsed) == (304, None)
    changed = models.TenantChangeRequest(name="Acme Ltd", state=models.TenantState.SUSPENDED)
    statuses = [
        call("tenants.change_tenant", operator, acme.public_id, body=changed, if_match=seen).status_code
        for _ in range(2)
    ]
    assert statuses == [200, 412]


def test_either_body_of_an_enrolment_and_what_is_no_json(operator: Any, engineer: Any, acme: Tenant) -> None:
    models = module("models")
    place = EnrolmentFactory.create(tenant=acme, federation=ready_federation(n_tenants=0))
    assert place.dataset is not None
    acceptance = models.AcceptanceRequest(dataset=place.dataset.public_id)
    federation = place.federation.public_id
    taken = call("enrolments.enrol", engineer, federation, body=acceptance).parsed
    assert taken.state is models.EnrolmentState.ACTIVE
    invitation = models.InvitationRequest(tenant=acme.public_id)
    assert call("enrolments.enrol", operator, federation, body=invitation).parsed.code == "already_invited"
    version = call("prefix_versions.read_published", engineer, federation).parsed.version
    archive = call("prefix_versions.download_prefix_version", engineer, version).parsed
    assert archive.payload.read(2) == b"PK"
    assert "api_key.created" in call("audit.export_audit_entries", operator).parsed
