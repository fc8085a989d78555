"""Sends letters: one POST each, to the very address that was checked, within a bounded time.

The name is resolved here, once, and every address that it has must be one that may be reached; the connection is made
to one of these by number, under the name of the URL (Host, SNI and certificate). So a name that resolves differently a
moment later changes nothing. Redirects are answers like others, and no proxy or credential of the environment is used.
"""

import asyncio
import socket
import ssl
import threading
import time
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cache, partial
from ipaddress import ip_address
from typing import Final

import httpx
from standardwebhooks import Webhook

from federation.errors import AddressNotReachable, WebhookUrlInvalid
from federation.outbound.addresses import Address, Reach, Target, target_of

TOTAL_SECONDS: Final = 15.0  # from the name's resolution to the last byte that is read
EXCERPT_BYTES: Final = 500
# Not the loop's own threads, which are few, and whose end the loop would wait for: a name may take long.
_RESOLVERS: Final = ThreadPoolExecutor(128, thread_name_prefix="resolver")


@dataclass(frozen=True)
class Letter:
    """A message, and the secrets that it is signed with."""

    id: str
    url: str
    body: str
    secrets: tuple[str, ...] = field(repr=False)

    def headers(self, at: datetime) -> dict[str, str]:
        """As Standard Webhooks has them: one signature a secret, so that receivers may change over to a new one."""
        signatures = [Webhook(secret).sign(self.id, at, self.body) for secret in self.secrets]
        return {
            "webhook-id": self.id,
            "webhook-timestamp": str(int(at.timestamp())),
            "webhook-signature": " ".join(signatures),
            "Content-Type": "application/json",
            "User-Agent": "Prelude-Webhooks/1",
            "Accept-Encoding": "identity",
        }


@dataclass(frozen=True)
class Answer:
    """What came of it. No status: no answer came, and `error` says why."""

    started_at: datetime
    latency_seconds: float
    status_code: int | None = None
    error: str = ""
    excerpt: str = ""

    @property
    def is_success(self) -> bool:
        """Whether the receiver has taken the message."""
        return self.status_code is not None and 200 <= self.status_code < 300


def send(letter: Letter, reach: Reach) -> "Future[Answer]":
    """Begin to send, beside all that is on its way."""
    return asyncio.run_coroutine_threadsafe(_send(letter, reach), _loop())


@cache
def _loop() -> asyncio.AbstractEventLoop:
    loop = asyncio.new_event_loop()
    threading.Thread(target=loop.run_forever, name="letters", daemon=True).start()
    return loop


async def _send(letter: Letter, reach: Reach) -> Answer:
    started_at, started = datetime.now(UTC), time.monotonic()
    status_code, error, excerpt = None, "", ""
    try:
        async with asyncio.timeout(TOTAL_SECONDS):
            status_code, excerpt = await _post(letter, letter.headers(started_at), reach)
    except TimeoutError:
        error = f"No answer came within {TOTAL_SECONDS:g} seconds."
    except (WebhookUrlInvalid, AddressNotReachable) as refusal:
        error = str(refusal)
    except (httpx.HTTPError, httpx.InvalidURL, OSError, ValueError) as problem:
        error = f"{type(problem).__name__}: {problem}"
    return Answer(
        started_at=started_at,
        latency_seconds=time.monotonic() - started,
        status_code=status_code,
        error=error[:200],
        excerpt=excerpt,
    )


async def _post(letter: Letter, headers: dict[str, str], reach: Reach) -> tuple[int, str]:
    target = target_of(letter.url, reach)
    address = await _checked_address(target, reach)
    numbered = f"[{address}]" if address.version == 6 else str(address)
    url = target.url._replace(netloc=f"{numbered}:{target.port}").geturl()
    async with (
        httpx.AsyncClient(
            trust_env=False, follow_redirects=False, timeout=TOTAL_SECONDS, verify=_tls()
        ) as client,
        client.stream(
            "POST",
            url,
            content=letter.body.encode(),
            headers={**headers, "Host": target.url.netloc},
            extensions={"sni_hostname": target.host},
        ) as response,
    ):
        return response.status_code, await _excerpt(response)


@cache
def _tls() -> ssl.SSLContext:
    return httpx.create_ssl_context(trust_env=False)


async def _checked_address(target: Target, reach: Reach) -> Address:
    """One that the name has, when all that it has may be reached. Raises AddressNotReachable, OSError."""
    ask = partial(socket.getaddrinfo, target.host, target.port, proto=socket.IPPROTO_TCP)
    found = await asyncio.get_running_loop().run_in_executor(_RESOLVERS, ask)
    addresses = [ip_address(str(sockaddr[0]).partition("%")[0]) for *_, sockaddr in found]
    if not addresses or not all(reach.includes(address) for address in addresses):
        raise AddressNotReachable(host=target.host)
    return addresses[0]


async def _excerpt(response: httpx.Response) -> str:
    """The first bytes as text that PostgreSQL takes; the rest is not read."""
    read = b""
    async for piece in response.aiter_raw():
        read += piece
        if len(read) >= EXCERPT_BYTES:
            break
    return read[:EXCERPT_BYTES].decode("utf-8", "replace").replace("\0", "\ufffd")
