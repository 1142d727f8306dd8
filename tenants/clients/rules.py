"""What a client may be: its name, scopes, networks, keys and own limits, as an API body or a command's options give
them, checked and turned into columns of `oauth_clients`. Knows no database.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Network, ip_network
from typing import TYPE_CHECKING, Any

from app.errors import Fault, InvalidError
from auth.jwks import public_key_set
from auth.scopes import PLATFORM_ADMIN, TENANT_SCOPES
from tenants.platform import PLATFORM_TENANT_ID

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from uuid import UUID

    from tenants.plans import TenantLimits

MOST_NAME_CHARACTERS = 200
MOST_NETWORKS = 50
_MAPPED_PREFIX = 96
"""::ffff:0:0/96 holds IPv4 addresses as IPv6 writes them."""


@dataclass(frozen=True)
class Bounds:
    """What bounds a tenant's clients: which tenant it is, and its effective limits."""

    tenant_id: UUID
    limits: TenantLimits

    @property
    def scopes(self) -> tuple[str, ...]:
        """The scopes that its clients can hold."""
        return (PLATFORM_ADMIN,) if self.tenant_id == PLATFORM_TENANT_ID else TENANT_SCOPES


def checked(given: Mapping[str, Any], bounds: Bounds) -> dict[str, Any]:
    """The given members (any of name, scopes, networks, jwks, events_per_second, burst) as columns.

    Scopes come in the order of `Bounds.scopes`, each once. The two limits go together: both or neither, null or not.

    Raises:
        InvalidError: each fault with the pointer of its member.
    """
    columns = dict(given)
    faults: list[Fault] = []
    if "name" in given:
        faults += _faults_of_name(given["name"])
    if "scopes" in given:
        faults += _faults_of_scopes(given["scopes"], bounds.scopes)
        columns["scopes"] = [scope for scope in bounds.scopes if scope in given["scopes"]]
    if "networks" in given:
        columns["networks"] = list(dict.fromkeys(_networks(given["networks"], faults)))
    if given.get("jwks") is not None:
        try:
            columns["jwks"] = public_key_set(given["jwks"])
        except InvalidError as error:
            faults += error.faults
    faults += _faults_of_limits(given, bounds.limits)
    if faults:
        raise InvalidError("The client is not valid.", tuple(faults))
    return columns


def _faults_of_name(name: str) -> Iterator[Fault]:
    if not (1 <= len(name) <= MOST_NAME_CHARACTERS and name.isprintable() and name.strip()):
        yield Fault("/name", f"must be 1 to {MOST_NAME_CHARACTERS} printable characters, not only spaces")


def _faults_of_scopes(scopes: list[str], grantable: tuple[str, ...]) -> Iterator[Fault]:
    if not scopes:
        yield Fault("/scopes", f"must be some of {', '.join(grantable)}")
    for number, scope in enumerate(scopes):
        if scope not in grantable:
            yield Fault(f"/scopes/{number}", f"must be one of {', '.join(grantable)}")


def _networks(given: list[str], faults: list[Fault]) -> Iterator[IPv4Network | IPv6Network]:
    if len(given) > MOST_NETWORKS:
        faults.append(Fault("/networks", f"must be at most {MOST_NETWORKS}"))
        return
    for number, text in enumerate(given):
        where = f"/networks/{number}"
        try:
            network = ip_network(text)
        except ValueError:
            detail = "must be a network such as 192.0.2.0/24 or 2001:db8::/32, with no bits behind the prefix"
            faults.append(Fault(where, detail))
            continue
        if network.version == 6 and network.prefixlen >= _MAPPED_PREFIX and network.network_address.ipv4_mapped:  # noqa: PLR2004
            faults.append(Fault(where, "is IPv4 within IPv6, which is compared as IPv4: write it as such"))
            continue
        yield network


def _faults_of_limits(given: Mapping[str, Any], most: TenantLimits) -> Iterator[Fault]:
    pair = ("events_per_second", "burst")
    rate, burst = (given.get(name) for name in pair)
    if any(name in given for name in pair) and ((rate is None) != (burst is None) or not all(n in given for n in pair)):
        missing = min(pair, key=lambda name: (name in given, given.get(name) is not None))
        yield Fault(f"/{missing}", "is given together with the other of events_per_second and burst, or not at all")
        return
    if rate is not None and not (math.isfinite(rate) and 0 < rate <= most.events_per_second):
        yield Fault("/events_per_second", f"must be above 0 and at most the tenant's {most.events_per_second:g}")
    if burst is not None and not 1 <= burst <= most.burst:
        yield Fault("/burst", f"must be 1 to the tenant's {most.burst}")
