"""Requests to addresses that customers chose: which are made, and to where."""

import socket
import threading
from collections.abc import Iterator
from ipaddress import ip_address, ip_network
from typing import Any

import pytest

from federation.errors import WebhookUrlInvalid
from federation.outbound.addresses import Reach, target_of
from federation.outbound.sending import Answer, Letter, send
from tests.receiver import Receiver, receiving

PUBLIC = Reach(allows_http=True)
LOOPBACK = Reach(networks=(ip_network("127.0.0.1/32"),), allows_http=True)
SECRET = "whsec_" + "c2VjcmV0" * 4


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with receiving() as found:
        yield found


def sent(url: str, reach: Reach) -> Answer:
    return send(Letter(id="whd_1", url=url, body="{}", secrets=(SECRET,)), reach).result()


@pytest.mark.parametrize(
    "address",
    [
        "0.0.0.0",
        "10.1.2.3",
        "100.64.0.1",
        "127.0.0.1",
        "168.63.129.16",
        "169.254.169.254",
        "172.16.0.1",
        "192.0.2.1",
        "192.168.1.1",
        "198.18.0.1",
        "224.0.0.1",
        "240.0.0.1",
        "255.255.255.255",
        "::",
        "::1",
        "::127.0.0.1",
        "::ffff:127.0.0.1",
        "::ffff:8.8.8.8",
        "64:ff9b::7f00:1",
        "64:ff9b:1::7f00:1",
        "2001::7f00:1",
        "2001:db8::1",
        "2002:7f00:1::",
        "fc00::1",
        "fd00:ec2::254",
        "fe80::1",
        "fec0::1",
        "ff02::1",
    ],
)
def test_an_address_that_is_not_public_is_not_reached(address: str) -> None:
    assert not PUBLIC.includes(ip_address(address))
    host = f"[{address}]" if ":" in address else address
    with pytest.raises(WebhookUrlInvalid, match="no public address"):
        target_of(f"http://{host}/hook", PUBLIC)


@pytest.mark.parametrize("address", ["1.1.1.1", "8.8.8.8", "2606:4700:4700::1111", "2001:4860:4860::8888"])
def test_a_public_address_is_reached(address: str) -> None:
    assert PUBLIC.includes(ip_address(address))


@pytest.mark.parametrize(
    "url",
    [
        "ftp://example.com",
        "file:///etc/passwd",
        "//example.com",
        "https://",
        "https://user:password@example.com",
        "https://example.com/#there",
        "https://example.com:22/",
        "https://example.com:0/",
        "https://example.com:99999/",
        "https://example.com/a b",
        "https://bücher.example",
        "https://[::1",
        "https://example.com/\r\nX-Injected: 1",
    ],
)
def test_a_url_that_will_not_do(url: str) -> None:
    with pytest.raises(WebhookUrlInvalid):
        target_of(url, PUBLIC)


def test_http_is_for_installations_that_allow_it() -> None:
    assert target_of("http://example.com", PUBLIC).port == 80
    assert target_of("https://example.com:8443/x", Reach()).port == 8443
    with pytest.raises(WebhookUrlInvalid, match="https://"):
        target_of("http://example.com", Reach())


# Forms that only the resolver reads: each of them is the loopback.
@pytest.mark.parametrize("host", ["localhost", "127.1", "2130706433", "0x7f000001", "0177.0.0.1", "0"])
def test_a_name_of_a_private_address_is_not_connected_to(receiver: Receiver, host: str) -> None:
    answer = sent(receiver.url.replace("127.0.0.1", host), PUBLIC)
    assert answer.status_code is None
    assert answer.error == f"{host} has an address that is not public, and is not connected to."
    assert receiver.received == []


def resolve_to(monkeypatch: pytest.MonkeyPatch, *answers: list[str]) -> list[str]:
    """Let names resolve to these, one answer after the other; returns the names that were asked for."""
    asked: list[str] = []

    def getaddrinfo(host: str, port: int, *_: object, **__: object) -> list[Any]:
        asked.append(host)
        found = answers[min(len(asked), len(answers)) - 1]
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port)) for address in found]

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    return asked


def test_one_private_address_among_public_ones_is_enough(
    monkeypatch: pytest.MonkeyPatch, receiver: Receiver
) -> None:
    resolve_to(monkeypatch, ["8.8.8.8", "127.0.0.1"])
    answer = sent(receiver.url.replace("127.0.0.1", "both.example"), PUBLIC)
    assert "not public" in answer.error
    assert receiver.received == []


def test_a_name_that_changes_after_it_was_checked_is_not_followed(
    monkeypatch: pytest.MonkeyPatch, receiver: Receiver
) -> None:
    """The checked address is the receiver's; whoever asked again would be led to where nobody listens."""
    asked = resolve_to(monkeypatch, ["127.0.0.1"], ["127.0.0.2"])
    port = receiver.url.split(":")[2].split("/")[0]
    answer = sent(f"http://rebinding.example:{port}/hook", LOOPBACK)
    assert answer.status_code == 204, answer.error
    assert asked.count("rebinding.example") == 1
    [request] = receiver.received
    assert request.headers["Host"] == f"rebinding.example:{port}"


def test_a_redirect_is_an_answer_and_is_not_followed(receiver: Receiver) -> None:
    with receiving() as inside:
        receiver.status, receiver.headers = 307, {"Location": inside.url}
        answer = sent(receiver.url, LOOPBACK)
        assert (answer.status_code, answer.is_success) == (307, False)
        assert inside.received == []


def test_no_proxy_of_the_environment_is_used(monkeypatch: pytest.MonkeyPatch, receiver: Receiver) -> None:
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    monkeypatch.delenv("NO_PROXY", raising=False)
    monkeypatch.delenv("no_proxy", raising=False)
    assert sent(receiver.url, LOOPBACK).is_success


def test_of_a_long_answer_the_first_bytes_are_kept_as_text(receiver: Receiver) -> None:
    receiver.status, receiver.body = 200, b"\x00\xff" + b"x" * 10_000_000
    answer = sent(receiver.url, LOOPBACK)
    assert answer.is_success
    assert answer.excerpt == "\ufffd\ufffd" + "x" * 498


def test_a_receiver_that_says_nothing_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("federation.outbound.sending.TOTAL_SECONDS", 0.3)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        answer = sent(f"http://127.0.0.1:{silent.getsockname()[1]}/", LOOPBACK)
    assert answer.status_code is None
    assert answer.error == "No answer came within 0.3 seconds."
    assert answer.latency_seconds < 5


def test_letters_are_sent_at_the_same_time() -> None:
    both = threading.Barrier(2)
    with receiving(before_answer=lambda: both.wait(10)) as receiver:
        letter = Letter(id="whd_1", url=receiver.url, body="{}", secrets=(SECRET,))
        sending = [send(letter, LOOPBACK) for _ in range(2)]
        assert [one.result().is_success for one in sending] == [True, True]
