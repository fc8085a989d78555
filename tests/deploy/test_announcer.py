"""The announcer as a process: it announces by itself, and loses nothing when it is killed."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from ipaddress import ip_network

import pytest
from django.db.models.functions import Now
from pytest_django import Settings

from federation.models import WebhookDelivery
from federation.services import webhooks
from federation.states import DeliveryState
from tenants import scoping
from tests.factories import RoundEventFactory
from tests.receiver import receiving

pytestmark = pytest.mark.django_db(transaction=True)
REACH = {"PRELUDE_WEBHOOK_PRIVATE_NETWORKS": "127.0.0.1/32", "PRELUDE_WEBHOOK_ALLOW_HTTP": "true"}


@contextmanager
def announcer() -> Iterator["subprocess.Popen[str]"]:
    """An announcer's process."""
    process = subprocess.Popen(
        [sys.executable, "manage.py", "announcer"],
        env={**os.environ, **REACH},
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def wait_until(is_so: Callable[[], bool], *, seconds: float = 30) -> None:
    until = time.monotonic() + seconds
    while True:
        with scoping.platform():
            if is_so():
                return
        assert time.monotonic() < until, "the announcer has not done it"
        time.sleep(0.05)


def is_delivered() -> bool:
    return WebhookDelivery.objects.filter(state=DeliveryState.DELIVERED).exists()


def subscribe(url: str) -> None:
    with scoping.platform():
        webhooks.create_webhook(tenant=None, fields={"url": url, "kinds": [], "description": ""})


@pytest.fixture(autouse=True)
def reach(settings: Settings) -> None:
    """Let the tests' receivers be subscribed too."""
    settings.WEBHOOK_PRIVATE_NETWORKS, settings.WEBHOOK_ALLOW_HTTP = (ip_network("127.0.0.1/32"),), True


def test_it_announces_by_itself_and_ends_at_once_when_it_is_told_to() -> None:
    with receiving() as receiver, announcer() as process:
        subscribe(receiver.url)
        RoundEventFactory.create()
        wait_until(is_delivered)
        process.send_signal(signal.SIGTERM)
        _, log = process.communicate(timeout=5)
        assert process.returncode == 0, log
        assert "announcer_stopped" in log
        assert receiver.url not in log


def test_killed_between_sending_and_recording_it_sends_again_under_the_same_id() -> None:
    may_answer = threading.Event()
    with receiving(before_answer=lambda: may_answer.wait(30)) as receiver:
        subscribe(receiver.url)
        RoundEventFactory.create()
        with announcer() as process:
            wait_until(lambda: bool(receiver.received))
            process.kill()
            process.wait()
        may_answer.set()
        with scoping.platform():
            assert not is_delivered()
            WebhookDelivery.objects.update(lease_expires_at=Now())
        with announcer():
            wait_until(is_delivered)
        first, second = receiver.received
    assert first.headers["webhook-id"] == second.headers["webhook-id"]
    assert first.body == second.body
