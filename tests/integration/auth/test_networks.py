"""A client that is narrowed to networks calls from those and from nowhere else, whatever a request says of itself."""

from __future__ import annotations

from typing import TYPE_CHECKING
from uuid import UUID

import httpx
import pytest
from sqlalchemy import event

from app.settings import GatewaySettings
from tests.integration.auth.conftest import running
from tests.system import until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from tenants.lifecycle import CreatedTenant
    from tests.integration.auth.conftest import Gateway
    from tests.system import System

OFFICE = "{192.0.2.0/24,2001:db8::/32}"
INSIDE, OUTSIDE, PROXY = "192.0.2.7", "198.51.100.9", "10.1.2.3"


@pytest.fixture(scope="module")
async def behind_proxies(settings: GatewaySettings) -> AsyncIterator[Gateway]:
    """A gateway that believes proxies in 10.0.0.0/8."""
    changed = GatewaySettings.model_validate(settings.model_dump() | {"trusted_proxies": "10.0.0.0/8, ::1/128"})
    async with running(changed) as made:
        yield made


async def narrowed(gateway: Gateway, networks: str = OFFICE) -> tuple[CreatedTenant, str]:
    """A tenant whose client may only call from those networks, and its token."""
    tenant = await gateway.tenant()
    token = await gateway.token(tenant)
    await gateway.execute(
        "update oauth_clients set networks = cast(cast(:networks as text) as cidr[]) where client_id = :id",
        networks=networks,
        id=tenant.client_id,
    )
    await gateway.directory.refresh()
    return tenant, token


async def get(gateway: Gateway, token: str, peer: str, *forwarded: str) -> httpx.Response:
    headers = [("Authorization", f"Bearer {token}"), *(("X-Forwarded-For", value) for value in forwarded)]
    transport = httpx.ASGITransport(gateway.app, client=(peer, 50000))
    async with httpx.AsyncClient(transport=transport, base_url=gateway.settings.issuer) as client:
        return await client.get("/read", headers=headers)


@pytest.mark.parametrize(
    ("peer", "status"),
    [
        (INSIDE, 200),
        (OUTSIDE, 403),
        ("2001:db8::1", 200),
        ("2001:db9::1", 403),
        (f"::ffff:{INSIDE}", 200),
        (f"::ffff:{OUTSIDE}", 403),
    ],
)
async def test_the_peers_address_decides(gateway: Gateway, peer: str, status: int) -> None:
    _, token = await narrowed(gateway)
    answer = await get(gateway, token, peer)
    assert answer.status_code == status
    if status == 403:
        assert answer.json()["detail"] == "This client may not call from this address."


async def test_a_client_without_networks_may_call_from_anywhere(gateway: Gateway) -> None:
    token = await gateway.token(await gateway.tenant())
    for peer in (INSIDE, OUTSIDE, "2001:db9::1"):
        assert (await get(gateway, token, peer)).status_code == 200


@pytest.mark.parametrize("forwarded", [INSIDE, f"{INSIDE}, {PROXY}", f"{PROXY}, {INSIDE}"])
async def test_what_an_untrusted_peer_forwards_neither_helps_nor_hurts(gateway: Gateway, forwarded: str) -> None:
    _, token = await narrowed(gateway)
    assert (await get(gateway, token, OUTSIDE, forwarded)).status_code == 403
    assert (await get(gateway, token, INSIDE, OUTSIDE)).status_code == 200


@pytest.mark.parametrize(
    ("forwarded", "status"),
    [
        ((INSIDE,), 200),
        ((OUTSIDE,), 403),
        ((), 403),
        ((f"{INSIDE}, {OUTSIDE}",), 403),
        ((INSIDE, OUTSIDE), 403),
        ((f"{OUTSIDE}, {INSIDE}, 10.9.9.9",), 200),
        ((f"[2001:db8::1]:4711, {PROXY}",), 200),
        ((f"{INSIDE}, unknown",), 403),
    ],
)
async def test_behind_a_trusted_proxy_the_last_address_that_is_no_proxys_decides(
    behind_proxies: Gateway, forwarded: tuple[str, ...], status: int
) -> None:
    _, token = await narrowed(behind_proxies)
    assert (await get(behind_proxies, token, PROXY, *forwarded)).status_code == status


async def test_a_change_of_networks_holds_for_a_token_that_was_accepted_before(gateway: Gateway) -> None:
    tenant = await gateway.tenant()
    token = await gateway.token(tenant)
    assert (await get(gateway, token, OUTSIDE)).status_code == 200
    for networks, status in (("{192.0.2.0/24}", 403), ("{198.51.100.9/32}", 200), ("{192.0.2.0/24}", 403), ("{}", 200)):
        await gateway.execute(
            "update oauth_clients set networks = cast(cast(:networks as text) as cidr[]) where client_id = :id",
            networks=networks,
            id=tenant.client_id,
        )
        await gateway.directory.refresh()
        assert (await get(gateway, token, OUTSIDE)).status_code == status


async def test_ingest_and_reads_of_a_running_gateway_hold_to_it_too(system: System) -> None:
    tenant = await system.tenant()
    async with system.client(tenant) as client:

        async def statuses() -> set[int]:
            forged = {"X-Forwarded-For": INSIDE}
            return {
                (await client.post("/api/v1/events", json={"event_type": "a"}, headers=forged)).status_code,
                (await client.post("/api/v1/events/batch", json=[{"event_type": "a"}], headers=forged)).status_code,
                (await client.get("/api/v1/events/count", headers=forged)).status_code,
            }

        assert await statuses() == {200, 202}
        for networks, expected in ((["192.0.2.0/24"], {403}), (["192.0.2.0/24", "127.0.0.0/8"], {200, 202})):
            sql = "update oauth_clients set networks = $2::text[]::cidr[] where tenant_id = $1 returning 1"
            await system.fetch(sql, UUID(tenant.tenant_id), networks)
            await until(statuses, lambda seen, wanted=expected: seen == wanted, seconds=1)  # type: ignore[misc]


async def test_a_thousand_requests_with_tokens_ask_postgresql_nothing_but_what_polling_does(gateway: Gateway) -> None:
    tokens = [await gateway.token(await gateway.tenant()) for _ in range(3)]
    _, office = await narrowed(gateway)
    statements: list[str] = []

    def record(_connection: object, _cursor: object, statement: str, *_: object) -> None:
        statements.append(statement)

    transport = httpx.ASGITransport(gateway.app, client=(INSIDE, 50000))
    async with httpx.AsyncClient(transport=transport, base_url=gateway.settings.issuer) as client:
        for token in (*tokens, office):
            assert (await client.get("/read", headers={"Authorization": f"Bearer {token}"})).status_code == 200
        looks = {gateway.directory.last_refreshed}
        event.listen(gateway.auth_engine.sync_engine, "before_cursor_execute", record)
        try:
            for number in range(1000):
                token = (*tokens, office)[number % 4]
                assert (await client.get("/read", headers={"Authorization": f"Bearer {token}"})).status_code == 200
                looks.add(gateway.directory.last_refreshed)
        finally:
            event.remove(gateway.auth_engine.sync_engine, "before_cursor_execute", record)
    assert set(statements) <= {"select version, revocations from control_version"}
    assert len(statements) <= len(looks) + 1


async def test_tokens_used_from_elsewhere_are_counted_as_failures_of_that_address(settings: GatewaySettings) -> None:
    changed = GatewaySettings.model_validate(settings.model_dump() | {"failure_limit": "2/minute"})
    async with running(changed) as gateway:
        _, token = await narrowed(gateway)
        assert [(await get(gateway, token, OUTSIDE)).status_code for _ in range(3)] == [403, 403, 429]
        assert (await get(gateway, token, INSIDE)).status_code == 200
