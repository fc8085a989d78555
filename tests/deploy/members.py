"""Two tenants with rows of every kind, and their people at the console."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, cast

from django.db.models import Model
from django.template.response import TemplateResponse
from django.test import Client
from django.utils import timezone

from federation.models import (
    Campaign,
    Enrolment,
    Evaluation,
    FederatedRound,
    Federation,
    LocalRun,
    PersonalPrefix,
    PrefixVersion,
    PublishRecord,
    Schedule,
    WebhookDelivery,
    WebhookEndpoint,
)
from tenants import scoping
from tenants.ids import Identified
from tenants.models import ApiKey, AuditEntry, Dataset, Membership, Tenant
from tenants.rights import OPERATOR_RIGHTS
from tenants.services.api_keys import create_api_key
from tenants.services.tenants import add_member
from tenants.states import Role
from tests.factories import (
    BaseModelFactory,
    CampaignFactory,
    DatasetFactory,
    EnrolmentFactory,
    MembershipFactory,
    PersonalPrefixFactory,
    ScheduleFactory,
    WebhookDeliveryFactory,
    WebhookEndpointFactory,
    ready_federation,
)
from tests.federation import rounds
from tests.federation.console import signed_in

ADDRESS = "192.0.2.66"
WEBHOOKS: set[type[Model]] = {WebhookDelivery, WebhookEndpoint}


@dataclass(frozen=True)
class World:
    """Acme and Globex in one federation after a round and in another round, and a federation that is Acme's alone."""

    acme: Tenant
    globex: Tenant
    shared: Federation
    secret: Federation
    hidden_words: frozenset[str]


def _of_acme(acme: Tenant) -> Iterator[Model]:
    """Acme's rows of all kinds."""
    for model in (
        *(ApiKey, AuditEntry, Dataset, Enrolment, Evaluation, LocalRun, Membership, PersonalPrefix),
        *WEBHOOKS,
    ):
        yield from cast(Any, model).objects.filter(tenant=acme)


def _of_federation(federation: Federation) -> Iterator[Model]:
    yield federation
    for model in (Campaign, Enrolment, Evaluation, FederatedRound, PrefixVersion, PublishRecord, Schedule):
        yield from cast(Any, model).objects.filter(federation=federation)


def _words(rows: list[Model]) -> Iterator[str]:
    for row in rows:
        yield str(row.pk)
        if isinstance(row, Identified):
            yield row.public_id
        if isinstance(row, Membership):
            yield row.user.username
        if isinstance(row, ApiKey | Dataset | Federation):
            yield row.name


def make_world(acme: Tenant, globex: Tenant) -> World:
    """With rows of every kind that has a page."""
    shared, secret = ready_federation(n_tenants=1), ready_federation(n_tenants=1)
    for tenant, federation in ((acme, shared), (globex, shared), (acme, secret)):
        dataset = DatasetFactory.create(tenant=tenant, name=f"rows of {tenant.slug} for {federation.name}")
        place = EnrolmentFactory.create(tenant=tenant, federation=federation, dataset=dataset)
        with scoping.platform():
            version = federation.published.version
        PersonalPrefixFactory.create(
            version=version, enrolment=place, state="completed", finished_at=timezone.now()
        )
    for federation in (shared, secret):
        Federation.objects.filter(pk=federation.pk).update(name=f"{federation.name} of many")
        ScheduleFactory.create(federation=federation)
        CampaignFactory.create(federation=federation, state="completed", finished_at=timezone.now())
        done = rounds.start(federation)
        rounds.train_all(done)
        rounds.score_all(done, parent=0.7, candidate=0.8)
        live = rounds.start(federation)
        for run in rounds.runs_of(live):
            with scoping.platform():
                LocalRun.objects.filter(pk=run.pk).update(history=[[1, 2.0], [2, 1.5]])
    for tenant in (acme, globex):
        WebhookDeliveryFactory.create(endpoint=WebhookEndpointFactory.create(tenant=tenant))
        with scoping.platform():
            create_api_key(tenant=tenant, name=f"key of {tenant.slug}", giver_rights=OPERATOR_RIGHTS)
            add_member(
                tenant=tenant,
                email=f"ann@{tenant.slug}.example",
                role=Role.VIEWER,
                giver_rights=OPERATOR_RIGHTS,
            )
    shared, secret = rounds.reload(shared), rounds.reload(secret)
    unusable = BaseModelFactory.create(name="not read yet", state="registering")
    with scoping.platform():
        of_the_platform = AuditEntry.objects.filter(tenant=None)
        rows = [*_of_acme(acme), *_of_federation(secret), *of_the_platform, unusable]
        words = {"Acme", "acme", acme.public_id, str(acme.pk), unusable.name, *_words(rows)}
    return World(acme, globex, shared, secret, frozenset(words))


def member_of(tenant: Tenant, role: Role) -> Client:
    """A signed-in browser of one of the tenant's people."""
    membership = MembershipFactory.create(tenant=tenant, role=role)
    return signed_in(membership.user, REMOTE_ADDR=ADDRESS)


def rows_of(model: type[Model], **filters: Any) -> list[Any]:
    with scoping.platform():
        return list(model._default_manager.filter(**filters).order_by("pk"))


def context_of(response: Any) -> dict[str, Any]:
    assert isinstance(response, TemplateResponse)
    assert response.context_data is not None
    return response.context_data
