"""Deliveries to real servers of this machine: the checked address, the name's certificate, no redirect, bounds."""

from __future__ import annotations

import asyncio
import ssl
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from ipaddress import ip_network
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from app.webhooks.delivery import Deliveries, Message, NotDeliveredError
from app.webhooks.signing import new_secret

HERE = (ip_network("127.0.0.0/8"),)
MESSAGE = Message("msg_1", b'{"type":"t"}')
SECRET = new_secret()
NAME = "hooks.example.com"


@asynccontextmanager
async def answering(answer: bytes, context: ssl.SSLContext | None = None) -> AsyncIterator[tuple[int, list[bytes]]]:
    """The port of a server that sends these bytes whatever it is asked (none: it never answers), and what it got."""
    got: list[bytes] = []

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            got.append(await reader.readuntil(b"\r\n\r\n"))
            if answer:
                writer.write(answer)
                await writer.drain()
            await reader.read()
        except (OSError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(handle, "127.0.0.1", 0, ssl=context)
    async with server:
        yield server.sockets[0].getsockname()[1], got


def certificate(folder: Path, name: str) -> Path:
    """A self-signed certificate for `name`, with its key, in one file."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(minutes=5))
        .not_valid_after(now + timedelta(hours=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    path = folder / f"{name}.pem"
    path.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        + made.public_bytes(serialization.Encoding.PEM)
    )
    return path


async def here(_host: str, _port: int) -> Sequence[str]:
    return ["127.0.0.1"]


async def refused(deliveries: Deliveries, url: str) -> NotDeliveredError:
    with pytest.raises(NotDeliveredError) as caught:
        await deliveries.deliver(url, SECRET, MESSAGE)
    await deliveries.close()
    return caught.value


@pytest.mark.parametrize(("certified", "taken"), [(NAME, True), ("other.example.com", False)])
async def test_the_connection_goes_to_the_address_and_the_certificate_must_be_the_names(
    tmp_path: Path, certified: str, taken: bool
) -> None:
    path = certificate(tmp_path, certified)
    server, trusted = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), ssl.create_default_context(cafile=str(path))
    server.load_cert_chain(path)
    async with answering(b"HTTP/1.1 204 No Content\r\n\r\n", server) as (port, got):
        deliveries = Deliveries(HERE, resolver=here, trusted=trusted)
        url = f"https://{NAME}:{port}/hook?a=1"
        if taken:
            await deliveries.deliver(url, SECRET, MESSAGE)
            await deliveries.close()
            assert got[0].startswith(b"POST /hook?a=1 HTTP/1.1\r\n")
            assert f"\r\nHost: {NAME}:{port}\r\n".encode().lower() in got[0].lower()
        else:
            error = await refused(deliveries, url)
            assert (error.final, got) == (False, [])


async def test_a_name_is_asked_once_so_what_it_says_next_leads_nowhere() -> None:
    answers = [["127.0.0.1"], ["10.0.0.1"]]
    asked = []

    async def rebinding(host: str, _port: int) -> Sequence[str]:
        asked.append(host)
        return answers.pop(0)

    async with answering(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n") as (port, got):
        deliveries = Deliveries(HERE, resolver=rebinding)
        await deliveries.deliver(f"http://{NAME}:{port}/", SECRET, MESSAGE)
        assert (asked, len(got)) == ([NAME], 1)
        # The next delivery looks again, and finds out.
        error = await refused(deliveries, f"http://{NAME}:{port}/")
    assert error.final
    assert len(got) == 1


async def test_an_address_that_does_not_answer_is_followed_by_the_next_one() -> None:
    async def two(_host: str, _port: int) -> Sequence[str]:
        return ["127.0.0.2", "127.0.0.1"]

    async with answering(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n") as (port, got):
        deliveries = Deliveries(HERE, resolver=two)
        await deliveries.deliver(f"http://{NAME}:{port}/", SECRET, MESSAGE)
        await deliveries.close()
    assert len(got) == 1


@pytest.mark.parametrize(
    ("status", "final", "said_no", "wait"),
    [
        ("301 Moved\r\nLocation: http://127.0.0.1:9/", False, True, 0),
        ("400 No", False, True, 0),
        ("404 No", False, True, 0),
        ("410 Gone", True, False, 0),
        ("429 Slow\r\nRetry-After: 7", False, False, 7),
        ("429 Slow\r\nRetry-After: 999999999", False, False, 300),
        ("429 Slow\r\nRetry-After: -1", False, False, 0),
        ("503 Away\r\nRetry-After: Wed, 21 Oct 2099 07:28:00 GMT", False, False, 0),
        ("500 Oh", False, False, 0),
    ],
)
async def test_an_answer_says_whether_to_come_again(status: str, final: bool, said_no: bool, wait: float) -> None:
    async with answering(f"HTTP/1.1 {status}\r\nContent-Length: 0\r\n\r\n".encode()) as (port, got):
        error = await refused(Deliveries(HERE), f"http://127.0.0.1:{port}/")
    assert (error.final, error.refused, error.wait_seconds) == (final, said_no, wait)
    assert len(got) == 1
    assert status[:3] in str(error)


async def test_a_webhook_that_does_not_answer_is_not_waited_for_for_ever() -> None:
    async with answering(b"") as (port, got):
        started = time.monotonic()
        error = await refused(Deliveries(HERE, answer_seconds=0.3), f"http://127.0.0.1:{port}/")
    assert len(got) == 1
    assert "does not answer within 0.3 s" in str(error)
    assert time.monotonic() - started < 20


async def test_headers_that_trickle_in_are_not_waited_for_either() -> None:
    async def trickle(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                writer.write(b"H")
                await writer.drain()
                await asyncio.sleep(0.05)
        except OSError:
            writer.close()

    server = await asyncio.start_server(trickle, "127.0.0.1", 0)
    async with server:
        error = await refused(
            Deliveries(HERE, answer_seconds=0.3), f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/"
        )
    assert not error.final


async def test_an_endless_answer_is_not_read() -> None:
    endless = b"HTTP/1.1 200 OK\r\nContent-Length: 1000000000000\r\n\r\n" + b"x" * 2**20
    async with answering(endless) as (port, got):
        deliveries = Deliveries(HERE)
        await deliveries.deliver(f"http://127.0.0.1:{port}/", SECRET, MESSAGE)
        await deliveries.close()
    assert len(got) == 1


@pytest.mark.parametrize("answer", [b"not HTTP at all\r\n\r\n", b"HTTP/1.1 999999 X\r\n\r\n"])
async def test_what_is_no_answer_may_be_one_later(answer: bytes) -> None:
    async with answering(answer) as (port, _):
        error = await refused(Deliveries(HERE), f"http://127.0.0.1:{port}/")
    assert not error.final


async def test_a_proxy_of_the_environment_is_not_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    async with answering(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n") as (port, got):
        deliveries = Deliveries(HERE)
        await deliveries.deliver(f"http://127.0.0.1:{port}/", SECRET, MESSAGE)
        await deliveries.close()
    assert len(got) == 1
