"""An OpenID provider for tests, in a process of its own (`tests.openid_provider`), and a person who uses it."""

import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final
from urllib.parse import urlsplit

import httpx

from deploy.embedded.ports import LOOPBACK, HeldPorts

PORTS: Final = HeldPorts()
PORT: Final = PORTS.free()
ISSUER: Final = f"http://{LOOPBACK}:{PORT}"
CLIENT_ID: Final = "prelude"
CLIENT_SECRET: Final = "a secret that provider and console share"
CALLBACK: Final = "/console/login/openid/callback/"
PASSWORD: Final = "correct horse battery staple"
# Login at the provider, which is its subject; address; whether the provider has verified it.
PEOPLE: Final = (
    ("ann", "ann@example.com", True),
    ("ann-again", "ann@example.com", True),
    ("bob", "bob@example.com", False),
    ("stranger", "stranger@example.com", True),
)
ENVIRONMENT: Final = {
    "PRELUDE_OIDC_ISSUER": ISSUER,
    "PRELUDE_OIDC_CLIENT_ID": CLIENT_ID,
    "PRELUDE_OIDC_CLIENT_SECRET": CLIENT_SECRET,
    "PRELUDE_OIDC_NAME": "Example Inc.",
}
_INPUT: Final = re.compile(r"<input[^>]*>")
_ATTRIBUTE: Final = re.compile(r'(\w[\w-]*)="([^"]*)"')


@contextmanager
def running_provider() -> Iterator[None]:
    """The provider, while the block runs."""
    command = [sys.executable, "-m", "tests.openid_provider", str(PORT)]
    process = subprocess.Popen(
        command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=dict(os.environ)
    )
    try:
        _wait_for(process)
        yield
    finally:
        process.kill()
        process.wait()


def _wait_for(process: "subprocess.Popen[bytes]") -> None:
    give_up_at = time.monotonic() + 60
    while True:
        assert process.poll() is None, "the provider has ended"
        try:
            httpx.get(f"{ISSUER}/.well-known/openid-configuration").raise_for_status()
            return
        except httpx.HTTPError:
            assert time.monotonic() < give_up_at, "the provider does not answer"
            time.sleep(0.1)


def agree(authorize_url: str, *, login: str) -> str:
    """Go where the console has sent the browser, sign in there, and consent if asked to: the URL that leads back."""
    answers = {
        "loginform": {"login": login},
        "passwordform": {"password": PASSWORD},
        "authorizeform": {"answer": "accept"},
    }
    with httpx.Client(base_url=ISSUER) as browser:
        page = browser.get(authorize_url)
        while urlsplit(page.headers.get("Location", "")).path != CALLBACK:
            if page.is_redirect:
                page = browser.get(page.headers["Location"])
            else:
                [form] = [form for form in answers if f'id="{form}"' in page.text]
                page = browser.post(page.url, data={**_hidden(page.text), **answers[form]})
        return str(page.headers["Location"])


def _hidden(text: str) -> dict[str, str]:
    inputs = [dict(_ATTRIBUTE.findall(found)) for found in _INPUT.findall(text)]
    return {found["name"]: found.get("value", "") for found in inputs if found.get("type") == "hidden"}
