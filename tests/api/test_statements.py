"""How often a request waits for the database and for Valkey: that is most of what a small read takes."""

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from rest_framework.test import APIClient

from tenants.models import Tenant
from tests.factories import DatasetFactory, EnrolmentFactory, FederatedRoundFactory
from tests.keys import get_remembered
from tests.standing_clock import StandingClock
from tests.tenants.test_limits import limit

pytestmark = pytest.mark.django_db(transaction=True)


def test_reading_a_row_asks_for_the_key_and_for_the_row_and_counts_once(
    acme_client: APIClient, acme: Tenant, standing_clock: StandingClock, valkey_commands: list[object]
) -> None:
    limit(acme, requests_per_minute=100)
    path = f"/api/v1/datasets/{DatasetFactory.create(tenant=acme).public_id}"
    assert get_remembered(acme_client, path).status_code == 200
    standing_clock.advance(1)
    valkey_commands.clear()
    with CaptureQueriesContext(connection) as captured:
        assert acme_client.get(path).status_code == 200
    assert (len(captured), valkey_commands) == (2, ["EVALSHA"])


def test_of_a_busy_tenant_a_row_is_asked_for_alone(
    acme_client: APIClient, acme: Tenant, valkey_commands: list[object]
) -> None:
    limit(acme, requests_per_minute=100)
    path = f"/api/v1/datasets/{DatasetFactory.create(tenant=acme).public_id}"
    assert get_remembered(acme_client, path).status_code == 200  # counted as 1 and 2, and the next as 4
    acme_client.get(path)
    valkey_commands.clear()
    with CaptureQueriesContext(connection) as captured:
        assert acme_client.get(path).status_code == 200
    assert (len(captured), valkey_commands) == (1, [])


@pytest.mark.parametrize(
    ("path", "n_statements"), [("rounds/{round}", 2), ("federations/{federation}/rounds", 3)]
)
def test_all_that_is_measured_of_rounds_is_asked_for_in_one_message(
    acme_client: APIClient, acme: Tenant, path: str, n_statements: int
) -> None:
    enrolment = EnrolmentFactory.create(tenant=acme)
    one = FederatedRoundFactory.create(parent_version__federation=enrolment.federation)
    path = path.format(round=one.public_id, federation=one.federation.public_id)
    get_remembered(acme_client, f"/api/v1/{path}")
    with CaptureQueriesContext(connection) as captured:
        assert acme_client.get(f"/api/v1/{path}").status_code == 200
    assert len(captured) == n_statements
