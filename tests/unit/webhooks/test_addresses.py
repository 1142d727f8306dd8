"""Webhooks lead to the public internet only, whatever form an address comes in and whatever a name says next time."""

from __future__ import annotations

from collections.abc import Sequence
from ipaddress import ip_address, ip_network

import pytest

from app.webhooks.addresses import (
    LONGEST_URL,
    AddressRefusedError,
    UnresolvedError,
    addresses_of,
    destination,
    is_public,
)

PRIVATE = (
    "0.0.0.0", "0.1.2.3", "10.0.0.1", "10.255.255.255", "100.64.0.1", "100.127.255.255", "127.0.0.1", "127.1.2.3",  # noqa: S104
    "169.254.169.254", "169.254.0.1", "172.16.0.1", "172.31.255.255", "192.0.0.1", "192.0.0.170", "192.0.2.1",
    "192.88.99.1", "192.168.1.1", "198.18.0.1", "198.19.255.255", "198.51.100.1", "203.0.113.1", "224.0.0.1",
    "239.255.255.250", "240.0.0.1", "255.255.255.255",
    "::", "::1", "::127.0.0.1", "::ffff:127.0.0.1", "::ffff:10.0.0.1", "::ffff:169.254.169.254", "::ffff:0:127.0.0.1",
    "64:ff9b::7f00:1", "64:ff9b::a9fe:a9fe", "64:ff9b:1::1", "100::1", "2001::1", "2001:10::1", "2001:20::1",
    "2001:db8::1", "2002:7f00:1::1", "2002:a9fe:a9fe::1", "3fff::1", "5f00::1", "fc00::1", "fd00:ec2::254", "fe80::1",
    "febf::1", "fec0::1", "ff02::1", "ff0e::1",
)  # fmt: skip
PUBLIC = (
    "1.1.1.1", "8.8.8.8", "9.255.255.255", "11.0.0.1", "93.184.215.14", "100.63.255.255", "100.128.0.1", "128.0.0.1",
    "172.15.255.255", "172.32.0.1", "192.0.1.1", "198.17.255.255", "198.20.0.1", "223.255.255.255",
    "2606:4700:4700::1111", "2a00:1450:4001:810::200e", "2001:4860:4860::8888", "::ffff:8.8.8.8",
)  # fmt: skip


@pytest.mark.parametrize("text", PRIVATE)
def test_what_is_not_the_public_internet_is_no_destination(text: str) -> None:
    assert not is_public(ip_address(text))
    host = f"[{text}]" if ":" in text else text
    with pytest.raises(AddressRefusedError, match="not on the public internet"):
        destination(f"https://{host}/hook", ())


@pytest.mark.parametrize("text", PUBLIC)
def test_what_is_the_public_internet_is_one(text: str) -> None:
    assert is_public(ip_address(text))
    host = f"[{text}]" if ":" in text else text
    found = destination(f"https://{host}:8443/hook?a=b", ())
    assert (found.host, found.port, found.https) == (text, 8443, True)


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("http://example.com/", "must be https"),
        ("ftp://example.com/", "such as https"),
        ("//example.com/", "such as https"),
        ("https:///hook", "such as https"),
        ("https://example.com:0/", "such as https"),
        ("https://example.com:99999/", "is not a URL"),
        ("https://[::1/", "is not a URL"),
        ("https://user@example.com/", "neither user nor fragment"),
        ("https://:secret@example.com/", "neither user nor fragment"),
        ("https://example.com/#a", "neither user nor fragment"),
        ("https://example.com\\@127.0.0.1/", "printable ASCII"),
        ("https://example.com/\r\nX: y", "printable ASCII"),
        ("https://example.com/a b", "printable ASCII"),
        ("https://münchen.example/", "printable ASCII"),
        ("https://example.com/" + "a" * LONGEST_URL, "printable ASCII"),
        ("", "such as https"),
        ("https://127.0.0.1/", "not on the public internet"),
    ],
)
def test_a_url_that_is_none_for_a_webhook_is_refused_with_a_reason(url: str, said: str) -> None:
    with pytest.raises(AddressRefusedError, match=said):
        destination(url, ())


def test_plain_http_goes_to_allowed_networks_only() -> None:
    allowed = (ip_network("10.0.0.0/8"),)
    assert destination("http://10.1.2.3/hook", allowed).port == 80
    assert destination("http://[::ffff:10.1.2.3]/hook", allowed).port == 80
    for url in ("http://8.8.8.8/", "http://192.168.0.1/"):
        with pytest.raises(AddressRefusedError):
            destination(url, allowed)


class Names:
    """A resolver that answers each time with the next of `answers`, and counts how often it is asked."""

    def __init__(self, *answers: Sequence[str]) -> None:
        self._answers = list(answers)
        self.asked = 0

    async def __call__(self, host: str, port: int) -> Sequence[str]:
        assert (host, port) == ("hooks.example.com", 443)
        self.asked += 1
        return self._answers.pop(0)


async def test_the_addresses_to_connect_to_are_those_that_were_looked_at() -> None:
    where = destination("https://hooks.example.com/", ())
    names = Names(["93.184.215.14", "2606:4700:4700::1111", "93.184.215.14"], ["127.0.0.1"])
    assert await addresses_of(where, (), names) == ["93.184.215.14", "2606:4700:4700::1111"]
    assert names.asked == 1


@pytest.mark.parametrize("bad", ["127.0.0.1", "::ffff:10.0.0.1", "fe80::1%eth0", "169.254.169.254"])
async def test_one_private_address_among_public_ones_refuses_the_name_and_is_not_told(bad: str) -> None:
    where = destination("https://hooks.example.com/", ())
    with pytest.raises(AddressRefusedError) as refused:
        await addresses_of(where, (), Names(["93.184.215.14", bad]))
    assert bad not in str(refused.value)


async def test_a_name_with_plain_http_must_lead_into_an_allowed_network() -> None:
    allowed = (ip_network("10.0.0.0/8"),)
    where = destination("http://hooks.example.com:443/", allowed)
    assert await addresses_of(where, allowed, Names(["10.0.0.7"])) == ["10.0.0.7"]
    for answer in (["93.184.215.14"], ["10.0.0.7", "93.184.215.14"], ["192.168.0.1"]):
        with pytest.raises(AddressRefusedError):
            await addresses_of(where, allowed, Names(answer))


async def test_a_name_without_an_address_may_have_one_later() -> None:
    where = destination("https://hooks.example.com/", ())

    async def fails(_host: str, _port: int) -> Sequence[str]:
        raise OSError

    for resolver in (Names([]), fails):
        with pytest.raises(UnresolvedError, match=r"hooks\.example\.com"):
            await addresses_of(where, (), resolver)


@pytest.mark.parametrize("host", ["2130706433", "0x7f.1", "127.1", "0177.0.0.1", "localhost"])
async def test_other_spellings_of_this_machine_are_found_out_by_what_they_resolve_to(host: str) -> None:
    where = destination(f"https://{host}/", ())
    with pytest.raises((AddressRefusedError, UnresolvedError)):
        await addresses_of(where, ())
