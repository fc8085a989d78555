"""The OpenAPI document: whole, named, and the truth about every path."""

import json
from collections.abc import Iterator
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from django.contrib.staticfiles import finders
from django.core.management import call_command
from django.test import Client
from rest_framework.test import APIClient

from api.schema import ProblemSchema
from federation.states import RoundState

DOCUMENT = "/api/v1/openapi.json"
COMMITTED = Path(__file__).resolve().parents[2] / "docs" / "openapi.json"


@pytest.fixture(scope="module")
def document() -> dict[str, Any]:
    answer = Client().get(DOCUMENT)
    assert answer.status_code == 200
    found: dict[str, Any] = answer.json()
    return found


def operations(document: dict[str, Any]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            yield path, method, operation


def test_the_document_is_valid_and_without_a_warning() -> None:
    call_command("spectacular", "--validate", "--fail-on-warn", stdout=StringIO())


def test_the_committed_document_is_the_codes_own(document: dict[str, Any]) -> None:
    is_current = json.loads(COMMITTED.read_text()) == document
    assert is_current, "docs/openapi.json is not what the code says: run `make openapi` and commit it"


def test_whoever_asks_again_lets_nothing_be_drawn_anew(
    document: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ProblemSchema, "get_operation", None)
    assert Client().get(DOCUMENT, {"version": "2", "lang": "de"}).json() == document


def test_every_operation_of_the_contract_is_there(document: dict[str, Any]) -> None:
    found = {f"{method.upper()} {path.removeprefix('/api/v1')}" for path, method, _ in operations(document)}
    assert found == set(
        """GET /me
        GET /tenants|POST /tenants|GET /tenants/{tenant_id}|PUT /tenants/{tenant_id}
        GET /tenants/{tenant_id}/keys|POST /tenants/{tenant_id}/keys|DELETE /tenants/{tenant_id}/keys/{key_id}
        POST /tenants/{tenant_id}/keys/{key_id}/rotate
        GET /tenants/{tenant_id}/members|POST /tenants/{tenant_id}/members
        GET /tenants/{tenant_id}/members/{member_id}
        PUT /tenants/{tenant_id}/members/{member_id}|DELETE /tenants/{tenant_id}/members/{member_id}
        GET /tenants/{tenant_id}/limits|PUT /tenants/{tenant_id}/limits
        GET /tenants/{tenant_id}/limits/standing|GET /tenants/{tenant_id}/usage
        GET /datasets|POST /datasets|GET /datasets/{dataset_id}|DELETE /datasets/{dataset_id}
        GET /base-models|POST /base-models|GET /base-models/{base_model_id}
        GET /federation-presets
        GET /federations|POST /federations|GET /federations/{federation_id}|PUT /federations/{federation_id}
        GET /federations/{federation_id}/enrolments|POST /federations/{federation_id}/enrolments
        GET /federations/{federation_id}/enrolments/{enrolment_id}
        DELETE /federations/{federation_id}/enrolments/{enrolment_id}
        GET /federations/{federation_id}/rounds|POST /federations/{federation_id}/rounds
        GET /federations/{federation_id}/campaigns|POST /federations/{federation_id}/campaigns
        GET /campaigns/{campaign_id}|POST /campaigns/{campaign_id}/cancel
        GET /federations/{federation_id}/personal-prefixes|POST /federations/{federation_id}/personal-prefixes
        GET /personal-prefixes/{personal_prefix_id}|DELETE /personal-prefixes/{personal_prefix_id}
        GET /personal-prefixes/{personal_prefix_id}/archive
        GET /rounds/{round_id}|POST /rounds/{round_id}/cancel|GET /rounds/{round_id}/events|GET /events
        GET /events/stream
        GET /local-runs|GET /local-runs/{local_run_id}|GET /evaluations
        GET /federations/{federation_id}/prefix-versions
        GET /prefix-versions/{version_id}|GET /prefix-versions/{version_id}/archive
        GET /federations/{federation_id}/published|POST /federations/{federation_id}/roll-back
        GET /federations/{federation_id}/schedule|PUT /federations/{federation_id}/schedule
        DELETE /federations/{federation_id}/schedule
        GET /webhooks|POST /webhooks|GET /webhooks/{webhook_id}|PUT /webhooks/{webhook_id}
        DELETE /webhooks/{webhook_id}|POST /webhooks/{webhook_id}/secrets|POST /webhooks/{webhook_id}/test
        GET /webhooks/{webhook_id}/deliveries
        GET /webhook-deliveries/{delivery_id}|POST /webhook-deliveries/{delivery_id}/resend
        GET /audit-entries|GET /audit-entries/export""".replace("\n        ", "|").split("|")
    )


def test_every_operation_is_named_tagged_and_tells_its_problems(document: dict[str, Any]) -> None:
    names = [operation["operationId"] for _, _, operation in operations(document)]
    assert len(set(names)) == len(names)
    for path, method, operation in operations(document):
        told = f"{method} {path}"
        assert operation["tags"], told
        assert operation["description"], told
        assert operation["security"] == [{"ApiKey": []}], told
        statuses = set(operation["responses"])
        assert {"400", "401", "403", "422"} <= statuses, told
        assert ("{" not in path) or "404" in statuses, told
        assert any(status.startswith("2") for status in statuses), told
        for status, answer in operation["responses"].items():
            if status.startswith("4"):
                assert set(answer["content"]) == {"application/problem+json"}, told


def test_every_operation_tells_of_its_rate(document: dict[str, Any]) -> None:
    described = document["components"]["headers"]
    assert set(described) == {"RateLimit-Limit", "RateLimit-Remaining", "RateLimit-Reset", "Retry-After"}
    for path, method, operation in operations(document):
        refused = operation["responses"]["429"]["headers"]
        assert set(refused) == set(described), f"{method} {path}"
        for status, answer in operation["responses"].items():
            if status.startswith("2"):
                assert set(answer["headers"]) >= set(described) - {"Retry-After"}, f"{method} {path}"


def test_enums_have_names_and_all_their_values(document: dict[str, Any]) -> None:
    schemas = document["components"]["schemas"]
    assert schemas["RoundState"]["enum"] == RoundState.values
    assert schemas["Round"]["properties"]["state"]["$ref"] == "#/components/schemas/RoundState"
    assert not [name for name in schemas if name.endswith("Enum")]


def test_the_specification_is_described_to_its_last_field(document: dict[str, Any]) -> None:
    schemas = document["components"]["schemas"]
    reference = {"$ref": "#/components/schemas/FederationSpecification"}
    assert schemas["Federation"]["properties"]["specification"] == reference
    assert schemas["NewFederationRequest"]["properties"]["specification"] == reference
    assert schemas["FederationSpecification"]["required"] == ["method", "task"]
    assert schemas["Training"]["properties"]["n_steps"]["maximum"] == 100_000


def test_an_upload_is_described_as_a_form_with_a_file(document: dict[str, Any]) -> None:
    body = document["paths"]["/api/v1/datasets"]["post"]["requestBody"]["content"]
    assert set(body) == {"multipart/form-data"}
    file = document["components"]["schemas"]["NewDatasetRequest"]["properties"]["file"]
    assert file["format"] == "binary"


def test_unknown_fields_are_told_to_be_refused(document: dict[str, Any]) -> None:
    bodies = [body for name, body in document["components"]["schemas"].items() if name.endswith("Request")]
    assert bodies
    assert all(body.get("additionalProperties") is False or "oneOf" in body for body in bodies)


def test_the_page_needs_nothing_from_outside() -> None:
    page = APIClient().get("/api/v1/docs")
    assert page.status_code == 200
    text = page.content.decode()
    assert "http://" not in text
    assert "https://" not in text
    assert "drf_spectacular_sidecar/swagger-ui-dist" in text
    assert finders.find("drf_spectacular_sidecar/swagger-ui-dist/swagger-ui-bundle.js")
