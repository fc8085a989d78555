"""The record over HTTP: whose entries, filters, and an export that is written after its view has returned."""

import hashlib
import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from django.http import StreamingHttpResponse
from rest_framework.test import APIClient

from tenants import scoping
from tenants.models import ApiKey, AuditEntry, Membership, Tenant
from tenants.rights import ROLE_RIGHTS
from tenants.services import audit
from tenants.services.api_keys import revoke_api_key
from tenants.states import Role
from tests.api.problems import faults
from tests.factories import MembershipFactory
from tests.keys import new_client
from tests.standing_clock import StandingClock

PATH = "/api/v1/audit-entries"


def found(client: APIClient, **query: str | int) -> list[dict[str, Any]]:
    answer = client.get(PATH, query)
    assert answer.status_code == 200, answer.content
    results: list[dict[str, Any]] = answer.json()["results"]
    return results


def exported(client: APIClient, **query: str | int) -> list[dict[str, Any]]:
    answer: Any = client.get(f"{PATH}/export", query)
    assert isinstance(answer, StreamingHttpResponse)
    assert answer["Content-Type"] == "application/jsonl"
    assert scoping.in_force() is None, "the view's scope has been left before the first line is written"
    return [json.loads(line) for line in b"".join(answer).splitlines()]


@pytest.fixture
def changes(operator_client: APIClient, acme: Tenant, globex: Tenant) -> None:
    """A key for each of the two tenants, and a third one."""
    for tenant in (acme, globex):
        answer = operator_client.post(
            f"/api/v1/tenants/{tenant.public_id}/keys", {"name": "k"}, format="json"
        )
        assert answer.status_code == 201
    assert operator_client.post("/api/v1/tenants", {"name": "Hooli", "slug": "hooli"}).status_code == 415
    body = {"name": "Hooli", "slug": "hooli"}
    assert operator_client.post("/api/v1/tenants", body, format="json").status_code == 201


@pytest.mark.django_db
def test_an_entry_tells_all_of_a_change(operator_client: APIClient, acme: Tenant) -> None:
    answer: Any = operator_client.post(
        f"/api/v1/tenants/{acme.public_id}/keys",
        {"name": "nightly"},
        format="json",
        REMOTE_ADDR="192.0.2.9",
        HTTP_X_FORWARDED_FOR="203.0.113.1",
        HTTP_X_REQUEST_ID="of-the-caller",
    )
    me = operator_client.get("/api/v1/me").json()["key"]
    [entry] = found(operator_client, action="api_key.created", object=answer.json()["id"])
    assert entry.pop("id").startswith("aud_")
    assert entry.pop("happened_at").endswith("Z")
    assert entry == {
        "action": "api_key.created",
        "actor": {"kind": "operator_key", "id": me["id"], "name": me["name"]},
        "credential": me["id"],
        "address": "192.0.2.9",
        "request_id": "of-the-caller",
        "tenant": acme.public_id,
        "object": {"kind": "api_key", "id": answer.json()["id"]},
        "before": {},
        "after": {
            "name": "nightly",
            "tenant": acme.public_id,
            "membership": None,
            "rights": sorted(ROLE_RIGHTS[Role.ENGINEER]),
            "expires_at": None,
            "allowed_networks": [],
        },
    }


@pytest.mark.django_db
def test_a_tenant_reads_its_own_entries_an_operator_all(
    operator_client: APIClient, acme_owner: APIClient, acme: Tenant, changes: None
) -> None:
    assert {entry["tenant"] for entry in found(acme_owner)} == {acme.public_id}
    assert {entry["tenant"] for entry in found(operator_client)} > {acme.public_id, None}


@pytest.mark.django_db
def test_filters_choose_and_pages_end(operator_client: APIClient, changes: None) -> None:
    all_entries = found(operator_client)
    times = sorted(entry["happened_at"] for entry in all_entries)
    assert [entry["action"] for entry in found(operator_client, action="tenant.created")] == [
        "tenant.created"
    ]
    assert found(operator_client, since=times[-1]) == [all_entries[0]]
    assert len(found(operator_client, until=times[-1])) == len(all_entries) - 1
    assert found(operator_client, object=all_entries[0]["object"]["id"]) == [all_entries[0]]
    page = operator_client.get(PATH, {"page_size": 1}).json()
    seen = [*page["results"]]
    while page["next"]:
        page = operator_client.get(page["next"]).json()
        seen += page["results"]
    assert seen == all_entries


@pytest.mark.django_db
@pytest.mark.parametrize("path", [PATH, f"{PATH}/export"])
def test_a_filter_that_is_none_is_refused(acme_owner: APIClient, path: str) -> None:
    assert faults(acme_owner.get(path, {"since": "yesterday"})) == {("since", "invalid")}
    assert faults(acme_owner.get(path, {"actor": "x"})) == {("actor", "unknown_field")}


@pytest.mark.django_db(transaction=True)
def test_an_export_is_read_within_scopes_although_it_is_written_after_the_view(
    operator_client: APIClient,
    acme_owner: APIClient,
    acme: Tenant,
    changes: None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("tenants.selectors.AUDIT_BATCH", 2)
    own = exported(acme_owner)
    assert {line["tenant"] for line in own} == {acme.public_id}
    assert not [line for line in own if "chain" in line], "a number would count the entries of others"
    with scoping.tenant(acme.id):
        assert len(own) == AuditEntry.objects.count() > 1
    assert len(exported(acme_owner, action="api_key.revoked")) == 0


@pytest.mark.django_db(transaction=True)
def test_an_operators_export_can_be_verified_by_anybody(operator_client: APIClient, changes: None) -> None:
    lines = exported(operator_client)
    with scoping.platform():
        assert len(lines) == AuditEntry.objects.count()
    before = ""
    for number, line in enumerate(lines, start=1):
        place = line.pop("chain")
        text = json.dumps(line, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
        content = hashlib.sha256(text.encode()).hexdigest()
        before = hashlib.sha256((before + content).encode()).hexdigest()
        assert place == {"number": number, "content_sha256": content, "sha256": before}


@pytest.fixture
def begun(
    acme: Tenant, monkeypatch: pytest.MonkeyPatch, standing_clock: StandingClock
) -> Callable[..., Iterator[bytes]]:
    """Begins an export, of which the first line of a batch of two is read; a second later the batch is at its end."""
    monkeypatch.setattr("tenants.selectors.AUDIT_BATCH", 2)

    def begin(client: APIClient, **where: Any) -> Iterator[bytes]:
        answer: Any = client.get(f"{PATH}/export", **where)
        lines: Iterator[bytes] = iter(answer.streaming_content)
        next(lines)
        standing_clock.advance(1)
        return lines

    return begin


def n_entries(tenant: Tenant) -> int:
    with scoping.tenant(tenant.id):
        return AuditEntry.objects.count()


def changed(tenant: Tenant, *, times: int) -> None:
    for number in range(times):
        with scoping.platform():
            audit.record(action="tenant.changed", subject=tenant, after={"number": number})


@pytest.mark.django_db(transaction=True)
def test_an_export_ends_at_what_was_there_when_it_began(
    acme: Tenant, begun: Callable[..., Iterator[bytes]]
) -> None:
    client = new_client(acme, rights=["audit:read"], allowed_networks=["192.0.2.0/24"])
    changed(acme, times=4)
    lines = begun(client, REMOTE_ADDR="192.0.2.9")
    n_then = n_entries(acme)
    changed(acme, times=4)
    assert len(list(lines)) == n_then - 1


@pytest.mark.django_db(transaction=True)
def test_an_export_ends_with_its_key(acme: Tenant, begun: Callable[..., Iterator[bytes]]) -> None:
    client = new_client(acme, rights=["audit:read"])
    changed(acme, times=4)
    lines = begun(client)
    with scoping.platform():
        revoke_api_key(key=ApiKey.objects.get())
    assert len(list(lines)) == 1, "the rest of the batch that had been read"


@pytest.mark.django_db(transaction=True)
def test_an_export_ends_with_the_right_to_it(acme: Tenant, begun: Callable[..., Iterator[bytes]]) -> None:
    member = MembershipFactory.create(tenant=acme, role=Role.AUDITOR)
    client = new_client(acme, membership=member)
    changed(acme, times=4)
    lines = begun(client)
    with scoping.platform():
        Membership.objects.filter(pk=member.pk).update(role=Role.VIEWER)
    assert len(list(lines)) == 1
