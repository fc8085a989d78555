"""Where a request comes from: the peer, or, past proxies that are trusted, the address that they saw."""

from collections.abc import Mapping
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Any

from django.conf import settings

Address = IPv4Address | IPv6Address


def client_address(meta: Mapping[str, Any]) -> str:
    """The caller's address by a WSGI environment; empty where the peer has none, such as a socket's.

    X-Forwarded-For is read from its right end, where the nearest proxy wrote: each address is believed as far as a
    trusted proxy told it, so that whatever a caller sends along stands left of its true address and is not reached.
    """
    found = _parsed(meta.get("REMOTE_ADDR", ""))
    told = meta.get("HTTP_X_FORWARDED_FOR", "").split(",")
    while told and found is not None and _is_trusted(found):
        before = _parsed(told.pop())
        if before is None:
            break
        found = before
    return "" if found is None else str(found)


def _parsed(text: str) -> Address | None:
    """An address; one of IPv4 that is written as one of IPv6 as the former, as networks are compared with it."""
    try:
        address = ip_address(text.strip())
    except ValueError:
        return None
    return getattr(address, "ipv4_mapped", None) or address


def _is_trusted(address: Address) -> bool:
    return any(address in network for network in settings.TRUSTED_PROXIES)
