"""What browsers are told, and Django's own checks of production's settings."""

import os
import subprocess
import sys

import pytest
from django.test import Client

PRODUCTION = {
    "PRELUDE_HTTPS_ONLY": "true",
    "PRELUDE_PUBLIC_URL": "https://prelude.example",
    "PRELUDE_ALLOWED_HOSTS": "prelude.example",
    "PRELUDE_OIDC_ISSUER": "https://sign-in.example/prelude",
}


def manage(*words: str, **environment: str) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "manage.py", *words]
    settings = {**os.environ, **PRODUCTION, **environment}
    return subprocess.run(command, env=settings, capture_output=True, text=True, check=False)


@pytest.mark.django_db
@pytest.mark.parametrize("path", ["/console/login/", "/api/v1/openapi.json", "/nothing/here"])
def test_every_answer_says_what_a_browser_may_do_with_it(path: str) -> None:
    headers = Client().get(path).headers
    policy = headers["Content-Security-Policy"]
    assert "default-src 'none'; script-src 'self' 'unsafe-eval';" in policy
    assert "frame-ancestors 'none'; form-action 'self'" in policy
    assert headers["X-Frame-Options"] == "DENY"
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert headers["Referrer-Policy"] == "same-origin"
    assert headers["Cross-Origin-Opener-Policy"] == "same-origin"


def test_django_finds_nothing_to_say_against_productions_settings() -> None:
    done = manage("check", "--deploy", "--fail-level", "WARNING")
    assert done.returncode == 0, done.stderr


def test_production_has_cookies_that_only_this_host_sets() -> None:
    script = (
        "from django.conf import settings as s; print(s.SESSION_COOKIE_NAME, s.SESSION_COOKIE_SECURE,"
        " s.SESSION_COOKIE_SAMESITE, s.SESSION_COOKIE_HTTPONLY, s.CSRF_COOKIE_NAME, s.REQUIRE_TOTP)"
    )
    done = manage("shell", "--no-imports", "--command", script, PRELUDE_REQUIRE_TOTP="true")
    assert done.stdout.split() == ["__Host-session", "True", "Lax", "True", "__Host-csrf", "True"]
