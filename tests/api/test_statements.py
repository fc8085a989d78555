"""How often a request waits for the database and for Valkey: that is most of what a small read takes."""

from typing import Any

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from redis import Redis
from rest_framework.test import APIClient

from tenants.models import Tenant
from tests.factories import DatasetFactory
from tests.tenants.test_limits import limit

pytestmark = pytest.mark.django_db(transaction=True)


def test_reading_a_row_asks_for_the_key_and_for_the_row_and_counts_once(
    acme_client: APIClient, acme: Tenant, monkeypatch: pytest.MonkeyPatch
) -> None:
    limit(acme, requests_per_minute=100)
    path = f"/api/v1/datasets/{DatasetFactory.create(tenant=acme).public_id}"
    assert acme_client.get(path).status_code == 200  # notes the key's use
    commands = []
    execute: Any = Redis.execute_command

    def told(client: Redis, *words: object, **options: object) -> object:
        commands.append(words[0])
        return execute(client, *words, **options)

    monkeypatch.setattr(Redis, "execute_command", told)
    with CaptureQueriesContext(connection) as captured:
        assert acme_client.get(path).status_code == 200
    assert (len(captured), commands) == (2, ["EVALSHA"])
