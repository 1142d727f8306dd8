"""Where a webhook may lead: to the public internet, and to networks that the operator allows; nowhere else.

A name is resolved once and every address it has is looked at; the connection then goes to one of these very addresses.
So a name that leads elsewhere a moment later (DNS rebinding) leads nowhere. Refuses to know HTTP: `delivery` calls.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address, ip_network
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from app.addresses import Address, Network

LONGEST_URL = 2048
RESOLVE_SECONDS = 5.0

# What IANA's registries of special-purpose addresses don't call globally reachable, and what is no host's: multicast,
# broadcast, reserved. (Python's `is_global` differs between versions, and calls multicast global.)
_NOT_PUBLIC = tuple(
    ip_network(network)
    for network in (
        "0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16", "172.16.0.0/12", "192.0.0.0/24",
        "192.0.2.0/24", "192.88.99.0/24", "192.168.0.0/16", "198.18.0.0/15", "198.51.100.0/24", "203.0.113.0/24",
        "224.0.0.0/4", "240.0.0.0/4",
        # Within the one block of IPv6 that is given out: protocols (Teredo and ORCHID too), examples, 6to4.
        "2001::/23", "2001:db8::/32", "2002::/16", "3fff::/20",
    )
)  # fmt: skip
# Everything else of IPv6 is no public host: loopback, ULA, link-local, multicast, NAT64 (64:ff9b::/96), IPv4 within it.
_GIVEN_OUT = IPv6Network("2000::/3")

Resolver = Callable[[str, int], Awaitable[Sequence[str]]]


class AddressRefusedError(Exception):
    """The URL is not one that may be called; the text says why, and names no address."""


class UnresolvedError(Exception):
    """The name has no address now."""


@dataclass(frozen=True)
class Destination:
    """A URL's parts that a connection needs. `host` is as the certificate has to name it."""

    url: str
    https: bool
    host: str
    port: int


def destination(url: str, allowed: Sequence[Network]) -> Destination:
    """The parts of a webhook's URL.

    Raises:
        AddressRefusedError: it is no https URL (http goes only to networks that are `allowed`), has a user or a
            fragment, or its host is an address that may not be called.
    """
    if len(url) > LONGEST_URL or not url.isascii() or not url.isprintable() or " " in url or "\\" in url:
        raise AddressRefusedError(f"must be a URL of at most {LONGEST_URL} printable ASCII characters")
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError:
        raise AddressRefusedError("is not a URL") from None
    if parts.scheme not in ("https", "http") or not host or port == 0:
        raise AddressRefusedError("must be a URL such as https://example.com/hook")
    if parts.scheme == "http" and not allowed:
        raise AddressRefusedError("must be https")
    if parts.username is not None or parts.password is not None or "#" in url:
        raise AddressRefusedError("must have neither user nor fragment")
    found = Destination(url, parts.scheme == "https", host, port or (443 if parts.scheme == "https" else 80))
    if (address := _literal(host)) is not None:
        _check(found, address, allowed)
    return found


async def addresses_of(where: Destination, allowed: Sequence[Network], resolver: Resolver | None = None) -> list[str]:
    """The addresses to connect to, in the order of preference: all that the host has, resolved once.

    Raises:
        AddressRefusedError: one of them may not be called, so none is.
        UnresolvedError: the name has none, or is not resolved in `RESOLVE_SECONDS`.
    """
    try:
        async with asyncio.timeout(RESOLVE_SECONDS):
            found = await (resolver or _resolve)(where.host, where.port)
    except (OSError, UnicodeError, TimeoutError) as error:
        raise UnresolvedError(f"The name {where.host} is not resolved.") from error
    if not found:
        raise UnresolvedError(f"The name {where.host} has no address.")
    for text in found:
        _check(where, _parsed(text), allowed)
    return list(dict.fromkeys(found))


def is_public(address: Address) -> bool:
    """Whether the address is an ordinary host's on the public internet; IPv4 within IPv6 is judged as IPv4."""
    address = _plain(address)
    if isinstance(address, IPv6Address) and address not in _GIVEN_OUT:
        return False
    return not any(address in network for network in _NOT_PUBLIC)


def _check(where: Destination, address: Address, allowed: Sequence[Network]) -> None:
    if any(_plain(address) in network for network in allowed):
        return
    if not is_public(address):
        raise AddressRefusedError(f"{where.host} is not on the public internet")
    if not where.https:
        raise AddressRefusedError("must be https")


def _plain(address: Address) -> Address:
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return address if mapped is None else mapped


def _literal(host: str) -> Address | None:
    try:
        return _parsed(host)
    except ValueError:
        return None


def _parsed(text: str) -> IPv4Address | IPv6Address:
    """An address; one with a zone, which is never public, without it."""
    return ip_address(text.partition("%")[0])


async def _resolve(host: str, port: int) -> list[str]:
    found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return [str(address[0]) for *_, address in found]
