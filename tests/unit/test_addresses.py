"""Where a request comes from, whatever is claimed in headers."""

from __future__ import annotations

from ipaddress import ip_address, ip_network
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.addresses import NOWHERE, client_address, is_within

PROXIES = (ip_network("10.0.0.0/8"), ip_network("fd00::/8"))
PROXY, OTHER_PROXY, CLIENT = "10.0.0.1", "fd00::1", "198.51.100.7"


def scope(peer: str | None, *forwarded: str) -> dict[str, Any]:
    headers = [(b"host", b"h"), *((b"x-forwarded-for", value.encode("latin-1")) for value in forwarded)]
    return {"client": None if peer is None else (peer, 4711), "headers": headers}


def address(peer: str | None, *forwarded: str) -> str:
    return str(client_address(scope(peer, *forwarded), PROXIES))


@given(st.text(st.characters(max_codepoint=255), max_size=60))
def test_a_peer_that_is_no_trusted_proxy_is_where_the_request_comes_from_whatever_it_says(said: str) -> None:
    assert address(CLIENT, said) == CLIENT


@given(st.text(st.characters(max_codepoint=255), max_size=60))
def test_what_stands_before_the_entry_that_a_trusted_proxy_added_is_not_read(said: str) -> None:
    assert address(PROXY, f"{said}, {CLIENT}") == CLIENT
    assert address(PROXY, said, CLIENT) == CLIENT


def test_trusted_proxies_behind_each_other_are_passed_over() -> None:
    assert address(PROXY, f"192.0.2.9, {CLIENT}, {OTHER_PROXY}, 10.9.9.9") == CLIENT


@pytest.mark.parametrize(
    "said", ["", ",", "unknown", "_hidden", "198.51.100.7.example.com", "999.0.0.1", f"{CLIENT}, x"]
)
def test_an_entry_that_is_no_address_ends_the_walk_at_the_proxy_that_passed_it_on(said: str) -> None:
    assert address(PROXY, said) == PROXY


def test_where_all_entries_are_trusted_the_first_is_where_it_comes_from() -> None:
    assert address(PROXY, "10.1.1.1, 10.2.2.2") == "10.1.1.1"


@pytest.mark.parametrize(
    ("said", "meant"),
    [
        ("198.51.100.7:4711", CLIENT),
        ("[2001:db8::7]:4711", "2001:db8::7"),
        ("[2001:db8::7]", "2001:db8::7"),
        ("2001:DB8:0::7", "2001:db8::7"),
        ("::ffff:198.51.100.7", CLIENT),
        ("[::ffff:198.51.100.7]:4711", CLIENT),
        (f"\t {CLIENT} ", CLIENT),
    ],
)
def test_an_address_is_read_as_proxies_write_it(said: str, meant: str) -> None:
    assert address(PROXY, said) == meant


def test_a_proxy_that_is_seen_as_ipv4_within_ipv6_is_the_same_proxy() -> None:
    assert address("::ffff:10.0.0.1", CLIENT) == CLIENT


@pytest.mark.parametrize("peer", [None, "", "unix:", "testclient"])
def test_without_a_peers_address_it_comes_from_nowhere_and_nothing_is_believed(peer: str | None) -> None:
    assert client_address(scope(peer, CLIENT), PROXIES) == NOWHERE


def test_without_trusted_proxies_nothing_is_believed() -> None:
    assert str(client_address(scope(PROXY, CLIENT), ())) == PROXY


def test_a_network_of_one_version_holds_no_address_of_the_other() -> None:
    assert is_within(ip_address("10.1.2.3"), PROXIES)
    assert not is_within(ip_address("10.1.2.3"), (ip_network("::/0"),))
    assert not is_within(ip_address("fd00::1"), (ip_network("0.0.0.0/0"),))
    assert not is_within(ip_address("10.1.2.3"), ())
