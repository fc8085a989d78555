"""Personal prefixes over HTTP: the tenant's own, and nobody else's."""

import io
import json
import zipfile
from typing import Any

import pytest
from rest_framework.test import APIClient

from federation.models import Federation, PersonalPrefix
from tenants import scoping
from tenants.models import Tenant, UsageDay
from tenants.rights import ROLE_RIGHTS
from tenants.states import Role
from tests.api.problems import assert_same_as_unknown, faults, problem
from tests.claims import claim
from tests.factories import EnrolmentFactory, PersonalPrefixFactory, prefix_bytes, ready_federation
from tests.federation.test_personal_prefixes import complete
from tests.keys import new_client

pytestmark = pytest.mark.django_db
ROW = "/api/v1/personal-prefixes/{}"
ARCHIVE = ROW + "/archive"


@pytest.fixture
def federation(acme: Tenant) -> Federation:
    return EnrolmentFactory.create(tenant=acme, federation=ready_federation(n_tenants=1)).federation


@pytest.fixture
def path(federation: Federation) -> str:
    return f"/api/v1/federations/{federation.public_id}/personal-prefixes"


def grow(client: APIClient, path: str, **body: Any) -> Any:
    return client.post(path, {"rule": "fine_tune", **body}, format="json")


def completed(public_id: str, content: bytes = prefix_bytes(9)) -> PersonalPrefix:
    """As a worker completes it."""
    with scoping.platform():
        pk = PersonalPrefix.key_from(public_id)
        claimed = claim(PersonalPrefix, pk, owner="worker")
    return complete(claimed, content)


def members(response: Any) -> dict[str, bytes]:
    assert response.status_code == 200
    with zipfile.ZipFile(io.BytesIO(response.getvalue())) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def test_a_tenant_grows_reads_and_deletes_its_own(
    acme_client: APIClient, path: str, federation: Federation
) -> None:
    made = grow(acme_client, path, n_steps=5)
    assert made.status_code == 201, made.content
    body = made.json()
    with scoping.platform():
        assert body["version"] == federation.published.version.public_id, "the published one"
    assert (body["state"], body["rule"], body["n_steps"]) == ("queued", "fine_tune", 5)
    assert (body["accuracy"], body["is_better"], body["size_bytes"]) == (None, None, None)
    completed(body["id"])
    read = acme_client.get(ROW.format(body["id"])).json()
    assert (read["state"], read["shared_accuracy"], read["accuracy"]) == ("completed", 0.7, 0.8)
    assert (read["n_rows"], read["is_better"]) == (20, True)
    assert acme_client.get(path).json()["results"] == [read]
    assert acme_client.delete(ROW.format(body["id"])).status_code == 204
    assert acme_client.get(path).json()["results"] == []
    problem(acme_client.get(ARCHIVE.format(body["id"])), 404, "not_found")


def test_refusals_have_their_codes(acme_client: APIClient, path: str) -> None:
    assert faults(grow(acme_client, path, rule="magic")) == {("rule", "invalid_choice")}
    refused = problem(grow(acme_client, path, proximal=1.0), 422, "personal_rule_invalid")
    assert refused["field"] == "proximal"
    assert "by the rule 'fine_tune' cannot be grown: proximal is no setting of it." in refused["detail"]
    too_fast = problem(grow(acme_client, path, learning_rate=1.0), 422, "personal_rule_invalid")
    assert "not valid: with adamw it must be at most" in too_fast["detail"]
    foreign = PersonalPrefixFactory.create().version.public_id
    problem(grow(acme_client, path, version=foreign), 404, "not_found")
    with scoping.platform():
        known = grow(acme_client, path).json()["id"]
    problem(acme_client.get(ARCHIVE.format(known)), 409, "personal_prefix_not_completed")


def test_an_invited_tenant_grows_none_yet(globex_client: APIClient, globex: Tenant, path: str) -> None:
    federation_id = path.split("/")[4]
    with scoping.platform():
        federation = Federation.objects.get(pk=Federation.key_from(federation_id))
    EnrolmentFactory.create(tenant=globex, federation=federation, state="invited", dataset=None)
    problem(grow(globex_client, path), 409, "enrolment_not_active")


def test_the_archive_is_the_grown_adapters_directory(
    acme_client: APIClient, acme: Tenant, path: str, federation: Federation
) -> None:
    grown = completed(grow(acme_client, path).json()["id"])
    response = acme_client.get(ARCHIVE.format(grown.public_id))
    found = members(response)
    assert found["adapter_model.safetensors"] == prefix_bytes(9)
    assert json.loads(found["adapter_config.json"]) == federation.configuration
    about = json.loads(found["prelude.json"])
    assert about["personal_prefix"] == {"id": grown.public_id, "rule": "fine_tune"}
    assert about["grown_from"]["number"] == 0
    assert "version" not in about
    assert "label_log_prior" not in about
    assert b"a personal prefix grown from version 0" in found["README.md"]
    assert response["Cache-Control"] == "private, no-store"
    with scoping.platform():
        assert UsageDay.objects.get(tenant=acme).sent_bytes >= int(response["Content-Length"])


def test_the_archive_of_a_prior_says_how_it_is_used(acme_client: APIClient, path: str) -> None:
    prior = {"positive": 0.5, "negative": -0.9}
    grown = completed(grow(acme_client, path, rule="prior").json()["id"], json.dumps(prior).encode())
    found = members(acme_client.get(ARCHIVE.format(grown.public_id)))
    assert found["adapter_model.safetensors"] == prefix_bytes(0), "the shared version's"
    about = json.loads(found["prelude.json"])
    assert about["label_log_prior"] == prior
    assert "is added before the highest is taken" in about["label_log_prior_use"]
    assert about["label_log_prior_use"] in found["README.md"].decode()


def test_another_tenant_of_the_federation_sees_nothing_of_it(
    acme_client: APIClient, globex_client: APIClient, globex: Tenant, path: str, federation: Federation
) -> None:
    EnrolmentFactory.create(tenant=globex, federation=federation)
    grown = completed(grow(acme_client, path).json()["id"])
    assert globex_client.get(path).json()["results"] == []
    for place, method in ((ROW, "get"), (ROW, "delete"), (ARCHIVE, "get")):
        assert_same_as_unknown(globex_client, place, grown.public_id, method=method)
    assert acme_client.get(ROW.format(grown.public_id)).status_code == 200


def test_who_has_left_lists_what_is_still_its_own_and_grows_nothing(
    acme_client: APIClient, path: str, federation: Federation
) -> None:
    grown = completed(grow(acme_client, path).json()["id"])
    place = path.removesuffix("personal-prefixes") + "enrolments"
    [enrolment] = acme_client.get(place).json()["results"]
    assert acme_client.delete(f"{place}/{enrolment['id']}").status_code == 200
    [listed] = acme_client.get(path).json()["results"]
    assert listed["id"] == grown.public_id
    assert acme_client.head(path).status_code == 200
    assert_same_as_unknown(
        acme_client, path.replace(federation.public_id, "{}"), federation.public_id, method="post"
    )


def test_an_outsider_finds_no_federation(globex_client: APIClient, path: str, federation: Federation) -> None:
    place = path.replace(federation.public_id, "{}")
    assert_same_as_unknown(globex_client, place, federation.public_id)
    assert_same_as_unknown(globex_client, place, federation.public_id, method="post")


def test_operators_are_shown_neither_scores_nor_bytes(
    acme_client: APIClient, operator_client: APIClient, path: str
) -> None:
    grown = completed(grow(acme_client, path).json()["id"])
    for place in (path, ROW.format(grown.public_id), ARCHIVE.format(grown.public_id)):
        problem(operator_client.get(place), 403, "tenant_only")
    problem(operator_client.delete(ROW.format(grown.public_id)), 403, "tenant_only")
    problem(grow(operator_client, path), 403, "tenant_only")


def test_a_viewers_key_reads_and_grows_nothing(acme: Tenant, acme_client: APIClient, path: str) -> None:
    viewer = new_client(acme, rights=ROLE_RIGHTS[Role.VIEWER])
    grown = completed(grow(acme_client, path).json()["id"])
    assert viewer.get(ARCHIVE.format(grown.public_id)).status_code == 200
    problem(grow(viewer, path), 403, "right_missing")
    problem(viewer.delete(ROW.format(grown.public_id)), 403, "right_missing")
    narrow = new_client(acme, rights=frozenset({"enrolments:read"}))
    assert narrow.get(ROW.format(grown.public_id)).status_code == 200
    problem(narrow.get(ARCHIVE.format(grown.public_id)), 403, "right_missing")
