"""With Globex's key, every id of Acme's on every path of the document: there is no such thing."""

import re
from collections.abc import Iterator
from typing import Any

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from rest_framework.test import APIClient

from federation.models import FederatedRound, PrefixVersion
from tenants import scoping
from tenants.ids import Identified
from tenants.models import Tenant
from tests.factories import (
    ApiKeyFactory,
    BaseModelFactory,
    CampaignFactory,
    EnrolmentFactory,
    EvaluationFactory,
    FederatedRoundFactory,
    LocalRunFactory,
    MembershipFactory,
    PersonalPrefixFactory,
    WebhookDeliveryFactory,
    ready_federation,
)
from tests.keys import get_remembered

pytestmark = pytest.mark.django_db


@pytest.fixture
def of_acme(acme: Tenant) -> dict[str, Identified]:
    """One of everything of Acme's, by the path parameter that names it."""
    federation = ready_federation()
    enrolment = EnrolmentFactory.create(federation=federation, tenant=acme)
    assert enrolment.dataset is not None
    with scoping.platform():
        version: PrefixVersion = federation.published.version
    federated_round: FederatedRound = FederatedRoundFactory.create(parent_version=version)
    EvaluationFactory.create(version=version, dataset=enrolment.dataset)
    delivery = WebhookDeliveryFactory.create(endpoint__tenant=acme)
    return {
        "tenant_id": acme,
        "key_id": ApiKeyFactory.create(tenant=acme),
        "member_id": MembershipFactory.create(tenant=acme),
        "dataset_id": enrolment.dataset,
        "base_model_id": BaseModelFactory.create(state="registering"),
        "federation_id": federation,
        "enrolment_id": enrolment,
        "campaign_id": CampaignFactory.create(federation=federation),
        "round_id": federated_round,
        "local_run_id": LocalRunFactory.create(federated_round=federated_round, enrolment=enrolment),
        "personal_prefix_id": PersonalPrefixFactory.create(version=version, enrolment=enrolment),
        "version_id": version,
        "webhook_id": delivery.endpoint,
        "delivery_id": delivery,
    }


def addressed() -> Iterator[tuple[str, str, str]]:
    """Each operation with an id in its path: its name, path and method."""
    document = Client().get("/api/v1/openapi.json").json()
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            if "{" in path:
                yield operation["operationId"], path, method


def answers(client: APIClient, ids: dict[str, str]) -> dict[str, tuple[int, dict[str, Any]]]:
    """What each operation with an id in its path answers: by operation, status and body."""
    found = {}
    for name, path, method in addressed():
        answer = getattr(client, method)(path.format(**ids))
        found[name] = (answer.status_code, answer.json())
    return found


def test_everything_answers_as_if_it_were_not_there(
    globex_client: APIClient, of_acme: dict[str, Identified]
) -> None:
    real = {name: row.public_id for name, row in of_acme.items()}
    unknown = {name: f"{row.id_prefix}_{'0' * 26}" for name, row in of_acme.items()}
    hidden, missing = answers(globex_client, real), answers(globex_client, unknown)
    assert len(hidden) > 20
    for name, (status, body) in hidden.items():
        assert status == 404, f"{name}: {body}"
        for parameter, public_id in real.items():
            body["detail"] = body["detail"].replace(public_id, unknown[parameter])
        expected = missing[name][1]
        del body["request_id"], expected["request_id"]
        assert body == expected, name


def statements(client: APIClient, ids: dict[str, str]) -> dict[str, list[str]]:
    """What each of those operations asks the database, but for values and the numbers of savepoints."""
    found: dict[str, list[str]] = {}
    for name, path, method in addressed():
        with CaptureQueriesContext(connection) as captured:
            getattr(client, method)(path.format(**ids))
        found[name] = [re.sub(r"'[^']*'|_x\d+", "?", query["sql"]) for query in captured]
    return found


def test_it_takes_the_same_work_to_find_that_nothing_is_there(
    globex_client: APIClient, of_acme: dict[str, Identified]
) -> None:
    """The same statements in the same order, each by the same index: there is no more that could take longer."""
    real = {name: row.public_id for name, row in of_acme.items()}
    unknown = {name: f"{row.id_prefix}_{'0' * 26}" for name, row in of_acme.items()}
    get_remembered(globex_client)
    hidden, missing = statements(globex_client, real), statements(globex_client, unknown)
    assert len(hidden) > 20
    for name, asked in hidden.items():
        assert asked, name
        assert asked == missing[name], name


def test_lists_are_empty_and_stay_so(globex_client: APIClient, of_acme: dict[str, Identified]) -> None:
    for name in ("datasets", "federations", "local-runs", "evaluations", "events", "webhooks"):
        assert globex_client.get(f"/api/v1/{name}").json()["results"] == [], name
    assert len(globex_client.get("/api/v1/tenants").json()["results"]) == 1
