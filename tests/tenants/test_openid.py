"""Signing in through an OpenID provider: the whole code flow against a real one, and all that it must not open."""

from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

import pytest
from allauth.socialaccount.models import SocialAccount
from django.contrib.auth.models import User
from django.test import Client
from django.urls import reverse
from pytest_django import Settings

from tenants import scoping
from tenants.models import Tenant
from tenants.rights import OPERATOR_RIGHTS
from tenants.services.tenants import add_member
from tenants.states import Role
from tests import openid
from tests.tenants.signing_in import Clock, is_in, log_in, person, record, set_up_totp

pytestmark = pytest.mark.django_db


@pytest.fixture(scope="module", autouse=True)
def _provider() -> Iterator[None]:
    with openid.running_provider():
        yield


def begin(client: Client, **form: str) -> str:
    """Press the button: where the provider asks for a sign-in."""
    answer = client.post(reverse("openid_connect_login"), form)
    assert answer.status_code == 302, answer.content
    return answer.headers["Location"]


def come_back(client: Client, url: str) -> Any:
    parts = urlsplit(url)
    return client.get(f"{parts.path}?{parts.query}")


def sign_in(login: str, client: Client) -> Any:
    """All of it, as `login` at the provider."""
    return come_back(client, openid.agree(begin(client), login=login))


def reasons() -> list[str]:
    return [facts["reason"] for _, _, facts in record("sign_in_failed")]


def test_the_button_is_there_when_a_provider_is(settings: Settings) -> None:
    assert "Continue with Example Inc." in Client().get(reverse("account_login")).content.decode()
    settings.SOCIALACCOUNT_PROVIDERS = {}
    assert "Continue with" not in Client().get(reverse("account_login")).content.decode()


def test_a_verified_address_opens_the_account_and_pins_the_subject(ann: User) -> None:
    client = Client()
    session = client.session
    session.save()
    assert sign_in("ann", client).headers["Location"] == reverse("admin:index")
    assert client.get(reverse("admin:index")).status_code == 200
    assert client.session.session_key != session.session_key
    assert SocialAccount.objects.get().uid == "ann"
    assert SocialAccount.objects.get().user == ann
    assert [action for action, _, _ in record()] == ["oidc_connected", "signed_in"]
    ann.refresh_from_db()
    assert ann.has_usable_password()


def test_the_subject_opens_the_account_after_its_address_has_changed(ann: User) -> None:
    sign_in("ann", Client())
    ann.email = "ann.new@example.com"
    ann.save()
    client = Client()
    assert sign_in("ann", client).status_code == 302
    assert is_in(client)


@pytest.mark.parametrize(
    ("login", "reason"),
    [("stranger", "address_unknown"), ("bob", "address_unverified"), ("ann-again", "subject_changed")],
)
def test_what_opens_nothing_makes_no_account_and_is_on_record(ann: User, login: str, reason: str) -> None:
    person("bob@example.com", is_staff=True)
    sign_in("ann", Client())
    n_people = User.objects.count()
    client = Client()
    answer = sign_in(login, client)
    assert answer.status_code == 403
    assert "no account here" in answer.content.decode()
    assert not is_in(client)
    assert (User.objects.count(), SocialAccount.objects.count()) == (n_people, 1)
    assert reasons() == [reason]


@pytest.mark.parametrize("is_pinned", [True, False])
@pytest.mark.parametrize("change", ["is_active", "is_staff"])
def test_an_account_that_may_not_enter_is_not_opened(ann: User, change: str, is_pinned: bool) -> None:
    if is_pinned:
        sign_in("ann", Client())
    setattr(ann, change, False)
    ann.save()
    client = Client()
    assert sign_in("ann", client).status_code == 403
    assert not is_in(client)
    assert SocialAccount.objects.count() == is_pinned
    assert reasons() == ["may_not_enter"]


def test_two_accounts_with_one_address_open_neither(ann: User) -> None:
    person("ann-2", is_staff=True)
    User.objects.filter(username="ann-2").update(email="Ann@example.com")
    assert sign_in("ann", Client()).status_code == 403
    assert reasons() == ["address_unknown"]


def test_a_tenant_that_adds_an_operator_as_a_member_does_not_end_its_sign_in(acme: Tenant) -> None:
    ann = person("ann", is_staff=True)
    User.objects.filter(pk=ann.pk).update(email="Ann@example.com")
    with scoping.tenant(acme.id):
        add_member(tenant=acme, email="ann@example.com", role=Role.VIEWER, giver_rights=OPERATOR_RIGHTS)
    client = Client()
    assert sign_in("ann", client).status_code == 302
    assert client.session["_auth_user_id"] == str(ann.pk)


def test_a_state_that_is_not_this_browsers_opens_nothing(ann: User) -> None:
    client, victim = Client(), Client()
    url = openid.agree(begin(client), login="ann")
    assert come_back(victim, url).status_code == 401
    begin(victim)
    assert come_back(victim, url).status_code == 401
    assert come_back(client, url.replace("state=", "state=x")).status_code == 401
    assert not is_in(victim)
    assert not is_in(client)
    assert come_back(client, url).status_code == 302


def test_a_code_opens_once(ann: User) -> None:
    client = Client()
    url = openid.agree(begin(client), login="ann")
    assert come_back(client, url).status_code == 302
    client.logout()
    assert come_back(client, url).status_code == 401


def test_nobody_connects_a_further_subject_to_an_open_session(ann: User) -> None:
    client = log_in(ann.username).client
    url = openid.agree(begin(client, process="connect"), login="stranger")
    assert come_back(client, url).status_code == 403
    assert not SocialAccount.objects.exists()


def test_staff_needs_a_second_factor_unless_the_provider_is_trusted_with_it(
    ann: User, settings: Settings
) -> None:
    settings.REQUIRE_TOTP = True
    client = Client()
    sign_in("ann", client)
    assert client.get(reverse("admin:index")).status_code == 302
    settings.OIDC_TRUSTED_FOR_MFA = True
    assert client.get(reverse("admin:index")).status_code == 200
    by_password = log_in(ann.username).client
    assert by_password.get(reverse("admin:index")).status_code == 302


def test_who_has_a_second_factor_is_asked_for_it(ann: User, clock: Clock) -> None:
    set_up_totp(log_in(ann.username).client, clock)
    client = Client()
    assert sign_in("ann", client).headers["Location"] == reverse("mfa_authenticate")
    assert not is_in(client)
