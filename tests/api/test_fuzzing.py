"""Every operation of the OpenAPI document under generated requests, as an operator and as a tenant.

Schemathesis derives the requests from the committed document: values at the borders of their types, values that break
them, and random ones, by a fixed seed. Most ids among them are replaced by those of rows that are there, so that more
than 404 is reached. Nothing may answer 5xx, or anything that the document does not declare.
"""

import random
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import pytest
import schemathesis
from django.core.files.uploadedfile import SimpleUploadedFile
from django.core.signals import request_finished, request_started
from django.db import close_old_connections, connection, transaction
from django.test.client import BOUNDARY, MULTIPART_CONTENT, encode_multipart
from pytest_django import Settings

from deploy import wsgi
from tenants import scoping
from tenants.ids import Identified
from tenants.models import Tenant
from tests.api.test_personal_prefixes import completed
from tests.factories import (
    ApiKeyFactory,
    BaseModelFactory,
    CampaignFactory,
    DatasetFactory,
    EnrolmentFactory,
    EvaluationFactory,
    FederatedRoundFactory,
    LocalRunFactory,
    MembershipFactory,
    PersonalPrefixFactory,
    PrefixVersionFactory,
    RoundEventFactory,
    ScheduleFactory,
    TenantFactory,
    WebhookAttemptFactory,
    WebhookDeliveryFactory,
    ready_federation,
)
from tests.fuzzing import MOSTLY, PROMISES, Ids, by_a_fixed_seed, closed_document, help_on
from tests.keys import new_key

pytestmark = pytest.mark.django_db
API = schemathesis.openapi.from_dict(closed_document())
FAR = {200, 201, 204, 403}  # the answers that say that a request was looked at to its end
ROWS = b"text,label\nA good film,positive\n"


@pytest.fixture(autouse=True)
def one_connection() -> Iterator[None]:
    """Requests leave the test's connection open, as those of Django's own test client do."""
    ends = (request_started, request_finished)
    for end in ends:
        end.disconnect(close_old_connections)
    yield
    for end in ends:
        end.connect(close_old_connections)


@pytest.fixture(autouse=True)
def streams_that_end(settings: Settings) -> None:
    """Streams end with their first look: answers are read to their end here."""
    settings.EVENT_STREAM_SECONDS = 0


@pytest.fixture(params=["operator", "tenant"])
def owner(request: pytest.FixtureRequest, acme: Tenant) -> Tenant | None:
    """Whose key is sent; None: an operator's."""
    return acme if request.param == "tenant" else None


@pytest.fixture
def ids(acme: Tenant, owner: Tenant | None) -> Ids:
    """Rows of every kind by what parameters call them: first one that the caller may see, then others too."""
    free, busy = ready_federation(), ready_federation(n_tenants=1)
    with scoping.platform():
        start, parent = free.published.version, busy.published.version
    grown = PrefixVersionFactory.create(federation=free, number=1, parent=start)
    places = [EnrolmentFactory.create(federation=federation, tenant=acme) for federation in (free, busy)]
    live = FederatedRoundFactory.create(parent_version=parent)
    ended = FederatedRoundFactory.create(
        parent_version=start, candidate_version=grown, state="published", finished_at=grown.created_at
    )
    campaign = CampaignFactory.create(federation=busy)
    RoundEventFactory.create(federated_round=live)
    ScheduleFactory.create(federation=free)
    runs = [LocalRunFactory.create(federated_round=live, enrolment=places[1]), LocalRunFactory.create()]
    EvaluationFactory.create(version=start, dataset=places[0].dataset)
    personal = PersonalPrefixFactory.create(version=start, enrolment=places[0])
    completed(personal.public_id)
    other = None if owner else acme
    deliveries = [WebhookDeliveryFactory.create(endpoint__tenant=tenant) for tenant in (owner, other)]
    WebhookAttemptFactory.create(delivery=deliveries[0])
    rows: dict[str, Sequence[Identified | None]] = {
        "tenant": [acme, TenantFactory.create()],
        "key": [ApiKeyFactory.create(tenant=acme)],
        "member": [MembershipFactory.create(tenant=acme)],
        "dataset": [DatasetFactory.create(tenant=acme), places[0].dataset, DatasetFactory.create()],
        "base_model": [BaseModelFactory.create()],
        "federation": [free, busy],
        "enrolment": places,
        "campaign": [campaign],
        "round": [live, ended],
        "local_run": runs,
        "personal_prefix": [personal, PersonalPrefixFactory.create()],
        "version": [start, grown, parent],
        "webhook": [delivery.endpoint for delivery in deliveries],
        "delivery": deliveries,
    }
    return {name: [row.public_id for row in found if row is not None] for name, found in rows.items()}


@pytest.fixture
def caller(owner: Tenant | None) -> dict[str, str]:
    """The header that says who calls."""
    with scoping.platform():
        key = new_key(tenant=owner, name="fuzz")
    return {"Authorization": f"Bearer {key.text}"}


@pytest.fixture
def answered() -> Iterator[set[int]]:
    """The statuses of all answers: where the caller may do something at all, it was done once at least."""
    statuses: set[int] = set()
    yield statuses
    assert statuses & FAR, f"only {sorted(statuses)}: no request got far"


def form(case: schemathesis.Case[Any], chance: random.Random) -> dict[str, Any]:
    """For most forms with a file: the same with a file that has a name, and sound rows in it every other time."""
    if case.media_type != "multipart/form-data" or not isinstance(case.body, dict) or "file" not in case.body:
        return {}
    if chance.random() >= MOSTLY:
        return {}
    content = case.body["file"] if chance.random() < 0.5 else ROWS
    file = SimpleUploadedFile("rows.csv", content if isinstance(content, bytes) else str(content).encode())
    sent = {
        name: "null" if value is None else value for name, value in case.body.items()
    }  # forms know texts only
    return {"data": encode_multipart(BOUNDARY, {**sent, "file": file})}


def application(environ: Any, start_response: Any) -> list[bytes]:
    """The platform's, with each answer read to its end and closed, as servers do."""
    answer: Any = wsgi.application(environ, start_response)
    try:
        return [b"".join(answer)]
    finally:
        answer.close()


@contextmanager
def undone() -> Iterator[None]:
    """What is written is judged as by a commit, and then undone: each request meets the same rows."""
    with transaction.atomic():
        yield
        connection.check_constraints()
        transaction.set_rollback(True)


@API.parametrize()
@by_a_fixed_seed(n_examples=25)
def test_the_document_tells_the_truth(
    case: schemathesis.Case[Any], ids: Ids, caller: dict[str, str], answered: set[int]
) -> None:
    chance = random.Random(repr(case))
    is_first = not answered - {401}
    help_on(case, ids, chance, surely=is_first)
    body = form(case, chance)
    headers = {**caller, "Content-Type": MULTIPART_CONTENT} if body else caller
    with undone():
        answer = case.call_and_validate(headers=headers, checks=PROMISES, app=application, **body)
    answered.add(answer.status_code)
