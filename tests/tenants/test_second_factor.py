"""Second factors: setting one up, being asked for it, recovery codes, and what none of it lets past."""

import re

import pytest
from allauth.mfa.models import Authenticator
from django.contrib.auth.models import User
from django.test import Client
from django.urls import reverse
from pytest_django import Settings

from tenants.services import accounts
from tests.factories import MembershipFactory
from tests.tenants.signing_in import ELSEWHERE, Clock, is_in, log_in, person, record, set_up_totp, totp_code

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def _is_required(settings: Settings) -> None:
    settings.REQUIRE_TOTP = True


@pytest.fixture
def secret(ann: User, clock: Clock) -> str:
    """Ann has an authenticator app; half a minute has passed since its first code."""
    secret = set_up_totp(log_in(ann.username).client, clock)
    clock.move(30)
    return secret


def code_form(client: Client, code: str) -> int:
    return client.post(reverse("mfa_authenticate"), {"code": code}).status_code


def console(client: Client) -> int:
    return client.get(reverse("admin:index")).status_code


def test_staff_sees_nothing_of_the_console_before_a_second_factor_is_set_up(ann: User, clock: Clock) -> None:
    client = log_in(ann.username).client
    for page in ("admin:index", "admin:auth_user_changelist", "mfa_view_recovery_codes", "mfa_index"):
        answer = client.get(reverse(page))
        assert answer.status_code == 302
        assert answer.headers["Location"].startswith(reverse("mfa_activate_totp"))
    set_up_totp(client, clock)
    assert console(client) == 200


def test_a_member_is_not_asked_to_have_one(clock: Clock) -> None:
    member = MembershipFactory.create(user=person("member@example.com")).user
    assert log_in(member.username, client=(client := Client())).status_code == 302
    assert client.get(reverse("mfa_index")).status_code == 200


def test_setting_one_up_takes_a_right_code_and_is_on_record(ann: User, clock: Clock) -> None:
    client = log_in(ann.username).client
    client.get(reverse("mfa_activate_totp"))
    assert client.post(reverse("mfa_activate_totp"), {"code": "000000"}).status_code == 200
    assert not Authenticator.objects.exists()
    set_up_totp(client, clock)
    changes = record("totp_added", "recovery_codes_made")
    assert [(change, account) for change, account, _ in changes] == [
        ("totp_added", f"user_{ann.pk}"),
        ("recovery_codes_made", f"user_{ann.pk}"),
    ]


def test_secrets_are_stored_encrypted(ann: User, secret: str) -> None:
    stored = {found.type: found.data for found in Authenticator.objects.filter(user=ann)}
    assert secret not in str(stored)
    assert accounts.unseal_second_factor(stored["totp"]["secret"]) == secret
    seed = accounts.unseal_second_factor(stored["recovery_codes"]["seed"])
    assert seed not in str(stored)


def test_signing_in_asks_for_a_code_and_a_code_opens_once(ann: User, secret: str, clock: Clock) -> None:
    client = Client()
    assert log_in(ann.username, client=client).headers["Location"] == reverse("mfa_authenticate")
    assert not is_in(client)
    code = totp_code(secret, clock.now)
    assert code_form(client, code) == 302
    assert console(client) == 200
    again = log_in(ann.username).client
    assert code_form(again, code) == 200
    assert not is_in(again)
    assert [facts for _, _, facts in record("sign_in_failed")] == [{"is_known": True, "reason": "code_wrong"}]


def test_wrong_codes_lock_the_account_out_for_right_ones_too(ann: User, secret: str, clock: Clock) -> None:
    client = log_in(ann.username).client
    assert [code_form(client, "000000") for _ in range(5)] == [200] * 5
    assert code_form(client, totp_code(secret, clock.now)) == 429
    elsewhere = log_in(ann.username, address=ELSEWHERE).client  # a right password forgives no wrong code
    assert code_form(elsewhere, totp_code(secret, clock.now)) == 429
    assert [facts["limit"] for _, _, facts in record("locked_out")] == ["account"]
    clock.move(301)
    assert code_form(client, totp_code(secret, clock.now)) == 302


def test_an_address_that_is_locked_out_has_no_code_taken_either(ann: User, secret: str, clock: Clock) -> None:
    client = log_in(ann.username).client
    for n in range(20):
        log_in(f"guess {n}", "wrong")
    assert code_form(client, totp_code(secret, clock.now)) == 429
    assert not is_in(client)


def test_each_recovery_code_opens_once_and_is_shown_once(ann: User, clock: Clock) -> None:
    client = log_in(ann.username).client
    set_up_totp(client, clock)
    page = client.get(reverse("mfa_view_recovery_codes")).content.decode()
    codes = re.findall(r"\b\d{8}\b", page[page.index('id="recovery-codes"') :])
    assert len(codes) == 10
    assert codes[0] not in client.get(reverse("mfa_view_recovery_codes")).content.decode()
    assert code_form(log_in(ann.username).client, codes[0]) == 302
    assert code_form(log_in(ann.username).client, codes[0]) == 200
    assert code_form(log_in(ann.username).client, codes[1]) == 302


def test_a_session_from_before_the_set_up_has_to_show_a_code(ann: User, clock: Clock) -> None:
    before = log_in(ann.username).client
    secret = set_up_totp(log_in(ann.username).client, clock)
    for page in (
        "admin:index",
        "mfa_deactivate_totp",
        "mfa_generate_recovery_codes",
        "mfa_view_recovery_codes",
    ):
        answer = before.get(reverse(page))
        assert answer.headers["Location"].startswith(reverse("mfa_reauthenticate")), page
    clock.move(30)
    before.post(reverse("mfa_reauthenticate"), {"code": totp_code(secret, clock.now)})
    assert console(before) == 200


def test_changing_it_long_after_the_sign_in_takes_the_password_again(ann: User, clock: Clock) -> None:
    client = log_in(ann.username).client
    clock.move(301)
    answer = client.get(reverse("mfa_activate_totp"))
    assert answer.headers["Location"].startswith(reverse("account_reauthenticate"))
    assert client.post(answer.headers["Location"], {"password": "wrong"}).status_code == 200
    back = client.post(answer.headers["Location"], {"password": "correct horse battery staple"})
    assert back.headers["Location"] == reverse("mfa_activate_totp")
    assert set_up_totp(client, clock)


def test_removing_it_is_on_record_and_leads_to_a_new_one(ann: User, clock: Clock) -> None:
    client = log_in(ann.username).client
    set_up_totp(client, clock)
    assert client.post(reverse("mfa_deactivate_totp")).status_code == 302
    assert not Authenticator.objects.filter(user=ann).exists()
    assert record("totp_removed")
    assert client.get(reverse("admin:index")).headers["Location"].startswith(reverse("mfa_activate_totp"))


def test_new_recovery_codes_take_the_place_of_the_old_ones(ann: User, clock: Clock) -> None:
    client = log_in(ann.username).client
    set_up_totp(client, clock)
    old = Authenticator.objects.get(type="recovery_codes").data["seed"]
    assert client.post(reverse("mfa_generate_recovery_codes")).status_code == 302
    assert Authenticator.objects.get(type="recovery_codes").data["seed"] != old
    assert len(record("recovery_codes_made")) == 2
