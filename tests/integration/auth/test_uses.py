"""When a credential was last used, and from where a client may call."""

from __future__ import annotations

import uuid
from datetime import UTC, datetime, timedelta

import pytest
import structlog
from sqlalchemy import text

from auth.clients import add_secret, create_client, create_key_client
from auth.credentials import key_bytes
from auth.metadata import PATHS
from tenants.lifecycle import CreatedTenant
from tests.client_keys import ClientKey, form_of
from tests.integration.auth.conftest import Gateway, credentials, running

FORM = {"token": "x"}
OLD = "update client_uses set last_used_at = now() - interval '61 seconds' where client_id = :id"


async def uses(gateway: Gateway, client_id: str) -> dict[str, datetime]:
    async with gateway.auth_engine.connect() as connection:
        query = text("select credential, last_used_at from client_uses where client_id = :id")
        return {row.credential: row.last_used_at for row in await connection.execute(query, {"id": client_id})}


@pytest.mark.parametrize("path", PATHS.values())
async def test_each_endpoint_notes_which_secret_was_used_and_when(gateway: Gateway, path: str) -> None:
    tenant = await gateway.tenant()
    async with gateway.auth_engine.begin() as connection:
        key = key_bytes(gateway.settings.secret_hash_key)
        second = await add_secret(connection, key, tenant.tenant_id, tenant.client_id)
    began = datetime.now(UTC) - timedelta(seconds=1)
    async with gateway.client() as client:
        wrong = credentials(tenant) | FORM | {"client_secret": "sls_wrong"}
        assert (await client.post(path, data=wrong)).status_code == 401
        assert await uses(gateway, tenant.client_id) == {}
        right = credentials(tenant) | FORM | {"client_secret": second.client_secret}
        assert (await client.post(path, data=right)).status_code == 200
        noted = await uses(gateway, tenant.client_id)
        assert noted.keys() == {str(second.secret_id)}
        assert began < noted[str(second.secret_id)] < datetime.now(UTC) + timedelta(seconds=1)
        assert (await client.post(path, data=credentials(tenant) | FORM)).status_code == 200
    assert len(await uses(gateway, tenant.client_id)) == 2


async def test_a_use_is_noted_at_most_once_a_minute(gateway: Gateway) -> None:
    tenant = await gateway.tenant()
    await gateway.token(tenant)
    first = await uses(gateway, tenant.client_id)
    await gateway.token(tenant)
    assert await uses(gateway, tenant.client_id) == first
    await gateway.execute(OLD, id=tenant.client_id)
    await gateway.token(tenant)
    (again,) = (await uses(gateway, tenant.client_id)).values()
    assert again > next(iter(first.values()))


async def test_the_use_of_a_key_is_noted_under_its_name(gateway: Gateway) -> None:
    key, tenant = ClientKey.make(kid="key-of-May"), await gateway.tenant()
    async with gateway.auth_engine.begin() as connection:
        jwks = {"keys": [key.public]}
        client_id = await create_key_client(connection, jwks, tenant.tenant_id, "keys", ("events:read",))
    form = {"grant_type": "client_credentials"} | form_of(key.assertion(client_id, gateway.settings.issuer))
    async with gateway.client() as client:
        assert (await client.post("/oauth/token", data=form)).status_code == 200
    assert (await uses(gateway, client_id)).keys() == {"key-of-May"}


async def test_a_token_is_issued_even_if_its_use_can_not_be_noted(
    gateway: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    tenant = await gateway.tenant()
    impossible = text("insert into client_uses values (:tenant_id, :client_id, :credential, null)")
    monkeypatch.setattr("auth.uses._NOTE", impossible)
    with structlog.testing.capture_logs() as logged:
        assert await gateway.token(tenant)
    assert "last use not noted" in [entry["event"] for entry in logged]
    assert tenant.client_secret not in str(logged)


async def test_both_secrets_work_until_the_old_one_ends(gateway: Gateway) -> None:
    tenant = await gateway.tenant()
    async with gateway.auth_engine.begin() as connection:
        key = key_bytes(gateway.settings.secret_hash_key)
        second = await add_secret(connection, key, tenant.tenant_id, tenant.client_id)
    old, new = tenant, CreatedTenant(tenant.tenant_id, tenant.client_id, second.client_secret)
    assert await gateway.token(old)
    assert await gateway.token(new)
    await gateway.execute(
        "update client_secrets set expires_at = now() where client_id = :id and secret_id <> :second",
        id=tenant.client_id,
        second=second.secret_id,
    )
    async with gateway.client() as client:
        assert (await client.post("/oauth/token", data=credentials(old))).status_code == 401
    assert await gateway.token(new)


FROM = {
    "nobody's word": ("", {}, 401),
    "a header anyone can write": ("", {"X-Forwarded-For": "198.51.100.7"}, 401),
    "a trusted proxy's word": ("127.0.0.0/8", {"X-Forwarded-For": "198.51.100.7"}, 200),
    "a trusted proxy's word of elsewhere": ("127.0.0.0/8", {"X-Forwarded-For": "198.51.100.7, 192.0.2.1"}, 401),
}


@pytest.mark.parametrize(("trusted", "headers", "status"), FROM.values(), ids=FROM.keys())
async def test_a_narrowed_client_is_let_in_from_its_networks_only_at_each_endpoint(
    gateway: Gateway, trusted: str, headers: dict[str, str], status: int
) -> None:
    tenant = await gateway.tenant()
    await gateway.execute(
        "update oauth_clients set networks = '{198.51.100.0/24}' where client_id = :id", id=tenant.client_id
    )
    settings = gateway.settings.model_validate(gateway.settings.model_dump() | {"trusted_proxies": trusted})
    async with running(settings) as narrow, narrow.client(headers=headers) as client:
        answers = [await client.post(path, data=credentials(tenant) | FORM) for path in PATHS.values()]
        unknown = await client.post("/oauth/token", data=credentials(tenant) | {"client_id": f"slc_{uuid.uuid4()}"})
    assert {answer.status_code for answer in answers} == {status}
    if status == 401:
        assert {answer.content for answer in answers} == {unknown.content}
        assert await uses(gateway, tenant.client_id) == {}


async def test_a_client_may_be_narrowed_to_an_ipv6_network(gateway: Gateway) -> None:
    tenant = await gateway.tenant()
    async with gateway.auth_engine.begin() as connection:
        key = key_bytes(gateway.settings.secret_hash_key)
        made = await create_client(connection, key, tenant.tenant_id, "v6", ("events:read",))
    await gateway.execute(
        "update oauth_clients set networks = '{2001:db8::/32}' where client_id = :id", id=made.client_id
    )
    form = credentials(CreatedTenant(tenant.tenant_id, made.client_id, made.client_secret))
    settings = gateway.settings.model_validate(gateway.settings.model_dump() | {"trusted_proxies": "127.0.0.1"})
    async with running(settings) as narrow, narrow.client() as client:
        for address, status in (("2001:db8:1::7", 200), ("[2001:db8::7]:4711", 200), ("2001:db9::", 401)):
            answer = await client.post("/oauth/token", data=form, headers={"X-Forwarded-For": address})
            assert answer.status_code == status
