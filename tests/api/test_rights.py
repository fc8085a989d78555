"""Who may do what: every operation of the URL conf for every role, and what must hold whatever the table says."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from django.apps import apps
from django.core.files.uploadedfile import SimpleUploadedFile
from django.db import transaction
from django.urls import URLPattern
from pytest_django import Settings
from rest_framework.test import APIClient

from api.permissions import Anyone, OperatorOnly, TenantOnly
from api.urls import urlpatterns
from api.views import ApiView
from federation.models import Enrolment
from federation.states import EnrolmentState
from tenants import scoping
from tenants.models import Dataset, Tenant
from tenants.rights import OPERATOR_RIGHTS, ROLE_RIGHTS, Action, Right
from tenants.states import Role
from tests.api.problems import problem
from tests.api.test_audit_coverage import CALLS, TENANT, Call, filled, world
from tests.factories import (
    DatasetFactory,
    EnrolmentFactory,
    LocalRunFactory,
    MembershipFactory,
    WebhookDeliveryFactory,
    ready_federation,
)
from tests.keys import new_client

pytestmark = pytest.mark.django_db
METHODS = ("get", "head", "post", "put", "delete")
REFUSALS = {Anyone: set(), OperatorOnly: {"operator_only"}, TenantOnly: {"tenant_only"}}
READS = frozenset(word for word in OPERATOR_RIGHTS if word.endswith(f":{Action.READ}"))
DATASETS = "/api/v1/datasets"


def views() -> Iterator[tuple[str, type[ApiView]]]:
    """Every view of the API with its route."""
    for pattern in urlpatterns:
        assert isinstance(pattern, URLPattern), "a nested URL conf needs a walk of its own"
        view = getattr(pattern.callback, "view_class", None) or getattr(pattern.callback, "cls", None)
        if isinstance(view, type) and issubclass(view, ApiView):
            yield str(pattern.pattern), view


def operations() -> Iterator[tuple[str, str, type[ApiView]]]:
    """Every operation: method, route, view."""
    for route, view in views():
        answered = {method for method in METHODS if hasattr(view, method)}
        for method in answered | ({"head"} if "get" in answered else set()):
            yield method, route, view


def test_every_view_says_itself_what_it_is_about() -> None:
    assert [route for route, view in views() if "resource" not in vars(view)] == []
    assert [route for route, view in views() if view.resource is None] == ["me"]


@pytest.fixture(autouse=True)
def _streams_end_at_once(settings: Settings) -> None:
    """As soon as there is nothing to tell."""
    settings.EVENT_STREAM_SECONDS = 0


@pytest.fixture
def ids(acme: Tenant) -> dict[str, str]:
    """One of everything that Acme sees, by the path parameter that names it."""
    rows = world(acme, Call(TENANT, "", enrolment=EnrolmentState.ACTIVE))
    EnrolmentFactory.create(federation=rows["campaign_id"].federation, tenant=acme)  # type: ignore[attr-defined]
    run = LocalRunFactory.create(federated_round=rows["round_id"], enrolment__tenant=acme)
    rows |= {"local_run_id": run, "version_id": rows["other_version_id"]}
    return {name: row.public_id for name, row in rows.items()}


def call(client: APIClient, method: str, route: str, ids: dict[str, str]) -> Any:
    """A sound request."""
    path = f"/api/v1/{route.replace('<str:', '{').replace('>', '}').format(**ids)}"
    if (method, route) not in CALLS:
        return getattr(client, method)(path)
    sound = CALLS[method, route][-1]
    body = filled(sound.body, ids)
    if sound.format == "multipart":
        body = {**(body or {}), "file": SimpleUploadedFile("rows.jsonl", b'{"text": "a", "label": "b"}\n')}
    return getattr(client, method)(path, body, format=sound.format)


def everything() -> dict[str, list[dict[str, Any]]]:
    """All rows of all tables, but for when keys were used."""
    found = {}
    with scoping.platform():
        for app in ("auth", "tenants", "federation"):
            for model in apps.get_app_config(app).get_models():
                rows = model._default_manager.order_by("pk").values()
                found[model.__name__] = [
                    {name: value for name, value in row.items() if name != "last_used_at"} for row in rows
                ]
    return found


@contextmanager
def undone() -> Iterator[None]:
    """Each request meets the same rows."""
    with transaction.atomic():
        yield
        transaction.set_rollback(True)


def assert_table_holds(
    client: APIClient, rights: frozenset[Right], ids: dict[str, str], *, is_operator: bool
) -> None:
    """Every operation is allowed to this caller if, and only if, the table says so."""
    n_allowed = n_refused = 0
    for method, route, view in operations():
        kind = view.only.get("GET" if method == "head" else method.upper(), Anyone)
        wanted_kind = {OperatorOnly: is_operator, TenantOnly: not is_operator, Anyone: True}[kind]
        needed = view.right_for(method.upper())
        before = everything()
        with undone():
            answer = call(client, method, route, ids)
            if answer.streaming:
                list(answer.streaming_content)
            told = f"{method} {route}: {answer.status_code}"
            if wanted_kind and (needed is None or needed in rights):
                n_allowed += 1
                assert answer.status_code not in (401, 403, 404), told
                continue
            n_refused += 1
            assert answer.status_code == 403, told
            if method != "head":
                expected = {"right_missing"} if wanted_kind else REFUSALS[kind]
                assert {answer.json()["code"]} == expected, told
            assert everything() == before, told
    assert n_allowed
    assert n_refused


@pytest.mark.parametrize("role", Role)
def test_a_members_own_key_may_do_what_its_role_may(acme: Tenant, ids: dict[str, str], role: Role) -> None:
    client = new_client(acme, membership=MembershipFactory.create(tenant=acme, role=role))
    assert_table_holds(client, ROLE_RIGHTS[role], ids, is_operator=False)


@pytest.mark.parametrize("rights", [READS, OPERATOR_RIGHTS], ids=["reads", "all"])
def test_an_operators_key_may_do_what_it_was_given(ids: dict[str, str], rights: frozenset[Right]) -> None:
    own = WebhookDeliveryFactory.create(
        endpoint__tenant=None
    )  # an operator's: a tenant's are the tenant's alone
    ids |= {"webhook_id": own.endpoint.public_id, "delivery_id": own.public_id}
    assert_table_holds(new_client(None, rights=rights), rights, ids, is_operator=True)


# What follows does not come from the table.


@pytest.fixture
def member(acme: Tenant) -> dict[Role, APIClient]:
    """A client for each role at Acme."""
    return {
        role: new_client(acme, membership=MembershipFactory.create(tenant=acme, role=role)) for role in Role
    }


def test_a_viewer_reads_and_neither_uploads_nor_enrols(member: dict[Role, APIClient], acme: Tenant) -> None:
    viewer = member[Role.VIEWER]
    dataset = DatasetFactory.create(tenant=acme)
    assert viewer.get(f"{DATASETS}/{dataset.public_id}").status_code == 200
    form = {"name": "rows", "file": SimpleUploadedFile("rows.jsonl", b'{"text": "a", "label": "b"}\n')}
    assert "datasets:write" in problem(viewer.post(DATASETS, form), 403, "right_missing")["detail"]
    federation = ready_federation()
    EnrolmentFactory.create(federation=federation, tenant=acme, dataset=None, state=EnrolmentState.INVITED)
    path = f"/api/v1/federations/{federation.public_id}/enrolments"
    body = {"dataset": dataset.public_id}
    problem(viewer.post(path, body, format="json"), 403, "right_missing")
    with scoping.platform():
        assert Dataset.objects.filter(tenant=acme).count() == 1
        assert Enrolment.objects.get(tenant=acme).state == EnrolmentState.INVITED
    assert member[Role.ENGINEER].post(path, body, format="json").status_code == 200


def test_an_auditor_reads_the_record_and_an_engineer_does_not(member: dict[Role, APIClient]) -> None:
    for path in ("/api/v1/audit-entries", "/api/v1/audit-entries/export"):
        assert member[Role.AUDITOR].get(path).status_code == 200
        assert member[Role.AUDITOR].head(path).status_code == 200
        problem(member[Role.ENGINEER].get(path), 403, "right_missing")
        assert member[Role.ENGINEER].head(path).status_code == 403


def test_an_owner_makes_keys_and_adds_members_and_no_other_role_does(
    member: dict[Role, APIClient], acme: Tenant
) -> None:
    path = f"/api/v1/tenants/{acme.public_id}"
    for role in Role:
        key = member[role].post(f"{path}/keys", {"name": "ci"}, format="json")
        body = {"email": f"{role}@example.com", "role": "viewer"}
        added = member[role].post(f"{path}/members", body, format="json")
        if role == Role.OWNER:
            assert (key.status_code, added.status_code) == (201, 201)
        else:
            problem(key, 403, "right_missing")
            problem(added, 403, "right_missing")


def test_nobody_of_a_tenant_starts_rounds_or_makes_tenants(
    member: dict[Role, APIClient], acme: Tenant
) -> None:
    federation = ready_federation()
    EnrolmentFactory.create(federation=federation, tenant=acme)
    rounds = f"/api/v1/federations/{federation.public_id}/rounds"
    for role in Role:
        problem(member[role].post(rounds, {}, format="json"), 403, "operator_only")
        tenant = {"name": "More", "slug": "more"}
        problem(member[role].post("/api/v1/tenants", tenant, format="json"), 403, "operator_only")


def test_a_missing_right_tells_nothing_of_what_others_have(acme: Tenant, globex: Tenant) -> None:
    own, other = (DatasetFactory.create(tenant=tenant).public_id for tenant in (globex, acme))
    client = new_client(globex, rights=["tenants:read"])
    problem(client.get(f"{DATASETS}/{own}"), 403, "right_missing")
    problem(client.get(f"{DATASETS}/{other}"), 404, "not_found")


def test_me_tells_the_rights_in_force(acme: Tenant) -> None:
    viewer = MembershipFactory.create(tenant=acme, role=Role.VIEWER)
    client = new_client(acme, membership=viewer, rights=["datasets:read", "datasets:write"])
    assert client.get("/api/v1/me").json()["rights"] == ["datasets:read"]
