"""Every operation that changes something leaves one entry. They come from the URL conf: a new one needs a call here."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest
from django.core.files.uploadedfile import SimpleUploadedFile
from django.urls import URLPattern
from rest_framework.test import APIClient

from api.urls import urlpatterns
from api.views import ApiView
from federation.models import Enrolment
from federation.states import EnrolmentState
from tenants import scoping
from tenants.ids import Identified
from tenants.models import AuditEntry, Tenant
from tests.factories import (
    SPECIFICATION,
    ApiKeyFactory,
    BaseModelFactory,
    CampaignFactory,
    DatasetFactory,
    EnrolmentFactory,
    FederatedRoundFactory,
    MembershipFactory,
    PersonalPrefixFactory,
    PrefixVersionFactory,
    ScheduleFactory,
    UserFactory,
    WebhookDeliveryFactory,
    ready_federation,
)

pytestmark = pytest.mark.django_db
CHANGING = ("post", "put", "patch", "delete")
OPERATOR, TENANT = "operator", "tenant"
KNOWN_PERSON = "known@example.com"


@dataclass(frozen=True)
class Call:
    """A call that succeeds, and the action that it has to leave. `{name}` in values stands for an id of the world's."""

    by: str
    action: str
    body: dict[str, Any] | None = None
    format: str = "json"
    enrolment: EnrolmentState | None = EnrolmentState.ACTIVE
    besides: tuple[str, ...] = ()  # actions upon other things that go with it, with entries of their own


_ENROLMENTS = "federations/<str:federation_id>/enrolments"
_SCHEDULE = "federations/<str:federation_id>/schedule"
_WEBHOOK = "webhooks/<str:webhook_id>"
CALLS: dict[tuple[str, str], list[Call]] = {
    ("post", "tenants"): [Call(OPERATOR, "tenant.created", {"name": "Hooli", "slug": "hooli"})],
    ("put", "tenants/<str:tenant_id>"): [
        Call(OPERATOR, "tenant.changed", {"name": "Acme", "state": "suspended"})
    ],
    ("post", "tenants/<str:tenant_id>/keys"): [Call(OPERATOR, "api_key.created", {"name": "k"})],
    ("delete", "tenants/<str:tenant_id>/keys/<str:key_id>"): [Call(OPERATOR, "api_key.revoked")],
    ("post", "tenants/<str:tenant_id>/keys/<str:key_id>/rotate"): [Call(OPERATOR, "api_key.rotated", {})],
    ("post", "tenants/<str:tenant_id>/members"): [
        Call(OPERATOR, "member.added", {"email": KNOWN_PERSON, "role": "viewer"})
    ],
    ("put", "tenants/<str:tenant_id>/members/<str:member_id>"): [
        Call(OPERATOR, "member.changed", {"role": "viewer"})
    ],
    ("delete", "tenants/<str:tenant_id>/members/<str:member_id>"): [Call(OPERATOR, "member.removed")],
    ("put", "tenants/<str:tenant_id>/limits"): [
        Call(
            OPERATOR,
            "limits.set",
            {
                "requests_per_minute": 60,
                "rounds_in_flight": None,
                "dataset_rows": None,
                "stored_bytes": None,
                "device_seconds_per_month": None,
                "concurrent_runs": 2,
                "weight": 1,
            },
        )
    ],
    ("post", "datasets"): [Call(TENANT, "dataset.created", {"name": "rows"}, format="multipart")],
    ("delete", "datasets/<str:dataset_id>"): [Call(TENANT, "dataset.deleted")],
    ("post", "base-models"): [
        Call(
            OPERATOR,
            "base_model.registered",
            {"name": "m", "directory": "m", "source": "here", "licence": "none"},
        )
    ],
    ("post", "federations"): [
        Call(
            OPERATOR,
            "federation.created",
            {"name": "f", "base_model": "{base_model_id}", "specification": SPECIFICATION},
        )
    ],
    ("put", "federations/<str:federation_id>"): [
        Call(OPERATOR, "federation.changed", {"priority": "urgent", "weight": 2})
    ],
    ("post", _ENROLMENTS): [
        Call(OPERATOR, "enrolment.invited", {"tenant": "{tenant_id}"}, enrolment=None),
        Call(OPERATOR, "enrolment.invited", {"tenant": "{tenant_id}"}, enrolment=EnrolmentState.LEFT),
        Call(TENANT, "enrolment.activated", {"dataset": "{dataset_id}"}, enrolment=EnrolmentState.INVITED),
        Call(TENANT, "enrolment.activated", {"dataset": "{dataset_id}"}),
    ],
    ("delete", f"{_ENROLMENTS}/<str:enrolment_id>"): [
        Call(TENANT, "enrolment.left"),
        Call(OPERATOR, "enrolment.left"),
    ],
    ("post", "federations/<str:federation_id>/rounds"): [Call(OPERATOR, "round.started", {})],
    ("post", "federations/<str:federation_id>/campaigns"): [
        Call(OPERATOR, "campaign.started", {"n_rounds": 3}, besides=("round.started",))
    ],
    ("post", "campaigns/<str:campaign_id>/cancel"): [
        Call(OPERATOR, "campaign.canceled", besides=("round.canceled",))
    ],
    ("post", "federations/<str:federation_id>/personal-prefixes"): [
        Call(TENANT, "personal_prefix.requested", {"rule": "fine_tune"})
    ],
    ("delete", "personal-prefixes/<str:personal_prefix_id>"): [Call(TENANT, "personal_prefix.deleted")],
    ("post", "federations/<str:federation_id>/roll-back"): [
        Call(OPERATOR, "prefix.rolled_back", {"version": "{other_version_id}"})
    ],
    ("put", _SCHEDULE): [Call(OPERATOR, "schedule.set", {"every_minutes": 5})],
    ("delete", _SCHEDULE): [Call(OPERATOR, "schedule.removed")],
    ("post", "rounds/<str:round_id>/cancel"): [Call(OPERATOR, "round.canceled")],
    ("post", "webhooks"): [Call(TENANT, "webhook.created", {"url": "https://hooks.example.com"})],
    ("put", _WEBHOOK): [
        Call(TENANT, "webhook.changed", {"url": "https://other.example.com", "state": "disabled"})
    ],
    ("delete", _WEBHOOK): [Call(TENANT, "webhook.deleted")],
    ("post", f"{_WEBHOOK}/secrets"): [Call(TENANT, "webhook.secret_rotated")],
    ("post", f"{_WEBHOOK}/test"): [Call(TENANT, "webhook.tested")],
    ("post", "webhook-deliveries/<str:delivery_id>/resend"): [Call(TENANT, "webhook_delivery.resent")],
}


def changing_operations() -> Iterator[tuple[str, str]]:
    """Each operation of the URL conf that may change something, by method and route."""
    for pattern in urlpatterns:
        assert isinstance(pattern, URLPattern), "a nested URL conf needs a walk of its own"
        view = getattr(pattern.callback, "view_class", None) or getattr(pattern.callback, "cls", None)
        if isinstance(view, type) and issubclass(view, ApiView):
            yield from ((method, str(pattern.pattern)) for method in CHANGING if hasattr(view, method))


def test_every_operation_that_changes_something_has_a_call_here() -> None:
    assert set(changing_operations()) == set(CALLS)


def world(acme: Tenant, call: Call) -> dict[str, Identified]:
    """One of everything, by the path parameter that names it."""
    federation, going, chained = ready_federation(), ready_federation(), ready_federation()
    enrolment: Enrolment | None = None
    if call.enrolment is not None:
        dataset = DatasetFactory.create(tenant=acme) if call.enrolment == EnrolmentState.ACTIVE else None
        enrolment = EnrolmentFactory.create(
            federation=federation, tenant=acme, state=call.enrolment, dataset=dataset
        )
    ScheduleFactory.create(federation=federation)
    UserFactory.create(username=KNOWN_PERSON)
    with scoping.platform():
        version, parent = federation.published.version, going.published.version
        first = chained.published.version
    campaign = CampaignFactory.create(federation=chained)
    FederatedRoundFactory.create(parent_version=first, campaign=campaign)
    delivery = WebhookDeliveryFactory.create(endpoint__tenant=acme)
    rows: dict[str, Identified | None] = {
        "tenant_id": acme,
        "key_id": ApiKeyFactory.create(tenant=acme),
        "member_id": MembershipFactory.create(tenant=acme),
        "dataset_id": DatasetFactory.create(tenant=acme),
        "base_model_id": BaseModelFactory.create(),
        "federation_id": federation,
        "enrolment_id": enrolment,
        "campaign_id": campaign,
        "round_id": FederatedRoundFactory.create(parent_version=parent),
        "personal_prefix_id": PersonalPrefixFactory.create(enrolment__tenant=acme),
        "webhook_id": delivery.endpoint,
        "delivery_id": delivery,
        "other_version_id": PrefixVersionFactory.create(federation=federation, number=1, parent=version),
    }
    return {name: row for name, row in rows.items() if row is not None}


def filled(body: dict[str, Any] | None, ids: dict[str, str]) -> dict[str, Any] | None:
    if body is None:
        return None
    return {
        name: ids[value[1:-1]] if isinstance(value, str) and value[:1] == "{" else value
        for name, value in body.items()
    }


@pytest.mark.parametrize(
    ("operation", "call"),
    [
        pytest.param(operation, call, id=f"{operation[0]} {operation[1]} by {call.by} {index}")
        for operation, calls in CALLS.items()
        for index, call in enumerate(calls)
    ],
)
def test_a_change_leaves_one_entry_with_actor_address_and_what_it_changed(
    operator_client: APIClient,
    acme_client: APIClient,
    acme: Tenant,
    operation: tuple[str, str],
    call: Call,
) -> None:
    method, route = operation
    ids = {name: row.public_id for name, row in world(acme, call).items()}
    path = f"/api/v1/{route.replace('<str:', '{').replace('>', '}').format(**ids)}"
    body = filled(call.body, ids)
    if call.format == "multipart":
        body = {**(body or {}), "file": SimpleUploadedFile("rows.jsonl", b'{"text": "a", "label": "b"}\n')}
    with scoping.platform():
        known = set(AuditEntry.objects.values_list("pk", flat=True))
    client = operator_client if call.by == OPERATOR else acme_client
    answer: Any = getattr(client, method)(path, body, format=call.format, REMOTE_ADDR="192.0.2.44")
    assert 200 <= answer.status_code < 300, answer.content
    with scoping.platform():
        left = {entry.action: entry for entry in AuditEntry.objects.exclude(pk__in=known)}
        assert AuditEntry.objects.exclude(pk__in=known).count() == len(left)
    assert set(left) == {call.action, *call.besides}
    entry = left[call.action]
    assert entry.actor_kind == f"{call.by}_key"
    assert (entry.address, entry.request_id) == ("192.0.2.44", answer["X-Request-ID"])
    assert entry.object_id
    assert entry.before or entry.after
    assert not {"key", "digest", "blob_name"} & {*entry.before, *entry.after}


@pytest.mark.parametrize("operation", sorted(CALLS), ids=lambda operation: " ".join(operation))
def test_a_refused_change_leaves_no_entry(
    globex_client: APIClient, acme: Tenant, operation: tuple[str, str]
) -> None:
    method, route = operation
    call = CALLS[operation][-1]
    ids = {name: row.public_id for name, row in world(acme, call).items()}
    path = f"/api/v1/{route.replace('<str:', '{').replace('>', '}').format(**ids)}"
    with scoping.platform():
        n_before = AuditEntry.objects.count()
    answer: Any = getattr(globex_client, method)(path, {}, format=call.format)
    assert 400 <= answer.status_code < 500
    with scoping.platform():
        assert AuditEntry.objects.count() == n_before
