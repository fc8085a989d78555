"""What a tenant's people do in the console, for the tenant that they work for, as long as they belong to it."""

import pytest
from django.contrib.auth.models import Permission, User
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from federation.models import Enrolment, FederatedRound
from tenants import scoping
from tenants.admin.rows import change_url
from tenants.models import ApiKey, AuditEntry, Dataset, Membership, Tenant
from tenants.states import Role, TenantState
from tests.deploy.members import ADDRESS, World, context_of, member_of, rows_of
from tests.factories import ApiKeyFactory, EnrolmentFactory, MembershipFactory, UserFactory
from tests.federation.console import action_url, add_url, list_url, signed_in, text_of

pytestmark = pytest.mark.django_db

PASSWORD = "correct horse battery staple"


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


def test_staff_hands_on_what_its_permissions_open_and_no_more(world: World) -> None:
    person = UserFactory.create(is_staff=True)
    for word in ("add_apikey", "change_apikey", "view_apikey"):
        person.user_permissions.add(Permission.objects.get(codename=word))
    known = {row.pk for row in rows_of(ApiKey)}
    signed_in(person).post(add_url(ApiKey), {"tenant": "", "name": "mine"})
    assert {row.pk for row in rows_of(ApiKey)} == known
    operator = signed_in(UserFactory.create(is_staff=True, is_superuser=True))
    operator.post(add_url(ApiKey), {"tenant": "", "name": "ours"})
    [new] = [row for row in rows_of(ApiKey) if row.pk not in known]
    signed_in(person).post(action_url(new, "rotate"))
    assert {row.pk for row in rows_of(ApiKey)} == known | {new.pk}
    operator.post(action_url(new, "rotate"))
    assert len(rows_of(ApiKey)) == len(known) + 2


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
