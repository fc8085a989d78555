"""Prefix versions over HTTP: records, archives, the pointer and the way back."""

import base64
import hashlib
import io
import json
import zipfile

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from rest_framework.test import APIClient

from federation.models import Federation, PrefixVersion, PublishRecord
from federation.services import prefixes
from federation.states import FederationState
from tenants import scoping
from tenants.models import Tenant
from tests.api.problems import assert_same_as_unknown, faults, problem
from tests.factories import (
    EnrolmentFactory,
    EvaluationFactory,
    FederatedRoundFactory,
    FederationFactory,
    PrefixVersionFactory,
    prefix_bytes,
    ready_federation,
)
from tests.keys import get_remembered

pytestmark = pytest.mark.django_db


@pytest.fixture
def federation(acme: Tenant) -> Federation:
    """With version 0, and version 1 published; Acme takes part."""
    federation = ready_federation(n_tenants=1)
    EnrolmentFactory.create(tenant=acme, federation=federation)
    with scoping.platform():
        start = federation.published.version
        grown = PrefixVersionFactory.create(federation=federation, number=1, parent=start)
        prefixes.publish(version=grown, actor="gate", reason="better")
    FederatedRoundFactory.create(
        parent_version=start, candidate_version=grown, state="published", finished_at=grown.created_at
    )
    return federation


@pytest.fixture
def versions(federation: Federation) -> list[PrefixVersion]:
    return list(PrefixVersion.objects.filter(federation=federation).order_by("number"))


def test_versions_are_listed_with_lineage_and_scores(
    operator_client: APIClient, acme_client: APIClient, acme: Tenant, versions: list[PrefixVersion]
) -> None:
    start, grown = versions
    for tenant, accuracy in ((acme, 0.9), (None, 0.5)):
        owner = {"dataset__tenant": tenant} if tenant else {}
        EvaluationFactory.create(version=grown, accuracy=accuracy, **owner)
    path = f"/api/v1/federations/{start.federation.public_id}/prefix-versions"
    newest, oldest = operator_client.get(path).json()["results"]
    assert (newest["id"], newest["number"]) == (grown.public_id, 1)
    assert (newest["sha256"], newest["size_bytes"]) == (grown.sha256, grown.size_bytes)
    assert (newest["parent"], newest["is_published"]) == (start.public_id, True)
    assert newest["round"].startswith("rnd_")
    assert newest["scores"] == {"mean": 0.7, "worst": 0.5, "n_evaluations": 2, "n_rows": 40}
    assert (oldest["parent"], oldest["round"], oldest["is_published"], oldest["scores"]) == (
        None,
        None,
        False,
        None,
    )
    assert operator_client.get(f"/api/v1/prefix-versions/{grown.public_id}").json() == newest
    own = acme_client.get(f"/api/v1/prefix-versions/{grown.public_id}").json()["scores"]
    assert own == {"mean": 0.9, "worst": 0.9, "n_evaluations": 1, "n_rows": 20}


def test_an_archive_holds_an_adapter_and_its_digests(
    acme_client: APIClient, versions: list[PrefixVersion]
) -> None:
    path = f"/api/v1/prefix-versions/{versions[1].public_id}/archive"
    answer = acme_client.get(path, HTTP_ACCEPT="application/zip")
    assert (answer.status_code, answer["Content-Type"]) == (200, "application/zip")
    content = answer.getvalue()
    assert answer["Content-Length"] == str(len(content))
    digest = base64.b64encode(hashlib.sha256(content).digest()).decode()
    assert answer["Repr-Digest"] == f"sha-256=:{digest}:"
    assert answer["X-Prelude-Prefix-Sha256"] == versions[1].sha256
    assert answer["Cache-Control"] == "private, no-cache"
    assert answer["Content-Disposition"] == f'attachment; filename="{versions[1].public_id}.zip"'
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        assert archive.read("adapter_model.safetensors") == prefix_bytes(1)
        assert json.loads(archive.read("prelude.json"))["version"]["number"] == 1
    again = acme_client.get(path, HTTP_IF_NONE_MATCH=answer["ETag"])
    assert (again.status_code, again.content) == (304, b"")
    assert again["ETag"] == answer["ETag"]


def test_the_pointer_moves_back_and_is_on_record(
    operator_client: APIClient, acme_client: APIClient, federation: Federation, versions: list[PrefixVersion]
) -> None:
    start, grown = versions
    path = f"/api/v1/federations/{federation.public_id}"
    assert acme_client.get(f"{path}/published").json()["version"] == grown.public_id
    moved = operator_client.post(f"{path}/roll-back", {"version": start.public_id}, format="json")
    assert (moved.status_code, moved.json()["version"]) == (200, start.public_id)
    assert acme_client.get(f"{path}/published").json() == moved.json()
    record = PublishRecord.objects.latest("id")
    key = operator_client.get("/api/v1/me").json()["key"]["id"]
    assert (record.old, record.new, record.actor, record.reason) == (grown, start, f"key {key}", "roll-back")
    refused = operator_client.post(f"{path}/roll-back", {"version": start.public_id}, format="json")
    problem(refused, 409, "already_published")


def test_what_cannot_be_rolled_back_to(
    operator_client: APIClient, acme_client: APIClient, federation: Federation, versions: list[PrefixVersion]
) -> None:
    path = f"/api/v1/federations/{federation.public_id}/roll-back"
    elsewhere = PrefixVersionFactory.create()
    refused = operator_client.post(path, {"version": elsewhere.public_id}, format="json")
    problem(refused, 422, "version_of_another_federation")
    problem(operator_client.post(path, {"version": "pfx_1"}, format="json"), 404, "not_found")
    assert faults(operator_client.post(path, {}, format="json")) == {("version", "required")}
    refused = acme_client.post(path, {"version": versions[0].public_id}, format="json")
    problem(refused, 403, "operator_only")
    assert PublishRecord.objects.filter(reason="roll-back").count() == 0


def test_there_is_no_pointer_before_the_start(operator_client: APIClient) -> None:
    federation = FederationFactory.create(state=FederationState.PREPARING)
    problem(operator_client.get(f"/api/v1/federations/{federation.public_id}/published"), 404, "not_found")


def test_a_list_takes_as_many_queries_for_many_rows_as_for_one(
    operator_client: APIClient, versions: list[PrefixVersion]
) -> None:
    path = f"/api/v1/federations/{versions[0].federation.public_id}/prefix-versions"
    get_remembered(operator_client, path)
    with CaptureQueriesContext(connection) as few:
        operator_client.get(path)
    for number in range(2, 6):
        PrefixVersionFactory.create(federation=versions[0].federation, number=number, parent=versions[1])
    with CaptureQueriesContext(connection) as many:
        assert len(operator_client.get(path).json()["results"]) == 6
    assert len(many) == len(few)


def test_an_outsider_sees_none(globex_client: APIClient, versions: list[PrefixVersion]) -> None:
    for path in (
        "/api/v1/prefix-versions/{}",
        "/api/v1/prefix-versions/{}/archive",
        "/api/v1/evaluations?version={}",
    ):
        assert_same_as_unknown(globex_client, path, versions[1].public_id)
    federation = versions[0].federation.public_id
    for name in ("prefix-versions", "published"):
        assert_same_as_unknown(globex_client, f"/api/v1/federations/{{}}/{name}", federation)
    sent = {"data": {"version": versions[0].public_id}, "format": "json", "method": "post"}
    assert_same_as_unknown(globex_client, "/api/v1/federations/{}/roll-back", federation, **sent)
