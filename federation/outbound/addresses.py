"""Which addresses may be reached: public ones, so that no customer's URL leads into the network that this runs in."""

from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address
from typing import Final
from urllib.parse import SplitResult, urlsplit

from federation.errors import WebhookUrlInvalid

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network

_DEFAULT_PORTS: Final = {"https": 443, "http": 80}
_LOWEST_FREE_PORT: Final = (
    1_024  # below it, but for the two above, are mail, shells and other services of hosts
)
# All of IPv6 that is given out to hosts. What lies outside of it, such as IPv4-mapped (::ffff:0:0/96), IPv4-compatible
# (::/96) and NAT64 (64:ff9b::/96) forms, is an IPv4 address in another dress.
_GLOBAL_UNICAST: Final = IPv6Network("2000::/3")
_TUNNELS: Final = (IPv6Network("2002::/16"), IPv6Network("2001::/23"))  # 6to4; Teredo and other special ones
_METADATA: Final = (IPv4Address("168.63.129.16"),)  # a cloud's own, although it looks public


@dataclass(frozen=True)
class Reach:
    """What an installation lets webhooks reach besides public addresses over https."""

    networks: tuple[Network, ...] = ()
    allows_http: bool = False

    def includes(self, address: Address) -> bool:
        """Whether a connection to the address may be made."""
        if any(address in network for network in self.networks):
            return True
        if isinstance(address, IPv6Address):
            is_host = address in _GLOBAL_UNICAST and not any(address in tunnel for tunnel in _TUNNELS)
            return is_host and address.is_global
        return address.is_global and not address.is_multicast and address not in _METADATA


@dataclass(frozen=True)
class Target:
    """Where a URL leads."""

    url: SplitResult
    host: str
    port: int


def target_of(url: str, reach: Reach) -> Target:
    """The URL taken apart. What its name resolves to is looked at with each request. Raises WebhookUrlInvalid."""
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError as error:
        raise WebhookUrlInvalid(field="url", problem=str(error)) from None
    if problem := _problem(url, parts, reach):
        raise WebhookUrlInvalid(field="url", problem=problem)
    port = _DEFAULT_PORTS[parts.scheme] if port is None else port
    if port not in _DEFAULT_PORTS.values() and port < _LOWEST_FREE_PORT:
        raise WebhookUrlInvalid(field="url", problem=f"port {port} is not one of 443, 80 and 1024 or higher")
    assert host is not None  # else there was a problem
    if (literal := _literal(host)) is not None and not reach.includes(literal):
        raise WebhookUrlInvalid(field="url", problem=f"{host} is no public address")
    return Target(url=parts, host=host, port=port)


def _problem(url: str, parts: SplitResult, reach: Reach) -> str | None:
    schemes = ("https", "http") if reach.allows_http else ("https",)
    if not url.isascii() or any(character <= " " for character in url):
        return "only printable ASCII may stand in it; write other names in punycode"
    if parts.scheme not in schemes:
        return f"it must begin with {' or '.join(f'{scheme}://' for scheme in schemes)}"
    if not parts.hostname:
        return "it names no host"
    if "@" in parts.netloc:
        return "it holds a user or a password; the signature tells who sends"
    if parts.fragment:
        return "it has a fragment, which is never sent"
    return None


def _literal(host: str) -> Address | None:
    try:
        return ip_address(host)
    except ValueError:
        return None
