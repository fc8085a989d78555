"""What tests of signing in share: people with passwords, browsers at addresses, codes, a clock, and the record."""

import base64
import hashlib
import hmac
import json
import re
import struct
import time
from typing import Any

from django.contrib.auth.hashers import make_password
from django.contrib.auth.models import User
from django.test import Client
from django.urls import reverse

from tenants import scoping
from tenants.models import AuditEntry
from tests.factories import UserFactory

PASSWORD = "correct horse battery staple"
_HASH = make_password(PASSWORD)
HOME, ELSEWHERE = "192.0.2.10", "198.51.100.20"


class Clock:
    """Stands still unless it is moved."""

    def __init__(self) -> None:
        self.now = time.time()

    def move(self, seconds: float) -> None:
        self.now += seconds


def person(name: str, **facts: Any) -> User:
    """Somebody with a password."""
    made: User = UserFactory.create(username=name, email=name, password=_HASH, **facts)
    return made


def log_in(
    name: str,
    password: str = PASSWORD,
    *,
    client: Client | None = None,
    address: str = HOME,
    host: str = "localhost",
) -> Any:
    """Send the sign-in form; the answer's `client` is the browser."""
    client = client or Client(REMOTE_ADDR=address)
    form = {"login": name, "password": password}
    return client.post(reverse("account_login"), form, HTTP_HOST=host)


def is_in(client: Client) -> bool:
    """Whether the browser has somebody's session."""
    return "_auth_user_id" in client.session


def totp_code(secret: str, now: float) -> str:
    """What an authenticator app shows: RFC 6238 with SHA-1, six digits, 30 seconds."""
    digest = hmac.new(base64.b32decode(secret), struct.pack(">Q", int(now) // 30), hashlib.sha1).digest()
    start = digest[-1] & 15
    value = struct.unpack(">I", digest[start : start + 4])[0] & 0x7FFFFFFF
    return f"{value % 10**6:06}"


def set_up_totp(client: Client, clock: Clock) -> str:
    """Go through the set-up in a fresh session: the secret."""
    page = client.get(reverse("mfa_activate_totp")).content.decode()
    found = re.search(r'<code class="prl-secret">(\w+)</code>', page)
    assert found, page
    secret = found.group(1)
    answer = client.post(reverse("mfa_activate_totp"), {"code": totp_code(secret, clock.now)})
    assert answer.status_code == 302, answer.content
    return secret


def record(*actions: str) -> list[tuple[str, str, dict[str, Any]]]:
    """The audit record: action, object and facts of entries with one of these actions, or of all."""
    with scoping.platform():
        entries = list(AuditEntry.objects.order_by("happened_at"))
    assert PASSWORD not in json.dumps([entry.content() for entry in entries])
    names = [f"console_user.{action}" for action in actions]
    return [
        (entry.action.partition(".")[2], entry.object_id, entry.after)
        for entry in entries
        if not names or entry.action in names
    ]
