"""Signing keys in PostgreSQL: encrypted, bound to their row, picked up by running processes."""

from __future__ import annotations

import asyncio
import json
import time
from typing import TYPE_CHECKING, Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from sqlalchemy import text

from app.database import create_engine
from app.errors import UnauthorizedError
from auth.credentials import key_bytes
from auth.keys import KeyRing, SigningKeyError, _public_jwk, create_key, ensure_signing_key
from tests.integration.auth.conftest import running
from tests.integration.conftest import random_key

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from contextlib import AbstractAsyncContextManager

    from sqlalchemy.ext.asyncio import AsyncEngine

    from app.settings import GatewaySettings
    from tests.integration.conftest import Database


@pytest.fixture
async def empty(new_database: Callable[[], AbstractAsyncContextManager[Database]]) -> AsyncIterator[Database]:
    """A database of the test's own: keys are the whole system's, not a tenant's."""
    async with new_database() as database:
        yield database


@pytest.fixture
async def engine(empty: Database) -> AsyncIterator[AsyncEngine]:
    engine = create_engine(empty.auth_url, pool_size=8)
    yield engine
    await engine.dispose()


async def rows(engine: AsyncEngine) -> list[Any]:
    async with engine.connect() as connection:
        return list((await connection.execute(text("select * from signing_keys order by created_at"))).all())


async def add_key(engine: AsyncEngine, settings: GatewaySettings) -> str:
    async with engine.begin() as connection:
        return await create_key(connection, key_bytes(settings.key_encryption_key), time.time())


async def test_many_at_once_make_one_key(engine: AsyncEngine, empty: Database) -> None:
    settings = empty.settings()
    kids = await asyncio.gather(*(ensure_signing_key(engine, settings) for _ in range(8)))
    assert len(set(kids)) == 1
    assert await ensure_signing_key(engine, settings) == kids[0]
    assert [row.kid for row in await rows(engine)] == [kids[0]]


async def test_the_private_half_is_not_readable_in_the_table(engine: AsyncEngine, empty: Database) -> None:
    settings = empty.settings()
    kid = await ensure_signing_key(engine, settings)
    (row,) = await rows(engine)
    ring = await KeyRing.load(engine, settings)
    secret = ring.signing_key(time.time()).private_key.private_numbers().private_value.to_bytes(32, "big")
    assert secret not in row.private_key
    assert "d" not in row.public_jwk
    assert row.public_jwk["kid"] == kid
    assert row.key_encryption_key_id not in settings.key_encryption_key.get_secret_value()


async def test_a_key_under_another_key_encryption_key_is_neither_signed_with_nor_believed(
    engine: AsyncEngine, empty: Database
) -> None:
    kid = await ensure_signing_key(engine, empty.settings())
    other = empty.settings()
    with pytest.raises(SigningKeyError, match="SLUICE_KEY_ENCRYPTION_KEY"):
        await KeyRing.load(engine, other)
    replacement = await ensure_signing_key(engine, other)
    ring = await KeyRing.load(engine, other)
    assert ring.signing_key(time.time()).kid == replacement != kid
    assert ring.verification_key(kid) is None


FORGED = json.dumps(_public_jwk("key-1", ec.generate_private_key(ec.SECP256R1())))
CHANGES = {
    "moved to another kid": "update signing_keys set kid = 'another'",
    "another nonce": "update signing_keys set nonce = decode(repeat('00', 12), 'hex')",
    "a changed byte": (
        "update signing_keys set private_key = set_byte(private_key, 5, (get_byte(private_key, 5) + 1) % 256)"
    ),
    "someone else's public half": (
        f"update signing_keys set public_jwk = '{FORGED}'::jsonb || jsonb_build_object('kid', kid)"  # noqa: S608
    ),
    "a symmetric key": """update signing_keys set algorithm = 'HS256', public_jwk = '{"kty": "oct", "k": "AAAA"}'""",
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES.keys())
async def test_a_row_that_was_changed_is_neither_signed_with_nor_believed_and_the_others_are(
    engine: AsyncEngine, empty: Database, change: str
) -> None:
    settings = empty.settings()
    changed = await ensure_signing_key(engine, settings)
    async with engine.begin() as connection:
        await connection.exec_driver_sql(change)
    with pytest.raises(SigningKeyError):
        await KeyRing.load(engine, settings)
    sound = await add_key(engine, settings)
    ring = await KeyRing.load(engine, settings)
    assert ring.signing_key(time.time()).kid == sound != changed
    assert [key["kid"] for key in ring.jwks(time.time())["keys"]] == [sound]


async def test_a_running_process_signs_with_a_new_key_and_forgets_a_retired_one_within_a_second(
    engine: AsyncEngine, empty: Database
) -> None:
    settings = empty.settings(key_encryption_key=random_key())
    first = await ensure_signing_key(engine, settings)
    async with running(settings) as gateway:
        tenant = await gateway.tenant()
        old = await gateway.token(tenant)
        await gateway.verifier.authenticate(f"Bearer {old}")
        generation = gateway.keys.generation

        second = await add_key(engine, settings)
        deadline = time.monotonic() + 1
        while gateway.keys.generation == generation:
            assert time.monotonic() < deadline
            await asyncio.sleep(0.01)
        new = await gateway.token(tenant)
        assert [jwt.get_unverified_header(token)["kid"] for token in (old, new)] == [first, second]
        assert gateway.verifier.verify(old).token_id != gateway.verifier.verify(new).token_id

        await gateway.execute("update signing_keys set retired_at = now() where kid = :kid", kid=first)
        while gateway.keys.verification_key(first) is not None:
            assert time.monotonic() < deadline + 1
            await asyncio.sleep(0.01)
        with pytest.raises(UnauthorizedError, match="unknown key"):
            gateway.verifier.verify(old)
        assert gateway.verifier.verify(new)
        async with gateway.client() as client:
            published = (await client.get("/.well-known/jwks.json")).json()["keys"]
        assert [key["kid"] for key in published] == [second]


async def test_a_key_that_is_to_sign_later_is_published_but_does_not_sign(engine: AsyncEngine, empty: Database) -> None:
    settings = empty.settings()
    first = await ensure_signing_key(engine, settings)
    second = await add_key(engine, settings)
    async with engine.begin() as connection:
        await connection.execute(
            text("update signing_keys set signs_from = now() + interval '1 hour' where kid = :kid"), {"kid": second}
        )
    ring = await KeyRing.load(engine, settings)
    now = time.time()
    assert {key["kid"] for key in ring.jwks(now)["keys"]} == {first, second}
    assert ring.signing_key(now).kid == first
    assert ring.signing_key(now + 3700).kid == second


async def test_a_broken_key_keeps_a_running_process_from_nothing(engine: AsyncEngine, empty: Database) -> None:
    settings = empty.settings()
    sound = await ensure_signing_key(engine, settings)
    async with running(settings) as gateway:
        async with engine.begin() as connection:
            broken = await create_key(connection, key_bytes(settings.key_encryption_key), time.time())
            await connection.execute(
                text("update signing_keys set nonce = decode(repeat('00', 12), 'hex') where kid = :kid"),
                {"kid": broken},
            )
        tenant = await gateway.tenant()
        await gateway.directory.refresh()
        token = await gateway.token(tenant)
        assert jwt.get_unverified_header(token)["kid"] == sound
        assert (await gateway.verifier.authenticate(f"Bearer {token}")).client_id == tenant.client_id
