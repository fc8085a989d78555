"""Signing in with a password: who may, how often one may fail, and when a session ends."""

import pytest
from django.contrib.auth.models import User
from django.test import Client
from django.urls import NoReverseMatch, reverse
from pytest_django import Settings

from tenants import scoping
from tenants.models import Tenant
from tenants.states import TenantState
from tests.factories import MembershipFactory
from tests.tenants.signing_in import ELSEWHERE, HOME, PASSWORD, Clock, is_in, log_in, person, record

pytestmark = pytest.mark.django_db


def fail(name: str, n_times: int) -> list[int]:
    return [log_in(name, "wrong").status_code for _ in range(n_times)]


def test_five_failures_lock_an_account_for_right_passwords_too_from_everywhere(
    ann: User, clock: Clock
) -> None:
    assert fail(ann.username, 5) == [200] * 5
    for address in (HOME, ELSEWHERE):
        refused = log_in(ann.username, address=address)
        assert refused.status_code == 429
        assert refused.headers["Retry-After"] == "300"
        assert "Try again in a few minutes" in refused.content.decode()
    clock.move(299)
    assert log_in(ann.username).status_code == 429
    clock.move(2)
    assert log_in(ann.username).status_code == 302


def test_a_lock_out_is_on_record_once(ann: User, clock: Clock) -> None:
    fail(ann.username, 9)
    entries = record()
    assert [action for action, _, _ in entries] == ["sign_in_failed"] * 5 + ["locked_out"]
    facts = {"is_known": True, "limit": "account", "seconds": 300}
    assert entries[-1] == ("locked_out", f"user_{ann.pk}", facts)


def test_a_lock_out_of_one_account_leaves_the_others_open(ann: User, clock: Clock) -> None:
    person("bob@example.com", is_staff=True)
    fail("bob@example.com", 5)
    assert log_in(ann.username).status_code == 302


def test_another_host_name_or_port_is_no_new_chance(ann: User, clock: Clock) -> None:
    for host in ("testserver:1", "localhost", "127.0.0.1:2", "testserver:3", "localhost:4"):
        log_in(ann.username, "wrong", host=host)
    assert log_in(ann.username, host="localhost:5").status_code == 429


def test_twenty_failures_lock_an_address_for_every_account(ann: User, clock: Clock) -> None:
    assert [fail(f"guess {n}@example.com", 1) for n in range(20)] == [[200]] * 20
    assert log_in(ann.username).status_code == 429
    assert log_in(ann.username, address=ELSEWHERE).status_code == 302
    assert [facts["limit"] for _, _, facts in record("locked_out")] == ["address"]
    clock.move(301)
    assert log_in(ann.username).status_code == 302


def test_a_forged_header_is_no_other_address(ann: User, clock: Clock) -> None:
    for n in range(20):
        log_in(f"guess {n}", "wrong", client=Client(REMOTE_ADDR=HOME, HTTP_X_FORWARDED_FOR=f"203.0.113.{n}"))
    forged = Client(REMOTE_ADDR=HOME, HTTP_X_FORWARDED_FOR="203.0.113.99")
    assert log_in(ann.username, client=forged).status_code == 429


def test_a_right_password_forgives_the_failures_before_it(ann: User, clock: Clock) -> None:
    fail(ann.username, 4)
    assert log_in(ann.username).status_code == 302
    fail(ann.username, 4)
    assert log_in(ann.username).status_code == 302


def test_members_of_active_tenants_may_sign_in_and_nobody_else(acme: Tenant, clock: Clock) -> None:
    member, stranger = person("member@example.com"), person("stranger@example.com")
    MembershipFactory.create(tenant=acme, user=member)
    assert log_in(stranger.username).status_code == 200
    assert log_in(member.username).status_code == 302
    acme.state = TenantState.SUSPENDED
    with scoping.platform():
        acme.save()
    assert log_in(member.username).status_code == 200
    refused = [f"user_{stranger.pk}", f"user_{member.pk}"]
    assert [account for _, account, _ in record("sign_in_failed")] == refused


def test_who_may_not_enter_is_refused_and_locked_out_like_after_a_wrong_password(
    ann: User, clock: Clock
) -> None:
    stranger, gone = (
        person("stranger@example.com"),
        person("gone@example.com", is_staff=True, is_active=False),
    )
    wrong = log_in(ann.username, "wrong").content.decode()
    for name in (stranger.username, gone.username):
        told = log_in(name).content.decode()
        assert _without_token(told, name) == _without_token(wrong, ann.username)
        assert [log_in(name).status_code for _ in range(5)] == [200] * 4 + [429]


def _without_token(page: str, name: str) -> list[str]:
    return [line.replace(name, "") for line in page.splitlines() if "csrfmiddlewaretoken" not in line]


def test_a_member_who_may_see_nothing_is_told_so_instead_of_being_led_in_circles(acme: Tenant) -> None:
    member = person("member@example.com")
    client = Client()
    client.force_login(member)
    page = client.get(reverse("admin:index"), follow=True)
    assert (page.status_code, page.redirect_chain) == (403, [])
    assert client.get(reverse("admin:login")).status_code == 200, "the session is over"


def test_nobody_makes_an_account_for_themselves() -> None:
    for name in ("account_signup", "account_email", "socialaccount_signup", "socialaccount_connections"):
        with pytest.raises(NoReverseMatch):
            reverse(name)


def test_a_session_has_a_new_key_after_the_sign_in(ann: User) -> None:
    client = Client()
    session = client.session
    session["known"] = "to somebody else"
    session.save()
    log_in(ann.username, client=client)
    assert is_in(client)
    assert client.session.session_key != session.session_key


def test_a_new_password_ends_all_sessions_but_the_one_that_set_it(ann: User) -> None:
    here, there = log_in(ann.username).client, log_in(ann.username).client
    words = {"old_password": "correct horse battery staple"}
    words["new_password1"] = words["new_password2"] = "another horse battery staple"
    assert here.post(reverse("admin:password_change"), words).status_code == 302
    assert here.get(reverse("admin:index")).status_code == 200
    assert there.get(reverse("admin:index")).status_code == 302


@pytest.mark.parametrize("is_member", [False, True])
def test_wrong_old_passwords_lock_the_account_like_wrong_ones_at_the_sign_in(
    acme: Tenant, clock: Clock, is_member: bool
) -> None:
    ann = person("ann@example.com", is_staff=not is_member)
    MembershipFactory.create(tenant=acme, user=ann)
    client = log_in(ann.username).client
    page = reverse("admin:password_change")
    new = dict.fromkeys(("new_password1", "new_password2"), "another horse battery staple")
    wrong = [client.post(page, {"old_password": f"guess {n}", **new}) for n in range(5)]
    assert [answer.status_code for answer in wrong] == [200] * 5
    assert "Your old password was entered incorrectly" in wrong[0].content.decode()
    refused = client.post(page, {"old_password": PASSWORD, **new})
    assert (refused.status_code, refused.headers["Retry-After"]) == (429, "300")
    assert log_in(ann.username).status_code == 429
    assert [action for action, _, _ in record()][1:] == ["sign_in_failed"] * 5 + ["locked_out"]
    clock.move(301)
    assert client.post(page, {"old_password": PASSWORD, **new}).status_code == 302


def test_an_account_that_is_made_inactive_has_no_session_any_more(ann: User) -> None:
    client = log_in(ann.username).client
    assert client.get(reverse("admin:index")).status_code == 200
    ann.is_active = False
    ann.save()
    assert client.get(reverse("admin:index")).status_code == 302


def test_a_session_ends_when_nobody_is_there(ann: User, clock: Clock, settings: Settings) -> None:
    settings.SESSION_IDLE_SECONDS = 600
    client = log_in(ann.username).client
    for _ in range(3):
        clock.move(599)
        assert client.get(reverse("admin:index")).status_code == 200
    clock.move(400)
    assert client.get(reverse("admin:index"), HTTP_HX_REQUEST="true").status_code == 200
    clock.move(200)
    assert client.get(reverse("admin:index")).status_code == 302
    assert not is_in(client)
    assert [action for action, _, _ in record()] == ["signed_in", "signed_out"]


def test_a_session_ends_in_the_end_however_busy_it_is(ann: User, clock: Clock, settings: Settings) -> None:
    settings.SESSION_LIFETIME_SECONDS = 1_000
    client = log_in(ann.username).client
    for _ in range(9):
        clock.move(100)
        assert client.get(reverse("admin:index")).status_code == 200
    clock.move(100)
    assert client.get(reverse("admin:index")).status_code == 302
