"""A tenant's people in the console: each role has its pages and buttons, and nothing of another tenant is anywhere."""

import re
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pytest
from django.contrib import admin
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import Group, Permission, User
from django.contrib.contenttypes.models import ContentType
from django.db.models import Model
from django.urls import NoReverseMatch, URLPattern, URLResolver, reverse
from django.utils import timezone

from deploy.console_rights import MEMBER_RIGHTS
from federation.models import (
    BaseModel,
    Campaign,
    Enrolment,
    Evaluation,
    FederatedRound,
    Federation,
    LocalRun,
    PersonalPrefix,
    PrefixVersion,
    PublishRecord,
    WebhookDelivery,
    WebhookEndpoint,
)
from federation.states import EnrolmentState
from tenants import scoping
from tenants.admin.rows import ServiceRows, change_url
from tenants.ids import uuid7
from tenants.models import ApiKey, AuditEntry, Dataset, Membership, Tenant, TenantLimits
from tenants.scoping import ScopedManager
from tenants.services import audit
from tenants.states import Role
from tests.deploy.members import WEBHOOKS, World, context_of, member_of, rows_of
from tests.factories import (
    ApiKeyFactory,
    CampaignFactory,
    EnrolmentFactory,
    MembershipFactory,
    PersonalPrefixFactory,
    ScheduleFactory,
    UserFactory,
    WebhookDeliveryFactory,
    WebhookEndpointFactory,
    ready_federation,
)
from tests.federation import rounds
from tests.federation.console import action_url, add_url, list_url, signed_in, text_of

pytestmark = pytest.mark.django_db

ALL_PAGES = set(admin.site._registry)
FOR_THE_PLATFORM = {User, Group, PublishRecord}
FOR_EVERY_ROLE: set[type[Model]] = {
    *(
        BaseModel,
        Campaign,
        Dataset,
        Enrolment,
        Evaluation,
        FederatedRound,
        Federation,
        LocalRun,
        PersonalPrefix,
        PrefixVersion,
        Tenant,
        TenantLimits,
    ),
}
PAGES: dict[Role, set[type[Model]]] = {
    Role.VIEWER: FOR_EVERY_ROLE,
    Role.ENGINEER: FOR_EVERY_ROLE | WEBHOOKS,
    Role.AUDITOR: FOR_EVERY_ROLE | WEBHOOKS | {ApiKey, AuditEntry, Membership},
    Role.OWNER: FOR_EVERY_ROLE | WEBHOOKS | {ApiKey, AuditEntry, Membership},
}
ENGINEERS_WORK: set[tuple[type[Model], str]] = {
    *((Enrolment, name) for name in ("enrol", "leave")),
    *((PersonalPrefix, name) for name in ("add", "remove")),
    *((WebhookEndpoint, name) for name in ("add", "test", "rotate", "enable", "disable", "remove")),
    (WebhookDelivery, "resend"),
}
WORK: dict[Role, set[tuple[type[Model], str]]] = {
    Role.VIEWER: set(),
    Role.ENGINEER: ENGINEERS_WORK,
    Role.AUDITOR: set(),
    Role.OWNER: ENGINEERS_WORK
    | {(ApiKey, "add"), (ApiKey, "rotate"), (ApiKey, "revoke"), (Membership, "add"), (Membership, "remove")},
}


@pytest.fixture
def globex_alone(globex: Tenant) -> FederatedRound:
    """A live round of Globex, and a row of every kind that has buttons."""
    federation = ready_federation(n_tenants=0, quorum=1)
    place = EnrolmentFactory.create(tenant=globex, federation=federation)
    with scoping.platform():
        version = federation.published.version
    PersonalPrefixFactory.create(version=version, enrolment=place)
    ScheduleFactory.create(federation=federation)
    CampaignFactory.create(federation=federation, state="completed", finished_at=timezone.now())
    ApiKeyFactory.create(tenant=globex)
    MembershipFactory.create(tenant=globex)
    for _ in range(2):  # the first webhook is deleted by a button
        WebhookDeliveryFactory.create(endpoint=WebhookEndpointFactory.create(tenant=globex))
    return rounds.start(federation)


def addresses(*, of: Callable[[type[Model]], list[Any]]) -> list[str]:
    """Every address of the console, those of rows for each of the rows that `of` finds."""
    found = []
    for pattern in _patterns(admin.site.get_urls()):
        name = f"admin:{pattern.name}"
        for arguments in _arguments(pattern, of):
            try:
                found.append(reverse(name, args=arguments))
            except NoReverseMatch:
                raise AssertionError(f"{name} takes something that this walk does not know") from None
    return found


def _patterns(entries: Sequence[URLPattern | URLResolver]) -> Iterator[URLPattern]:
    for entry in entries:
        if isinstance(entry, URLResolver):
            yield from _patterns(entry.url_patterns)
        elif entry.name not in (None, "logout"):
            yield entry


def _arguments(pattern: URLPattern, of: Callable[[type[Model]], list[Any]]) -> Iterator[list[Any]]:
    names = set(pattern.pattern.converters) | set(pattern.pattern.regex.groupindex)
    if not names:
        yield []
    elif names == {"app_label"}:
        yield from (["tenants"], ["federation"], ["auth"])
    elif names == {"content_type_id", "object_id"}:
        for model in ALL_PAGES:
            yield from ([ContentType.objects.get_for_model(model).pk, row.pk] for row in of(model))
    else:
        for model in ALL_PAGES:
            prefix = f"{model._meta.app_label}_{model._meta.model_name}_"
            if str(pattern.name).startswith(prefix) or pattern.name == "auth_user_password_change":
                yield from ([row.pk] for row in of(model))


def hidden_in(page: str, world: World) -> set[str]:
    return {word for word in world.hidden_words if word in page}


def test_every_page_of_the_console_is_decided_on_and_every_word_is_a_permission() -> None:
    views = {
        f"{model._meta.app_label}.view_{model._meta.model_name}" for model in ALL_PAGES - FOR_THE_PLATFORM
    }
    assert views <= set(MEMBER_RIGHTS)
    known = {
        f"{app}.{name}" for app, name in Permission.objects.values_list("content_type__app_label", "codename")
    }
    assert set(MEMBER_RIGHTS) <= known
    assert not {word for word in MEMBER_RIGHTS if word.startswith("auth.")}


def test_every_page_of_rows_that_are_no_tenants_asks_a_selector() -> None:
    for model, page in admin.site._registry.items():
        if isinstance(page, ServiceRows) and not isinstance(model._default_manager, ScopedManager):
            assert page.visible is not None, model


@pytest.mark.parametrize("role", Role)
def test_a_role_has_its_pages_and_no_other(globex: Tenant, role: Role) -> None:
    client = member_of(globex, role)
    answers = {model: client.get(list_url(model)).status_code for model in ALL_PAGES}
    assert {model for model, status in answers.items() if status == 200} == PAGES[role]
    assert {status for model, status in answers.items() if model not in PAGES[role]} == {403}
    sidebar = text_of(client.get(reverse("admin:index")))
    assert {model for model in ALL_PAGES if f'href="{list_url(model)}"' in sidebar} == PAGES[role]


@pytest.mark.parametrize("role", Role)
def test_a_role_has_its_buttons_and_forms_and_no_other(
    globex: Tenant, globex_alone: FederatedRound, role: Role
) -> None:
    client = member_of(globex, role)
    permitted = set()
    for model, page in admin.site._registry.items():
        if getattr(page, "add_form", None) or model in (User, Group):
            status = client.post(add_url(model)).status_code
            assert status in (200, 403), model
            permitted |= {(model, "add")} if status == 200 else set()
        for button in getattr(page, "row_actions", ()):
            status = client.post(action_url(rows_of(model)[0], button.name.replace("-", "_"))).status_code
            assert status in (200, 302, 403), (model, button.name)
            permitted |= {(model, button.name)} if status != 403 else set()
    assert permitted == WORK[role]


@pytest.mark.parametrize("role", Role)
def test_buttons_and_links_to_forms_are_shown_to_those_who_may_press_them(
    globex: Tenant, globex_alone: FederatedRound, role: Role
) -> None:
    client = member_of(globex, role)
    [place] = rows_of(Enrolment)
    shown = "".join(
        text_of(client.get(change_url(row))) for row in (place, globex_alone, globex_alone.federation)
    )
    shown += "".join(text_of(client.get(list_url(model))) for model in PAGES[role])
    posts = set(re.findall(r'<form method="post" action="/console/(?!logout)([^"]+)"', shown))
    assert {path.split("/")[-2] for path in posts} == ({"enrol", "leave", "remove"} if WORK[role] else set())
    links = {model for model in ALL_PAGES if f'href="{add_url(model)}' in shown}
    assert links == {model for model, name in WORK[role] if name == "add"}


def test_nothing_of_another_tenant_is_on_any_page(world: World) -> None:
    client = member_of(world.globex, Role.OWNER)  # who sees all that any role sees

    def visible(model: type[Model]) -> list[Any]:
        return [row for row in rows_of(model) if str(row.pk) not in world.hidden_words]

    pages = addresses(of=visible)
    assert len(pages) > 100
    n_shown = 0
    for page in pages:
        response = client.get(page)
        assert response.status_code in (200, 302, 403, 404, 405), page
        assert not hidden_in(response.content.decode(), world), page
        n_shown += response.status_code == 200
    assert n_shown > 30


def test_rows_of_another_tenant_are_as_if_they_were_not_there(world: World) -> None:
    def hidden(model: type[Model]) -> list[Any]:
        return [row for row in rows_of(model) if str(row.pk) in world.hidden_words][:1]

    pages = [page for page in addresses(of=hidden) if any(word in page for word in world.hidden_words)]
    assert len(pages) > 50
    owner = member_of(world.globex, Role.OWNER)
    for page in pages:
        unknown = re.sub(r"[0-9a-f]{8}-[0-9a-f-]{27}", str(uuid7()), page)
        for ask in ("get", "post"):
            answer, expected = (getattr(owner, ask)(url) for url in (page, unknown))
            assert answer.status_code in (302, 403, 404, 405), page
            assert answer.status_code == expected.status_code, page
            assert answer.get("Location") == expected.get("Location"), page
    with scoping.platform():
        assert ApiKey.objects.get(tenant=world.acme).revoked_at is None
        assert not Enrolment.objects.filter(tenant=world.acme, state=EnrolmentState.LEFT).exists()


def test_the_dashboard_and_the_lists_count_what_the_tenant_sees(world: World) -> None:
    client = member_of(world.globex, Role.VIEWER)
    response = client.get(reverse("admin:index"))
    shown = context_of(response)
    counts = shown["overview"]
    assert (counts.n_federations, counts.n_rounds, counts.n_tenants, counts.n_places) == (1, 2, 1, 1)
    assert (counts.n_versions, counts.n_waiting + counts.n_running) == (2, 1)
    assert [live.federated_round.federation for live in shown["live_rounds"]] == [world.shared]
    assert [ended.federation for ended in shown["finished_rounds"]] == [world.shared]
    for model, n_rows in (
        (Federation, 1),
        (FederatedRound, 2),
        (PrefixVersion, 2),
        (LocalRun, 2),
        (Tenant, 1),
    ):
        listed = client.get(list_url(model))
        assert context_of(listed)["cl"].result_count == n_rows, model


def test_charts_and_progress_are_those_of_the_own_part(world: World) -> None:
    client = member_of(world.globex, Role.VIEWER)
    response = client.get(change_url(world.shared))
    charts = context_of(response)
    assert [line["name"] for line in charts["accuracy"]["tenants"]] == ["Globex"]
    assert [line["name"] for line in charts["losses"]] == ["Globex"]
    page = text_of(response)
    assert "are those of Globex alone" in page
    assert "Active tenants" not in page
    assert "Worst tenant</span>" not in page
    [live] = rows_of(FederatedRound, federation=world.shared, number=2)
    fragment = client.get(reverse("admin:federation_federatedround_progress", args=[live.pk]))
    assert [run.local_run.tenant for run in context_of(fragment)["progress"].runs] == [world.globex]


@pytest.mark.parametrize(
    "filters",
    [
        *("action=%00", "action__exact=%00", "object_id__contains=%00", "q=%00", "id__in=%00"),
        *(
            "happened_at__gte=x",
            "happened_at__gte=0001-01-01T00:00:00%2B14:00",
            "happened_at__lt=9999-12-31T23:59:59-12:00",
        ),
        *("happened_at__year=99999999999", "happened_at__year=0", "happened_at__month=13"),
        *("p=99999999999999999999", "o=99999999999999999999"),
    ],
)
def test_a_filter_with_a_value_that_no_field_holds_shows_the_whole_list(acme: Tenant, filters: str) -> None:
    answer = member_of(acme, Role.OWNER).get(f"{list_url(AuditEntry)}?{filters}", follow=True)
    assert text_of(answer)


def test_a_state_that_no_field_holds_shows_the_whole_list(acme: Tenant) -> None:
    answer = member_of(acme, Role.OWNER).get(f"{list_url(Dataset)}?state__exact=%00")
    assert answer["Location"] == f"{list_url(Dataset)}?e=1"


def test_the_chain_of_the_audit_record_is_the_platforms(acme: Tenant, globex: Tenant) -> None:
    with scoping.platform():
        for tenant in (globex, acme):
            audit.record(action="tenant.changed", subject=tenant, after={"name": "new"})
    operator = signed_in(UserFactory.create(username="ops@example.com", is_staff=True, is_superuser=True))
    owner = member_of(acme, Role.OWNER)
    [entry] = rows_of(AuditEntry, tenant=acme, action="tenant.changed")
    assert entry.content_sha256
    for client, is_told in ((operator, True), (owner, False)):
        listed, shown = (text_of(client.get(url)) for url in (list_url(AuditEntry), change_url(entry)))
        assert ("column-number" in listed) is is_told
        assert ("Place in the chain" in shown) is is_told
        assert (entry.content_sha256 in shown) is is_told
        for lookup in ("number", "number__gte", "sha256__startswith", "content_sha256"):
            status = client.get(list_url(AuditEntry), {lookup: "1"}).status_code
            assert status == (200 if is_told else 400), lookup


def test_djangos_own_log_is_for_the_platform_alone(world: World) -> None:
    operator = signed_in(UserFactory.create(username="ops@example.com", is_staff=True, is_superuser=True))
    [live] = rows_of(FederatedRound, federation=world.shared, number=2)
    operator.post(action_url(live, "cancel"))
    assert LogEntry.objects.count() == 1
    history = reverse("admin:federation_federatedround_history", args=[live.pk])
    assert "ops@example.com" in text_of(operator.get(history))
    owner = member_of(world.globex, Role.OWNER)
    assert owner.get(history).status_code == 403
    [dataset] = rows_of(Dataset, tenant=world.globex)
    assert "/history/" in text_of(operator.get(change_url(dataset)))
    assert "/history/" not in text_of(owner.get(change_url(dataset)))
