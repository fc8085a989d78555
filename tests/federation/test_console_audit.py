"""The console on record: every form and every button leaves one entry, and so do sign-ins and changes of rights."""

import json
from collections.abc import Callable
from typing import Any

import pytest
from django.contrib import admin
from django.contrib.auth.models import Group, Permission, User
from django.db.models import Model
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from federation.models import (
    BaseModel,
    Campaign,
    Enrolment,
    FederatedRound,
    Federation,
    PrefixVersion,
    Schedule,
    WebhookDelivery,
    WebhookEndpoint,
)
from federation.specification import EXAMPLE
from federation.states import DeliveryState, WebhookState
from tenants import scoping
from tenants.admin.people import OnRecord
from tenants.admin.rows import ServiceRows, change_url
from tenants.models import ApiKey, AuditEntry, Membership, Tenant, TenantLimits
from tenants.states import TenantState
from tests.factories import (
    ApiKeyFactory,
    BaseModelFactory,
    CampaignFactory,
    FederatedRoundFactory,
    MembershipFactory,
    PrefixVersionFactory,
    ScheduleFactory,
    TenantFactory,
    UserFactory,
    WebhookDeliveryFactory,
    WebhookEndpointFactory,
    ready_federation,
)

pytestmark = pytest.mark.django_db
ADDRESS = "192.0.2.55"
PASSWORD = "correct horse battery staple"


@pytest.fixture
def ann() -> User:
    """An operator with a password."""
    person: User = UserFactory.create(username="ann@example.com", is_staff=True, is_superuser=True)
    person.set_password(PASSWORD)
    person.save()
    return person


@pytest.fixture
def console(ann: User) -> Client:
    """Her browser, signed in."""
    client = Client(REMOTE_ADDR=ADDRESS)
    client.force_login(ann)
    return client


def new_entries(act: Callable[[], Any]) -> list[AuditEntry]:
    """What the record has gained by `act`."""
    with scoping.platform():
        known = set(AuditEntry.objects.values_list("pk", flat=True))
    act()
    with scoping.platform():
        return list(AuditEntry.objects.exclude(pk__in=known).order_by("happened_at"))


def url(model: type[Model], name: str, *args: object) -> str:
    return reverse(f"admin:{model._meta.app_label}_{model._meta.model_name}_{name}", args=args)


def _other_version() -> PrefixVersion:
    federation = ready_federation()
    with scoping.platform():
        parent = federation.published.version
    return PrefixVersionFactory.create(federation=federation, number=1, parent=parent)


def _enrolment() -> Enrolment:
    federation = ready_federation()
    with scoping.platform():
        return Enrolment.objects.filter(federation=federation)[0]


def _webhook(**fields: Any) -> WebhookEndpoint:
    return WebhookEndpointFactory.create(tenant=None, **fields)


def _failed_delivery() -> WebhookDelivery:
    ended = {"state": DeliveryState.FAILED, "finished_at": timezone.now()}
    return WebhookDeliveryFactory.create(endpoint=_webhook(), **ended)


FORMS: dict[type[Model], tuple[str, Callable[[], dict[str, Any]]]] = {
    Tenant: ("tenant.created", lambda: {"name": "Hooli", "slug": "hooli"}),
    ApiKey: ("api_key.created", lambda: {"tenant": str(TenantFactory.create().pk), "name": "k"}),
    Membership: (
        "member.added",
        lambda: {
            "tenant": str(TenantFactory.create().pk),
            "email": UserFactory.create().username,
            "role": "viewer",
        },
    ),
    BaseModel: (
        "base_model.registered",
        lambda: {"name": "m", "directory": "m", "source": "here", "licence": "none"},
    ),
    Federation: (
        "federation.created",
        lambda: {
            "name": "f",
            "base_model": str(BaseModelFactory.create().pk),
            "specification": EXAMPLE.model_dump_json(),
        },
    ),
    Enrolment: (
        "enrolment.invited",
        lambda: {"federation": str(ready_federation().pk), "tenant": str(TenantFactory.create().pk)},
    ),
    TenantLimits: (
        "limits.set",
        lambda: {"tenant": str(TenantFactory.create().pk), "requests_per_minute": "60", "weight": "1"},
    ),
    Campaign: (
        "campaign.started",
        lambda: {"federation": str(ready_federation().pk), "n_rounds": "3", "evaluate_every": "1"},
    ),
    Schedule: (
        "schedule.set",
        lambda: {"federation": str(ready_federation().pk), "every_minutes": "5", "time_zone": "UTC"},
    ),
    WebhookEndpoint: ("webhook.created", lambda: {"url": "https://hooks.example.com"}),
}
BESIDES: dict[type[Model], list[str]] = {
    Campaign: ["round.started"]
}  # what else a form's service does, with an entry of its own
BUTTONS: dict[tuple[type[Model], str], tuple[str, Callable[[], Model]]] = {
    (Tenant, "suspend"): ("tenant.changed", TenantFactory.create),
    (Tenant, "lift-suspension"): (
        "tenant.changed",
        lambda: TenantFactory.create(state=TenantState.SUSPENDED),
    ),
    (ApiKey, "rotate"): ("api_key.rotated", ApiKeyFactory.create),
    (ApiKey, "revoke"): ("api_key.revoked", ApiKeyFactory.create),
    (Membership, "remove"): ("member.removed", MembershipFactory.create),
    (Enrolment, "leave"): ("enrolment.left", _enrolment),
    (Federation, "start-round"): ("round.started", ready_federation),
    (Campaign, "cancel"): ("campaign.canceled", CampaignFactory.create),
    (FederatedRound, "cancel"): ("round.canceled", FederatedRoundFactory.create),
    (Schedule, "pause"): ("schedule.paused", ScheduleFactory.create),
    (Schedule, "resume"): ("schedule.resumed", lambda: ScheduleFactory.create(is_paused=True)),
    (Schedule, "remove"): ("schedule.removed", ScheduleFactory.create),
    (WebhookEndpoint, "test"): ("webhook.tested", _webhook),
    (WebhookEndpoint, "rotate"): ("webhook.secret_rotated", _webhook),
    (WebhookEndpoint, "enable"): ("webhook.changed", lambda: _webhook(state=WebhookState.DISABLED)),
    (WebhookEndpoint, "disable"): ("webhook.changed", _webhook),
    (WebhookEndpoint, "remove"): ("webhook.deleted", _webhook),
    (WebhookDelivery, "resend"): ("webhook_delivery.resent", _failed_delivery),
    (PrefixVersion, "roll-back"): ("prefix.rolled_back", _other_version),
}


def test_every_form_and_every_button_has_a_place_here_and_no_other_page_writes() -> None:
    pages = admin.site._registry
    serving = {model: page for model, page in pages.items() if isinstance(page, ServiceRows)}
    assert {model for model, page in serving.items() if page.add_form and not page.members_add} == set(FORMS)
    buttons = [(model, button) for model, page in serving.items() for button in page.row_actions]
    assert {(model, button.name) for model, button in buttons if not button.is_members_own} == set(BUTTONS)
    assert set(pages) - set(serving) == {User, Group}
    assert all(isinstance(pages[model], OnRecord) for model in (User, Group))


def assert_by_ann(entry: AuditEntry, ann: User) -> None:
    assert (entry.actor_kind, entry.actor_id, entry.actor_name) == (
        "console_user",
        f"user_{ann.pk}",
        "ann@example.com",
    )
    assert entry.credential.startswith("session_")
    assert entry.address == ADDRESS
    assert entry.request_id


@pytest.mark.parametrize("model", FORMS, ids=lambda model: model.__name__)
def test_a_form_leaves_one_entry(console: Client, ann: User, model: type[Model]) -> None:
    action, body = FORMS[model]
    filled = body()
    entries = {entry.action: entry for entry in new_entries(lambda: console.post(url(model, "add"), filled))}
    assert sorted(entries) == sorted([action, *BESIDES.get(model, [])])
    entry = entries[action]
    assert entry.after
    assert_by_ann(entry, ann)


@pytest.mark.parametrize("button", BUTTONS, ids=lambda button: f"{button[0].__name__} {button[1]}")
def test_a_button_leaves_one_entry(console: Client, ann: User, button: tuple[type[Model], str]) -> None:
    action, make = BUTTONS[button]
    row = make()
    path = url(button[0], button[1].replace("-", "_"), row.pk)
    [entry] = new_entries(lambda: console.post(path))
    assert entry.action == action
    assert entry.before or entry.after
    assert_by_ann(entry, ann)
    assert new_entries(lambda: Client().post(path)) == []


def user_form(user: User, **changes: Any) -> dict[str, Any]:
    joined = user.date_joined
    return {
        "username": user.username,
        "email": user.email,
        "is_active": "on",
        "date_joined_0": joined.strftime("%Y-%m-%d"),
        "date_joined_1": joined.strftime("%H:%M:%S"),
        **changes,
    }


def test_rights_that_are_given_to_somebody_are_on_record(console: Client, ann: User) -> None:
    bob: User = UserFactory.create(username="bob@example.com")
    group = Group.objects.create(name="starters")
    permission = Permission.objects.get(codename="add_federatedround")
    form = user_form(bob, is_staff="on", groups=[group.pk], user_permissions=[permission.pk])
    [entry] = new_entries(lambda: console.post(change_url(bob), form))
    assert (entry.action, entry.object_id) == ("console_user.changed", f"user_{bob.pk}")
    assert entry.before == {"is_staff": False, "groups": [], "permissions": []}
    assert entry.after == {
        "is_staff": True,
        "groups": ["starters"],
        "permissions": ["federation.add_federatedround"],
    }
    assert_by_ann(entry, ann)
    bob.refresh_from_db()
    assert new_entries(lambda: console.post(change_url(bob), form)) == [], "the same again changes nothing"


def test_an_account_is_made_gets_a_password_and_is_deleted_on_record(console: Client) -> None:
    form = {"username": "bob", "password1": PASSWORD, "password2": PASSWORD, "usable_password": "true"}
    made = new_entries(lambda: console.post(url(User, "add"), form))
    assert [entry.action for entry in made] == ["console_user.password_set", "console_user.created"]
    bob = User.objects.get(username="bob")
    path = reverse("admin:auth_user_password_change", args=[bob.pk])
    [entry] = new_entries(
        lambda: console.post(
            path, {**form, "set-password": "1"} | {"password1": "x" * 20, "password2": "x" * 20}
        )
    )
    assert (entry.action, entry.before, entry.after) == ("console_user.password_set", {}, {})
    [entry] = new_entries(lambda: console.post(path, {"usable_password": "false", "unset-password": "1"}))
    assert entry.action == "console_user.password_removed"
    delete = url(User, "delete", bob.pk)
    [entry] = new_entries(lambda: console.post(delete, {"post": "yes"}))
    assert (entry.action, entry.before["username"]) == ("console_user.deleted", "bob")


def test_own_passwords_are_on_record(console: Client, ann: User) -> None:
    form = {"old_password": PASSWORD, "new_password1": "y" * 20, "new_password2": "y" * 20}
    [entry] = new_entries(lambda: console.post(reverse("admin:password_change"), form))
    assert entry.action == "console_user.password_set"
    assert_by_ann(entry, ann)


def test_a_group_is_made_changed_and_deleted_from_the_list_on_record(console: Client) -> None:
    permission = Permission.objects.get(codename="change_federatedround")
    [made] = new_entries(lambda: console.post(url(Group, "add"), {"name": "cancelers"}))
    group = Group.objects.get()
    [changed] = new_entries(
        lambda: console.post(change_url(group), {"name": "cancelers", "permissions": [permission.pk]})
    )
    form = {"action": "delete_selected", "_selected_action": [group.pk], "post": "yes"}
    [deleted] = new_entries(lambda: console.post(url(Group, "changelist"), form))
    assert [entry.action for entry in (made, changed, deleted)] == [
        "console_group.created",
        "console_group.changed",
        "console_group.deleted",
    ]
    assert (changed.before, changed.after) == (
        {"permissions": []},
        {"permissions": ["federation.change_federatedround"]},
    )


def sign_in(username: str, password: str) -> None:
    Client(REMOTE_ADDR=ADDRESS).post(reverse("admin:login"), {"login": username, "password": password})


def test_signing_in_and_out_is_on_record(ann: User) -> None:
    client = Client(REMOTE_ADDR=ADDRESS)
    form = {"login": "ann@example.com", "password": PASSWORD}
    [entry] = new_entries(lambda: client.post(reverse("admin:login"), form))
    assert entry.action == "console_user.signed_in"
    assert_by_ann(entry, ann)
    assert str(client.session.session_key) not in json.dumps(entry.content())
    [entry] = new_entries(lambda: client.post(reverse("admin:logout")))
    assert entry.action == "console_user.signed_out"
    assert_by_ann(entry, ann)


def test_failed_sign_ins_are_on_record_without_what_was_typed(ann: User) -> None:
    [entry] = new_entries(lambda: sign_in("ann@example.com", "wrong password"))
    assert (entry.action, entry.object_id) == ("console_user.sign_in_failed", f"user_{ann.pk}")
    assert (entry.actor_kind, entry.address, entry.after) == ("anonymous", ADDRESS, {"is_known": True})
    [entry] = new_entries(lambda: sign_in(PASSWORD, "typed into the wrong field"))
    assert (entry.object_kind, entry.object_id, entry.after) == ("user", "", {"is_known": False})
    assert PASSWORD not in json.dumps(entry.content())


def test_an_account_without_the_right_to_enter_is_on_record_as_refused() -> None:
    member: User = UserFactory.create()
    member.set_password(PASSWORD)
    member.save()
    [entry] = new_entries(lambda: sign_in(member.username, PASSWORD))
    assert (entry.action, entry.object_id) == ("console_user.sign_in_failed", f"user_{member.pk}")


def test_the_page_shows_who_and_field_by_field_before_and_after(console: Client) -> None:
    row = ready_federation()
    console.post(url(Federation, "start_round", row.pk))
    with scoping.platform():
        started = FederatedRound.objects.get(federation=row)
    console.post(url(FederatedRound, "cancel", started.pk))
    listed = console.get(url(AuditEntry, "changelist"), {"action": "round.canceled"}).content.decode()
    assert started.public_id in listed
    assert "ann@example.com (Console User)" in listed
    assert "round.started</a>" not in listed
    with scoping.platform():
        entry = AuditEntry.objects.get(action="round.canceled")
    page = console.get(change_url(entry)).content.decode()
    assert "training" in page
    assert "Canceled by operator:ann@example.com." in page
    assert ADDRESS in page


def test_the_page_is_for_those_who_may_view_entries() -> None:
    person: User = UserFactory.create(is_staff=True)
    client = Client()
    client.force_login(person)
    assert client.get(url(AuditEntry, "changelist")).status_code == 403
    person.user_permissions.add(Permission.objects.get(codename="view_auditentry"))
    assert client.get(url(AuditEntry, "changelist")).status_code == 200
    assert client.get(url(AuditEntry, "add")).status_code == 403
