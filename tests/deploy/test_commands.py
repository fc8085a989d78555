"""Management commands: an operator's key, an operator's login, the ticker."""

import os
import pwd
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from datetime import timedelta
from io import StringIO
from pathlib import Path

import pytest
from allauth.mfa.models import Authenticator
from allauth.socialaccount.models import SocialAccount
from django.contrib.auth import authenticate
from django.contrib.auth.models import User
from django.contrib.sessions.models import Session
from django.core.management import CommandError, call_command
from django.db import OperationalError
from django.utils import timezone
from rest_framework.test import APIClient

from deploy.management.commands.create_operator import PASSWORD_VARIABLE
from deploy.management.commands.ticker import LONGEST_PAUSE_SECONDS, Duty
from federation.models import FederatedRound, Schedule
from tenants import scoping
from tenants.errors import ScopeMissing
from tenants.models import AuditEntry, IdempotencyRecord
from tests.factories import IdempotencyRecordFactory, ScheduleFactory, ready_federation


def printed(command: str, *options: str) -> str:
    output = StringIO()
    call_command(command, *options, stdout=output)
    return output.getvalue()


@pytest.mark.django_db
def test_an_operators_key_is_all_that_is_printed_and_opens_the_api() -> None:
    key = printed("create_operator_key", "--name", "first").strip()
    client = APIClient()
    client.credentials(HTTP_AUTHORIZATION=f"Bearer {key}")
    body = client.get("/api/v1/me").json()
    assert (body["kind"], body["key"]["name"]) == ("operator", "first")


def test_the_committed_table_of_rights_is_the_codes_own() -> None:
    committed = Path(__file__).resolve().parents[2] / "docs" / "rights.md"
    is_current = committed.read_text() == printed("rights_table")
    assert is_current, "docs/rights.md is not what the code says: run `make openapi` and commit it"


def test_the_table_tells_who_holds_what() -> None:
    lines = printed("rights_table").splitlines()
    assert "| right | owner | engineer | viewer | auditor | operator |" in lines
    assert "| `audit:read` | yes | – | – | yes | yes |" in lines
    assert "| `rounds:write` | – | – | – | – | yes |" in lines


@pytest.mark.django_db
def test_commands_act_as_the_user_of_the_operating_system(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOGNAME", "somebody-else")
    printed("create_operator_key", "--name", "first")
    printed("create_operator", "--email", "ops@example.com")
    with scoping.platform():
        found = AuditEntry.objects.order_by("happened_at")
        told = [(entry.action, entry.actor_kind, entry.actor_id, entry.actor_name) for entry in found]
    me = ("system_user", f"uid_{os.getuid()}", pwd.getpwuid(os.getuid()).pw_name)
    assert told == [("api_key.created", *me), ("console_user.created", *me)]


@pytest.mark.django_db
def test_an_operators_login_has_the_password_of_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(PASSWORD_VARIABLE, "correct horse battery staple")
    assert printed("create_operator", "--email", "Ops@Example.com") == ""
    user = authenticate(username="ops@example.com", password="correct horse battery staple")
    assert user is not None
    assert user.is_staff
    assert user.is_superuser


@pytest.mark.django_db
def test_a_password_that_was_made_is_printed_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(PASSWORD_VARIABLE, raising=False)
    password = printed("create_operator", "--email", "ops@example.com").strip()
    assert authenticate(username="ops@example.com", password=password) is not None
    with pytest.raises(CommandError, match="has a login already"):
        printed("create_operator", "--email", "OPS@example.com")


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("address", "password"), [("ops", "correct horse battery"), ("o@e.example", "short")]
)
def test_an_address_or_a_password_that_will_not_do(
    monkeypatch: pytest.MonkeyPatch, address: str, password: str
) -> None:
    monkeypatch.setenv(PASSWORD_VARIABLE, password)
    with pytest.raises(CommandError):
        printed("create_operator", "--email", address)


@pytest.mark.django_db
def test_a_lost_second_factor_is_removed_on_record() -> None:
    printed("create_operator", "--email", "ops@example.com")
    user = User.objects.get()
    Authenticator.objects.create(user=user, type=Authenticator.Type.TOTP, data={})
    SocialAccount.objects.create(user=user, provider="oidc", uid="1")
    printed("reset_sign_in", "--email", "Ops@example.com")
    assert not Authenticator.objects.exists()
    assert not SocialAccount.objects.exists()
    with scoping.platform():
        told = [entry.action for entry in AuditEntry.objects.order_by("happened_at")]
    assert told[1:] == ["console_user.totp_removed", "console_user.oidc_disconnected"]
    with pytest.raises(CommandError, match="has no login"):
        printed("reset_sign_in", "--email", "nobody@example.com")


@contextmanager
def ticker() -> Iterator["subprocess.Popen[str]"]:
    """A ticker's process, which ends at once when it is told to."""
    process = subprocess.Popen(
        [sys.executable, "manage.py", "ticker"], env=dict(os.environ), stderr=subprocess.PIPE, text=True
    )
    try:
        yield process
        process.send_signal(signal.SIGTERM)
        _, log = process.communicate(timeout=5)
        assert process.returncode == 0, log
        assert "ticker_stopped" in log
    finally:
        process.kill()


def wait_until(is_so: Callable[[], bool], *, seconds: float = 30) -> None:
    until = time.monotonic() + seconds
    while True:
        with scoping.platform():
            if is_so():
                return
        assert time.monotonic() < until, "the ticker has not done it"
        time.sleep(0.2)


@pytest.mark.django_db(transaction=True)
def test_two_tickers_open_each_due_round_once_and_end_at_once() -> None:
    due_at = timezone.now() - timedelta(minutes=25)
    schedules = [
        ScheduleFactory.create(federation=ready_federation(), next_due_at=due_at, every_minutes=10)
        for _ in range(2)
    ]
    with ExitStack() as running:
        for _ in range(2):
            running.enter_context(ticker())
        wait_until(lambda: FederatedRound.objects.count() >= 2)
        time.sleep(2.5)  # further ticks find nothing that is due
    with scoping.platform():
        assert sorted(found.federation_id for found in FederatedRound.objects.all()) == sorted(
            schedule.federation_id for schedule in schedules
        )
        assert all(
            schedule.next_due_at == due_at + timedelta(minutes=30) for schedule in Schedule.objects.all()
        )


@pytest.mark.django_db(transaction=True)
def test_the_ticker_forgets_old_answers_and_old_sessions() -> None:
    kept = IdempotencyRecordFactory.create()
    IdempotencyRecordFactory.create(created_at=timezone.now() - timedelta(hours=24, seconds=1))
    for name, age in (("ended", -1), ("lasting", 60)):
        expire_date = timezone.now() + timedelta(seconds=age)
        Session.objects.create(session_key=name, session_data="", expire_date=expire_date)
    with ticker():
        wait_until(lambda: IdempotencyRecord.objects.count() == Session.objects.count() == 1)
    with scoping.platform():
        assert IdempotencyRecord.objects.get() == kept
        assert Session.objects.get().session_key == "lasting"


@pytest.mark.django_db(transaction=True)  # a duty looks after its own connection
def test_a_duty_that_fails_waits_longer_each_time_and_recovers() -> None:
    outcomes: list[Exception | None] = [OperationalError("away"), OperationalError("away"), None]

    def work() -> None:
        if (error := outcomes.pop(0)) is not None:
            raise error

    duty = Duty("test", work, every_seconds=1.0)
    due = []
    for _ in range(3):
        duty.perform(100.0)
        due.append(duty.due_at)
    assert due == [102.0, 104.0, 101.0]


@pytest.mark.django_db(transaction=True)
def test_pauses_have_a_bound() -> None:
    def work() -> None:
        raise ScopeMissing()

    duty = Duty("test", work, every_seconds=5.0, n_failures=20)
    duty.perform(0.0)
    assert duty.due_at == LONGEST_PAUSE_SECONDS
