"""Idempotency keys: one request, one object, one answer."""

import json
import threading
from datetime import timedelta
from pathlib import Path
from typing import Any

import psycopg
import pytest
from django.apps import apps
from django.core.files.uploadedfile import SimpleUploadedFile
from django.db.models.functions import Now
from django.test import Client
from pytest_django import Settings
from rest_framework.test import APIClient

from federation.models import FederatedRound
from tenants import scoping
from tenants.errors import IdempotencyInProgress
from tenants.models import ApiKey, Dataset, IdempotencyRecord, Tenant
from tenants.rights import ROLE_RIGHTS
from tenants.services import idempotency
from tenants.states import Role
from tests.api.problems import faults, problem
from tests.conftest import Message
from tests.factories import (
    SPECIFICATION,
    ApiKeyFactory,
    BaseModelFactory,
    CampaignFactory,
    EnrolmentFactory,
    FederatedRoundFactory,
    PrefixVersionFactory,
    TenantFactory,
    WebhookDeliveryFactory,
    ready_federation,
)
from tests.keys import new_client
from tests.racing import at_once
from tests.session import SERVERS

ROWS = b'{"text": "a secret sentence", "label": "positive"}\n' * 100
TENANTS = "/api/v1/tenants"
DATASETS = "/api/v1/datasets"
INITECH = {"name": "Initech", "slug": "initech"}


def send(client: APIClient, path: str, body: object, key: str | None = "first") -> Any:
    """POST, with the key as its header."""
    headers = {} if key is None else {"Idempotency-Key": key}
    return client.post(path, body, format="json", headers=headers)


def upload(client: APIClient, data: bytes = ROWS, *, name: str = "rows", file: str = "rows.jsonl") -> Any:
    """The same with a form."""
    form = {"name": name, "file": SimpleUploadedFile(file, data)}
    return client.post(DATASETS, form, format="multipart", headers={"Idempotency-Key": "first"})


def assert_replayed(again: Any, first: Any) -> None:
    """`again` is the answer that `first` was."""
    assert "Idempotent-Replayed" not in first
    assert again["Idempotent-Replayed"] == "true"
    assert (again.status_code, again.content) == (first.status_code, first.content)
    assert again["Content-Type"] == first["Content-Type"]


def n_rows() -> int:
    """Rows of all kinds."""
    with scoping.platform():
        ours = (model for app in ("tenants", "federation") for model in apps.get_app_config(app).get_models())
        return sum(model._default_manager.count() for model in ours)


def tenant_operations(tenant: Tenant) -> dict[str, tuple[str, object]]:
    """Operations upon a tenant: path and body."""
    path = f"{TENANTS}/{tenant.public_id}"
    key = ApiKeyFactory.create(tenant=tenant)
    return {
        "create_tenant": (TENANTS, INITECH),
        "create_key": (f"{path}/keys", {"name": "pipeline"}),
        "rotate_key": (f"{path}/keys/{key.public_id}/rotate", {"overlap_seconds": 60}),
        "add_member": (f"{path}/members", {"email": "a@example.com", "role": "viewer"}),
    }


def federation_operations() -> dict[str, tuple[str, object]]:
    """Operations upon base models, federations and rounds: path and body."""
    federation, other = ready_federation(), ready_federation()
    with scoping.platform():
        start = federation.published.version
    grown = PrefixVersionFactory.create(federation=federation, number=1, parent=start)
    live = FederatedRoundFactory.create(parent_version=PrefixVersionFactory.create())
    path, new = f"/api/v1/federations/{federation.public_id}", BaseModelFactory.create()
    base_model = {"name": "tiny", "directory": "tiny", "source": "here", "licence": "MIT"}
    made = {"name": "reviews", "base_model": new.public_id, "specification": SPECIFICATION}
    return {
        "register_base_model": ("/api/v1/base-models", base_model),
        "create_federation": ("/api/v1/federations", made),
        "enrol": (f"{path}/enrolments", {"tenant": TenantFactory.create().public_id}),
        "start_round": (f"/api/v1/federations/{other.public_id}/rounds", {}),
        "start_campaign": (f"/api/v1/federations/{ready_federation().public_id}/campaigns", {"n_rounds": 3}),
        "cancel_campaign": (f"/api/v1/campaigns/{CampaignFactory.create().public_id}/cancel", {}),
        "cancel_round": (f"/api/v1/rounds/{live.public_id}/cancel", {}),
        "roll_back": (f"{path}/roll-back", {"version": grown.public_id}),
    }


def webhook_operations() -> dict[str, tuple[str, object]]:
    """Operations upon the operators' webhooks: path and body."""
    delivery = WebhookDeliveryFactory.create(endpoint__tenant=None)
    path = f"/api/v1/webhooks/{delivery.endpoint.public_id}"
    return {
        "create_webhook": ("/api/v1/webhooks", {"url": "https://hooks.example.com"}),
        "rotate_webhook_secret": (f"{path}/secrets", {}),
        "send_test_message": (f"{path}/test", {}),
        "resend_webhook_delivery": (f"/api/v1/webhook-deliveries/{delivery.public_id}/resend", {}),
    }


@pytest.mark.django_db
def test_every_post_takes_a_key_and_answers_it_twice_alike(operator_client: APIClient, acme: Tenant) -> None:
    operations = tenant_operations(acme) | federation_operations() | webhook_operations()
    for name, (path, body) in operations.items():
        first = send(operator_client, path, body, name)
        assert first.status_code in (200, 201), f"{name}: {first.content}"
        n_before = n_rows()
        assert_replayed(send(operator_client, path, body, name), first)
        assert n_rows() == n_before, name
        if body:
            problem(send(operator_client, path, {}, name), 409, "idempotency_key_reused")
    paths = Client().get("/api/v1/openapi.json").json()["paths"].values()
    posts = [methods["post"] for methods in paths if "post" in methods]
    of_tenants = {"upload_dataset", "grow_personal_prefix"}
    assert {post["operationId"] for post in posts} == operations.keys() | of_tenants
    assert all("Idempotency-Key" in [given["name"] for given in post["parameters"]] for post in posts)


@pytest.mark.django_db
def test_a_personal_prefix_is_asked_for_once(acme_client: APIClient, acme: Tenant) -> None:
    federation = EnrolmentFactory.create(federation=ready_federation(), tenant=acme).federation
    path = f"/api/v1/federations/{federation.public_id}/personal-prefixes"
    first = send(acme_client, path, {"rule": "prior"})
    assert first.status_code == 201, first.content
    n_before = n_rows()
    assert_replayed(send(acme_client, path, {"rule": "prior"}), first)
    assert n_rows() == n_before
    problem(send(acme_client, path, {"rule": "fine_tune"}), 409, "idempotency_key_reused")


@pytest.mark.django_db
def test_a_tenant_that_takes_its_place_is_answered_alike(acme_client: APIClient, acme: Tenant) -> None:
    federation = ready_federation(n_tenants=0)
    enrolment = EnrolmentFactory.create(federation=federation, tenant=acme)
    path = f"/api/v1/federations/{federation.public_id}/enrolments"
    assert enrolment.dataset is not None
    body = {"dataset": enrolment.dataset.public_id}
    first = send(acme_client, path, body)
    assert first.status_code == 200, first.content
    assert_replayed(send(acme_client, path, body), first)


@pytest.mark.django_db
def test_without_a_key_every_request_is_carried_out(operator_client: APIClient, acme: Tenant) -> None:
    path = f"{TENANTS}/{acme.public_id}/keys"
    made = [send(operator_client, path, {"name": "ci"}, None).json()["id"] for _ in range(2)]
    assert made[0] != made[1]
    with scoping.platform():
        assert not IdempotencyRecord.objects.exists()


@pytest.mark.django_db
def test_a_key_belongs_to_its_path_and_its_body_to_the_byte(operator_client: APIClient, acme: Tenant) -> None:
    made = send(operator_client, TENANTS, INITECH)
    assert made.status_code == 201
    reused = 409, "idempotency_key_reused"
    problem(send(operator_client, TENANTS, {**INITECH, "name": "Other"}), *reused)
    problem(send(operator_client, f"{TENANTS}/{acme.public_id}/keys", {"name": "ci"}), *reused)
    problem(send(operator_client, f"{TENANTS}?a=b", INITECH), *reused)
    assert_replayed(send(operator_client, TENANTS, INITECH), made)


@pytest.mark.django_db
@pytest.mark.parametrize("key", ["", " ", "k" * 256, "schlüssel", "a\tb", "\x7f"])
def test_a_key_that_will_not_do(operator_client: APIClient, acme_client: APIClient, key: str) -> None:
    problem(send(operator_client, TENANTS, INITECH, key), 400, "idempotency_key_invalid")
    form = {"name": "rows", "file": SimpleUploadedFile("rows.jsonl", ROWS)}
    answer = acme_client.post(DATASETS, form, format="multipart", headers={"Idempotency-Key": key})
    problem(answer, 400, "idempotency_key_invalid")
    with scoping.platform():
        assert not Tenant.objects.filter(slug="initech").exists()
        assert not Dataset.objects.exists()


@pytest.mark.django_db
@pytest.mark.parametrize("key", ["k", "k" * 255, "order 17, line #3", '"3f2c"'])
def test_a_key_that_will_do(operator_client: APIClient, key: str) -> None:
    first = send(operator_client, TENANTS, INITECH, key)
    assert_replayed(send(operator_client, TENANTS, INITECH, key), first)


@pytest.mark.django_db
def test_a_refused_request_is_not_kept_and_may_be_sent_again(
    operator_client: APIClient, acme: Tenant
) -> None:
    assert faults(send(operator_client, TENANTS, {"name": "Initech"})) == {("slug", "required")}
    problem(send(operator_client, TENANTS, {**INITECH, "slug": "acme"}), 409, "tenant_slug_taken")
    assert send(operator_client, TENANTS, INITECH).status_code == 201


@pytest.mark.django_db
def test_a_request_that_fails_within_leaves_the_key_free(
    operator_client: APIClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(**_: object) -> None:
        raise RuntimeError("after the object was made")

    operator_client.raise_request_exception = False
    with monkeypatch.context() as broken:
        broken.setattr(idempotency, "keep_answer", fail)
        problem(send(operator_client, TENANTS, INITECH), 500, "internal_error")
    first = send(operator_client, TENANTS, INITECH)
    assert first.status_code == 201, first.content
    assert_replayed(send(operator_client, TENANTS, INITECH), first)


@pytest.mark.django_db
def test_callers_do_not_meet_in_a_key(acme_client: APIClient, globex_client: APIClient, acme: Tenant) -> None:
    acmes, globexs = upload(acme_client), upload(globex_client, ROWS * 2)
    assert (acmes.status_code, globexs.status_code) == (201, 201)
    assert_replayed(upload(acme_client), acmes)
    assert_replayed(upload(globex_client, ROWS * 2), globexs)


@pytest.mark.django_db
def test_a_tenants_keys_share_and_operators_keys_do_not(acme: Tenant) -> None:
    acmes = [ApiKeyFactory.create(tenant=acme) for _ in range(2)]
    operators = [ApiKeyFactory.create(tenant=None) for _ in range(2)]

    def claimed(api_key: ApiKey) -> object:
        return idempotency.claim(api_key=api_key, idempotency_key="first", request=b"x").pk

    with scoping.tenant(acme.id):
        assert claimed(acmes[0]) == claimed(acmes[1])
    with scoping.platform():
        assert claimed(operators[0]) != claimed(operators[1])


@pytest.mark.django_db
def test_a_keys_text_is_not_told_again_to_who_may_do_less(acme: Tenant, acme_owner: APIClient) -> None:
    body = {"name": "ci", "rights": ["keys:write"]}
    path = f"{TENANTS}/{acme.public_id}/keys"
    first = send(acme_owner, path, body)
    assert first.status_code == 201, first.content
    lesser = new_client(acme, rights=["keys:write"])
    problem(send(lesser, path, body), 409, "idempotency_key_reused")
    assert_replayed(send(new_client(acme, rights=ROLE_RIGHTS[Role.OWNER]), path, body), first)


@pytest.mark.django_db
def test_an_upload_is_told_by_its_name_its_files_name_and_its_bytes(
    acme_client: APIClient, settings: Settings
) -> None:
    first = upload(acme_client)
    assert first.status_code == 201, first.content
    root = Path(settings.STORAGES["blobs"]["OPTIONS"]["location"])
    stored = {path for path in root.rglob("*") if path.is_file()}
    assert_replayed(upload(acme_client), first)  # the form's boundary may be another one
    reused = 409, "idempotency_key_reused"
    problem(upload(acme_client, ROWS[:-1]), *reused)
    problem(upload(acme_client, name="other"), *reused)
    problem(upload(acme_client, file="other.jsonl"), *reused)
    assert len(acme_client.get(DATASETS).json()["results"]) == 1
    assert {path for path in root.rglob("*") if path.is_file()} == stored


@pytest.mark.django_db(transaction=True)
def test_of_fifty_at_once_one_makes_the_object_and_all_are_answered_alike(
    operator_client: APIClient, sent_messages: list[Message]
) -> None:
    federation = ready_federation()
    path = f"/api/v1/federations/{federation.public_id}/rounds"
    key = operator_client._credentials["HTTP_AUTHORIZATION"]  # type: ignore[attr-defined]

    def start() -> Any:
        client = APIClient()
        client.credentials(HTTP_AUTHORIZATION=key)
        return send(client, path, {})

    answers = at_once(50, start)
    assert {(answer.status_code, answer.content) for answer in answers} == {(201, answers[0].content)}
    assert sum("Idempotent-Replayed" not in answer for answer in answers) == 1
    with scoping.platform():
        assert FederatedRound.objects.count() == 1
        assert IdempotencyRecord.objects.count() == 1
    assert len(sent_messages) == 2 * len({"local runs", "evaluations"})


@pytest.mark.django_db(transaction=True)
def test_of_many_uploads_at_once_one_is_kept(
    acme: Tenant, acme_client: APIClient, settings: Settings
) -> None:
    root = Path(settings.STORAGES["blobs"]["OPTIONS"]["location"])
    before = sum(path.is_file() for path in root.rglob("*"))
    key = acme_client._credentials["HTTP_AUTHORIZATION"]  # type: ignore[attr-defined]

    def start() -> Any:
        client = APIClient()
        client.credentials(HTTP_AUTHORIZATION=key)
        return upload(client)

    answers = at_once(20, start)
    assert {(answer.status_code, answer.content) for answer in answers} == {(201, answers[0].content)}
    with scoping.tenant(acme.id):
        assert Dataset.objects.count() == 1
    assert sum(path.is_file() for path in root.rglob("*")) == before + 1


@pytest.mark.django_db(transaction=True)
def test_who_waits_too_long_is_told_to_come_again(
    operator_client: APIClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(idempotency, "PATIENCE_SECONDS", 0.2)
    with scoping.platform():
        key = ApiKey.objects.get()
    is_claimed, may_end = threading.Event(), threading.Event()

    def hold() -> None:
        with scoping.platform():
            idempotency.claim(api_key=key, idempotency_key="first", request=b"x")
            is_claimed.set()
            may_end.wait(30)
            raise IdempotencyInProgress(idempotency_key="first")  # rolls back: the key is free again

    def wait_for_it() -> Any:
        is_claimed.wait(30)
        answer = send(operator_client, TENANTS, INITECH)
        may_end.set()
        return answer

    actors = iter([hold, wait_for_it])
    lock = threading.Lock()

    def act() -> Any:
        with lock:
            actor = next(actors)
        try:
            return actor()
        except IdempotencyInProgress:
            return None

    [answer] = [found for found in at_once(2, act) if found is not None]
    problem(answer, 409, "idempotency_in_progress")
    assert answer["Retry-After"] == "1"
    assert send(operator_client, TENANTS, INITECH).status_code == 201


def age(hours: float) -> None:
    """Let the records have been made so long ago."""
    with scoping.platform():
        IdempotencyRecord.objects.update(created_at=Now() - timedelta(hours=hours))


@pytest.mark.django_db
def test_a_key_is_kept_for_a_day(operator_client: APIClient) -> None:
    first = send(operator_client, TENANTS, INITECH)
    age(hours=23.9)
    assert_replayed(send(operator_client, TENANTS, INITECH), first)
    age(hours=24.1)
    problem(send(operator_client, TENANTS, INITECH), 409, "tenant_slug_taken")
    assert send(operator_client, TENANTS, {"name": "Hooli", "slug": "hooli"}).status_code == 201


@pytest.mark.django_db
def test_old_records_are_purged_some_at_a_time(
    operator_client: APIClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(idempotency, "PURGED_AT_ONCE", 2)
    for number in range(3):
        send(operator_client, TENANTS, {"name": "Old", "slug": f"old-{number}"}, f"old-{number}")
    age(hours=24.1)
    send(operator_client, TENANTS, INITECH, "new")
    with scoping.platform():
        assert [idempotency.purge_expired() for _ in range(3)] == [2, 1, 0]
        assert IdempotencyRecord.objects.get().key == "new"


@pytest.mark.django_db(transaction=True)
def test_a_keys_text_is_told_again_and_stands_nowhere_in_the_clear(
    operator_client: APIClient, acme: Tenant
) -> None:
    path = f"{TENANTS}/{acme.public_id}/keys"
    first = send(operator_client, path, {"name": "ci"})
    again = send(operator_client, path, {"name": "ci"})
    assert_replayed(again, first)
    assert again["Cache-Control"] == "no-store"
    secret = json.loads(again.content)["key"].split("_", 2)[2]
    with psycopg.connect(SERVERS.owner_database_url) as connection:
        connection.execute("ALTER TABLE tenants_idempotencyrecord NO FORCE ROW LEVEL SECURITY")
        stored = connection.execute("SELECT sealed_body, r::text FROM tenants_idempotencyrecord r").fetchall()
        connection.rollback()
    [(sealed_body, text)] = stored
    assert len(sealed_body) > len(secret)
    assert secret.encode() not in sealed_body
    assert secret not in text
    assert secret.encode().hex() not in text
