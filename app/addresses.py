"""Where a request comes from: its peer's address, or what proxies that are trusted by configuration say of it.

`X-Forwarded-For` is anyone's to write, so it is read from its end, and only as far as each hop is a trusted proxy.
"""

from __future__ import annotations

from functools import lru_cache
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network

_FORWARDED = b"x-forwarded-for"
NOWHERE = IPv6Address(0)
"""What is answered where there is no peer, as with a Unix socket. In no client's network but `::/0`."""


def client_address(scope: Any, trusted: Sequence[Network]) -> Address:
    """The address that the request in this ASGI scope comes from.

    The peer's, unless that is one of the `trusted` proxies: then the last entry of X-Forwarded-For that is not.
    An entry that is no address ends the walk at the proxy that passed it on.
    """
    peer = scope.get("client")
    address = _parsed(peer[0]) if peer else None
    if address is None:
        return NOWHERE
    if not trusted or not is_within(address, trusted):
        return address
    said = b",".join(value for name, value in scope["headers"] if name == _FORWARDED)
    for entry in reversed(said.split(b",") if said else []):
        hop = _parsed(entry.strip().decode("latin-1"))
        if hop is None:
            return address
        address = hop
        if not is_within(address, trusted):
            return address
    return address


def is_within(address: Address, networks: Sequence[Network]) -> bool:
    """Whether the address is in one of the networks; those of the other IP version hold none."""
    return any(address in network for network in networks)


@lru_cache(maxsize=4096)
def _parsed(text: str) -> Address | None:
    """An address as proxies write it: perhaps with a port, IPv6 perhaps in brackets. IPv4 within IPv6 is IPv4."""
    if text.startswith("["):
        text = text[1:].partition("]")[0]
    elif text.count(":") == 1:
        text = text.partition(":")[0]
    try:
        address = ip_address(text)
    except ValueError:
        return None
    if isinstance(address, IPv6Address) and address.ipv4_mapped is not None:
        return address.ipv4_mapped
    return address
