"""A tenant's people in the console: each role has its pages and buttons, and nothing of another tenant is anywhere."""

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, cast

import pytest
from django.contrib import admin
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import Group, Permission, User
from django.contrib.contenttypes.models import ContentType
from django.db.models import Model
from django.template.response import TemplateResponse
from django.test import Client
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
    Schedule,
    WebhookDelivery,
    WebhookEndpoint,
)
from federation.states import EnrolmentState
from tenants import scoping
from tenants.admin.rows import ServiceRows, change_url
from tenants.ids import Identified, uuid7
from tenants.models import ApiKey, AuditEntry, Dataset, Membership, Tenant, TenantLimits
from tenants.rights import OPERATOR_RIGHTS
from tenants.scoping import ScopedManager
from tenants.services.api_keys import create_api_key
from tenants.services.tenants import add_member
from tenants.states import Role, TenantState
from tests.factories import (
    ApiKeyFactory,
    BaseModelFactory,
    CampaignFactory,
    DatasetFactory,
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

ADDRESS = "192.0.2.66"
PASSWORD = "correct horse battery staple"
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
WEBHOOKS: set[type[Model]] = {WebhookDelivery, WebhookEndpoint}
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


@pytest.fixture
def world(acme: Tenant, globex: Tenant) -> World:
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


def member_of(tenant: Tenant, role: Role) -> Client:
    """A signed-in browser of one of the tenant's people."""
    membership = MembershipFactory.create(tenant=tenant, role=role)
    return signed_in(membership.user, REMOTE_ADDR=ADDRESS)


def rows_of(model: type[Model], **filters: Any) -> list[Any]:
    with scoping.platform():
        return list(model._default_manager.filter(**filters).order_by("pk"))


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


def context_of(response: Any) -> dict[str, Any]:
    assert isinstance(response, TemplateResponse)
    assert response.context_data is not None
    return response.context_data


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


def test_an_engineer_takes_a_place_and_leaves_it_on_record(world: World) -> None:
    EnrolmentFactory.create(tenant=world.globex, federation=world.secret, dataset=None, state="invited")
    [place] = rows_of(Enrolment, tenant=world.globex, federation=world.secret)
    [dataset] = rows_of(Dataset, tenant=world.globex)
    engineer = member_of(world.globex, Role.ENGINEER)
    assert dataset.public_id in text_of(engineer.get(change_url(place)))
    told = engineer.post(action_url(place, "enrol"), {"choice": dataset.public_id}, follow=True)
    assert f"takes part in {world.secret} with" in text_of(told)
    entered = rows_of(AuditEntry, action="enrolment.activated", object_id=place.public_id)
    engineer.post(action_url(place, "leave"))
    left = rows_of(AuditEntry, action="enrolment.left", object_id=place.public_id)
    for entry in (*entered, *left):
        assert (entry.actor_kind, entry.address, entry.tenant_id) == ("member", ADDRESS, world.globex.pk)
        assert entry.actor_name.startswith("person")
        assert entry.credential.startswith("session_")
    changes = [(entry.before["state"], entry.after["state"]) for entry in (*entered, *left)]
    assert changes == [("invited", "active"), ("active", "left")]


def test_a_place_is_taken_with_an_own_dataset_and_by_the_tenant_alone(world: World) -> None:
    [place] = rows_of(Enrolment, tenant=world.globex)
    [foreign, *_] = rows_of(Dataset, tenant=world.acme)
    url = action_url(place, "enrol")
    engineer = member_of(world.globex, Role.ENGINEER)
    assert "There is no dataset" in text_of(engineer.post(url, {"choice": foreign.public_id}, follow=True))
    operator = signed_in(UserFactory.create(is_staff=True, is_superuser=True))
    own = rows_of(Dataset, tenant=world.globex)[0].public_id
    assert operator.post(url, {"choice": own}).status_code == 403
    assert rows_of(Enrolment, tenant=world.globex)[0].dataset_id == place.dataset_id


def test_an_owner_makes_keys_and_members_for_its_own_tenant_alone(world: World) -> None:
    owner = member_of(world.globex, Role.OWNER)
    forms = {ApiKey: {"name": "new"}, Membership: {"email": "new@example.com", "role": "viewer"}}
    for model, body in forms.items():
        known = {row.pk for row in rows_of(model)}
        for tenant in (str(world.acme.pk), ""):
            refused = owner.post(add_url(model), {**body, "tenant": tenant})
            assert refused.status_code == 200
            assert "tenant" in context_of(refused)["form"].errors
        assert {row.pk for row in rows_of(model)} == known
        owner.post(add_url(model), {**body, "tenant": str(world.globex.pk)})
        [made] = [row for row in rows_of(model) if row.pk not in known]
        assert made.tenant_id == world.globex.pk


def test_permissions_that_an_account_has_besides_add_nothing(world: World) -> None:
    membership = MembershipFactory.create(tenant=world.globex, role=Role.VIEWER)
    membership.user.user_permissions.set(Permission.objects.all())
    client = signed_in(membership.user)
    [live] = rows_of(FederatedRound, federation=world.shared, number=2)
    assert client.post(action_url(live, "cancel")).status_code == 403
    assert client.get(list_url(User)).status_code == 403


def test_who_belongs_to_no_active_tenant_does_not_enter(acme: Tenant) -> None:
    ended = MembershipFactory.create(tenant=acme)
    suspended = MembershipFactory.create()
    superuser = MembershipFactory.create(tenant=acme, user__is_superuser=True)
    clients = {one: signed_in(one.user) for one in (ended, suspended)}
    assert {client.get(reverse("admin:index")).status_code for client in clients.values()} == {200}
    with scoping.platform():
        Membership.objects.filter(pk=ended.pk).delete()
        Tenant.objects.filter(pk=suspended.tenant_id).update(state=TenantState.SUSPENDED)
    clients[superuser] = signed_in(superuser.user)
    for one, client in clients.items():
        refused = client.get(list_url(Dataset))
        assert refused.status_code == 403
        assert f"The account {one.user} belongs to no active tenant" in refused.content.decode()
        assert client.get(list_url(Dataset))["Location"].startswith(reverse("admin:login"))


def test_a_changed_role_counts_from_the_next_request_on(world: World) -> None:
    membership = MembershipFactory.create(tenant=world.globex, role=Role.OWNER)
    client = signed_in(membership.user)
    assert client.get(list_url(ApiKey)).status_code == 200
    with scoping.platform():
        Membership.objects.filter(pk=membership.pk).update(role=Role.ENGINEER)
    assert client.get(list_url(ApiKey)).status_code == 403


def test_a_person_of_two_tenants_works_for_one_at_a_time(acme: Tenant, globex: Tenant) -> None:
    first = MembershipFactory.create(tenant=acme, role=Role.OWNER)
    second = MembershipFactory.create(tenant=globex, role=Role.VIEWER, user=first.user)
    foreign = MembershipFactory.create(tenant=globex, role=Role.OWNER)
    keys = {tenant: ApiKeyFactory.create(tenant=tenant, name=f"key of {tenant}") for tenant in (acme, globex)}
    client = signed_in(first.user)
    listed = text_of(client.get(list_url(ApiKey)))
    assert (keys[acme].name in listed, keys[globex].name in listed) == (True, False)
    page = text_of(client.get(reverse("admin:index")))
    assert "Acme · owner" in page
    assert "Work for Globex (viewer)" in page

    choose = reverse("choose_membership")
    assert client.get(choose).status_code == 405
    for strange in (foreign.public_id, "mem_", ""):
        assert client.post(choose, {"membership": strange}).status_code == 404
    assert client.get(list_url(ApiKey)).status_code == 200
    client.post(choose, {"membership": second.public_id})
    assert "Globex · viewer" in text_of(client.get(reverse("admin:index")))
    assert client.get(list_url(ApiKey)).status_code == 403, "a viewer of Globex, whatever it is elsewhere"
    unchecked = signed_in(first.user, enforce_csrf_checks=True)
    assert unchecked.post(choose, {"membership": second.public_id}).status_code == 403
    assert Client().post(choose, {"membership": second.public_id}).status_code == 404


def test_a_member_signs_in_where_staff_does(acme: Tenant) -> None:
    person = MembershipFactory.create(tenant=acme, role=Role.VIEWER).user
    person.set_password(PASSWORD)
    person.last_login = timezone.now()
    person.save()
    client = Client()
    form = {"login": person.username, "password": PASSWORD, "next": reverse("admin:index")}
    assert "Acme · viewer" in text_of(client.post(reverse("admin:login"), form, follow=True))
    [entry] = rows_of(AuditEntry, action="console_user.signed_in")
    assert entry.actor_kind == "member"
