"""Every operation under generated requests over HTTP, against the platform's real processes.

Fewer requests than `tests/api/test_fuzzing.py` makes in the test's own process, where each is undone: here what one
writes is what the next one meets, and the web server has its say too.
"""

import random
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
import schemathesis

from tests.fuzzing import PROMISES, Ids, by_a_fixed_seed, closed_document, help_on
from tests.platform import RunningPlatform, TenantAccess

pytestmark = pytest.mark.processes
# A stream stays open for as long as it may.
API = schemathesis.openapi.from_dict(closed_document()).exclude(operation_id="stream_events")


@pytest.fixture(scope="module", params=["operator", "tenant"])
def caller(request: pytest.FixtureRequest, platform: RunningPlatform) -> Iterator[tuple[httpx.Client, Ids]]:
    """Who calls, and what there is: a tenant of its own, enrolled in a federation of its own."""
    with platform.new_tenant(f"fuzzed-{request.param}") as tenant:
        federation = platform.make_federation(f"fuzzed by {request.param}", tenants=[tenant])
        yield (
            tenant.client if request.param == "tenant" else platform.operator,
            _ids(platform, tenant, federation),
        )


def _ids(platform: RunningPlatform, tenant: TenantAccess, federation: dict[str, Any]) -> Ids:
    versions = platform.operator.get(f"federations/{federation['id']}/prefix-versions").json()["results"]
    return {
        "tenant": [tenant.id],
        "dataset": [tenant.dataset_id],
        "base_model": [platform.base_model["id"]],
        "federation": [federation["id"]],
        "version": [version["id"] for version in versions],
    }


@API.parametrize()
@by_a_fixed_seed(n_examples=5)
def test_the_running_server_keeps_the_documents_word(
    case: schemathesis.Case[Any], caller: tuple[httpx.Client, Ids], platform: RunningPlatform
) -> None:
    client, ids = caller
    help_on(case, ids, random.Random(repr(case)), surely=False)
    headers = {"Authorization": client.headers["Authorization"]}
    case.call_and_validate(base_url=platform.url, headers=headers, checks=PROMISES, timeout=30)
