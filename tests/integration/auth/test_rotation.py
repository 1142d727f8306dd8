"""One signing key after another, by rotation and by retirement."""

from __future__ import annotations

import asyncio
import math
import time
from dataclasses import replace
from typing import TYPE_CHECKING

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from hypothesis import given
from hypothesis import strategies as st

from app.errors import ConflictError, UnauthorizedError
from app.settings import GatewaySettings
from auth.keys import KeyRing, Keys, SigningKey, ensure_signing_key
from auth.rotation import OVERLAP_SECONDS
from tenants.directory import STALE_SECONDS, Directory
from tests.integration.auth.conftest import running
from tests.integration.conftest import random_key
from tests.system import until

if TYPE_CHECKING:
    from tests.integration.auth.conftest import Gateway, Keyed

PRIVATE_KEY = ec.generate_private_key(ec.SECP256R1())


async def published(gateway: Gateway) -> set[str]:
    async with gateway.client() as client:
        return {key["kid"] for key in (await client.get("/.well-known/jwks.json")).json()["keys"]}


async def test_a_new_key_is_published_before_it_signs_and_the_old_one_believed_until_its_last_token_ended(
    keyed: Keyed,
) -> None:
    second = await keyed.rotate(120)
    ring = await KeyRing.load(keyed.engine, keyed.settings)
    now = time.time()
    assert {key["kid"] for key in ring.jwks(now)["keys"]} == {keyed.first, second}
    assert ring.signing_key(now + 115).kid == keyed.first
    assert ring.signing_key(now + 125).kid == second
    old = ring.verification_key(keyed.first)
    assert old is not None
    assert now + 115 < old.retired_at - OVERLAP_SECONDS < now + 125
    assert OVERLAP_SECONDS == 3605
    assert await keyed.states() == {keyed.first: "signing", second: "published"}


async def test_at_once_the_new_key_signs_and_tokens_of_the_old_one_still_hold(keyed: Keyed) -> None:
    async with running(keyed.settings) as gateway:
        tenant = await gateway.tenant()
        old = await gateway.token(tenant)
        second = await keyed.rotate(0)
        await gateway.directory.refresh()
        new = await gateway.token(tenant)
        assert jwt.get_unverified_header(new)["kid"] == second
        assert {gateway.verifier.verify(token).client_id for token in (old, new)} == {tenant.client_id}
        assert await published(gateway) == {keyed.first, second}
    assert await keyed.states() == {keyed.first: "verifying", second: "signing"}


async def test_a_key_that_was_to_sign_later_never_does_once_another_took_its_place(keyed: Keyed) -> None:
    later = await keyed.rotate(600)
    now_signing = await keyed.rotate(0)
    ring = await KeyRing.load(keyed.engine, keyed.settings)
    for ahead in (1, 599, 601, 7200):
        assert ring.signing_key(time.time() + ahead).kid == now_signing != later


async def test_many_rotations_at_once_leave_one_key_that_is_not_about_to_end(keyed: Keyed) -> None:
    await asyncio.gather(*(keyed.rotate(lead) for lead in (0, 5, 120, 0)))
    ring = await KeyRing.load(keyed.engine, keyed.settings)
    assert len(ring.jwks(time.time())["keys"]) == 5
    assert [key.retired_at for key in ring._keys.signing].count(math.inf) == 1


async def test_a_retired_key_takes_its_tokens_with_it_and_a_new_one_signs_in_its_place(keyed: Keyed) -> None:
    async with running(keyed.settings) as gateway:
        tenant = await gateway.tenant()
        leaked = await gateway.token(tenant)
        await gateway.verifier.authenticate(f"Bearer {leaked}")
        successor = await keyed.retire(keyed.first)
        assert successor is not None

        async def refused() -> bool:
            try:
                gateway.verifier.verify(leaked)
            except UnauthorizedError:
                return True
            return False

        await until(refused, bool, seconds=1)
        assert jwt.get_unverified_header(await gateway.token(tenant))["kid"] == successor
        assert await published(gateway) == {successor}
    assert await keyed.states() == {keyed.first: "retired", successor: "signing"}


async def test_a_token_of_a_key_made_a_moment_ago_is_known_at_once_to_a_process_that_has_not_looked_since(
    keyed: Keyed,
) -> None:
    async with running(keyed.settings) as one, running(keyed.settings) as other:
        tenant = await one.tenant()
        for _ in range(3):
            kid = await keyed.rotate(0)
            await one.directory.refresh()
            token = await one.token(tenant)
            assert jwt.get_unverified_header(token)["kid"] == kid
            assert (await other.verifier.authenticate(f"Bearer {token}")).client_id == tenant.client_id


async def test_names_of_keys_that_nobody_knows_make_a_process_look_only_so_often(keyed: Keyed) -> None:
    async with running(keyed.settings) as gateway:
        headers = {"typ": "at+jwt", "kid": "nobody's"}
        forged = jwt.encode({"sub": "x"}, PRIVATE_KEY, algorithm="ES256", headers=headers)
        looks = {gateway.directory.last_refreshed}
        started = time.monotonic()
        for _ in range(60):
            with pytest.raises(UnauthorizedError, match="unknown key"):
                await gateway.verifier.authenticate(f"Bearer {forged}")
            looks.add(gateway.directory.last_refreshed)
        assert len(looks) <= 2 + (time.monotonic() - started) / 0.05


async def test_retiring_a_key_beside_the_one_that_signs_makes_none_and_retiring_the_signers_only_heir_does(
    keyed: Keyed,
) -> None:
    second = await keyed.rotate(0)
    assert await keyed.retire(keyed.first) is None
    heir = await keyed.rotate(600)
    third = await keyed.retire(heir)
    assert third is not None
    assert await keyed.states() == {
        keyed.first: "retired", second: "verifying", heir: "retired", third: "signing"
    }  # fmt: skip


async def test_a_key_that_retired_a_month_ago_is_removed_at_the_next_rotation(keyed: Keyed) -> None:
    second = await keyed.rotate(0)
    await keyed.execute(
        f"update signing_keys set retired_at = now() - interval '31 days' where kid = '{keyed.first}'"  # noqa: S608
    )
    assert (await keyed.states())[keyed.first] == "retired"
    third = await keyed.rotate(0)
    assert (await keyed.states()).keys() == {second, third}


async def test_a_process_that_was_frozen_while_its_key_was_retired_signs_with_and_publishes_the_successor(
    keyed: Keyed, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Directory, "run", lambda _self: asyncio.sleep(3600))  # as if it had not run
    async with running(keyed.settings) as one, running(keyed.settings) as other:
        tenant = await one.tenant()
        successor = await keyed.retire(keyed.first)

        async def both_stale() -> bool:
            return one.directory.is_stale() and other.directory.is_stale()

        await until(both_stale, bool, seconds=STALE_SECONDS + 1)
        assert jwt.get_unverified_header(await one.token(tenant))["kid"] == successor
        assert await published(other) == {successor}


async def test_a_process_whose_clock_is_behind_postgresqls_signs_with_the_key_whose_time_comes_first(
    keyed: Keyed,
) -> None:
    successor = await keyed.retire(keyed.first)
    await keyed.rotate(600)
    ring = await KeyRing.load(keyed.engine, keyed.settings)
    assert ring.signing_key(time.time() - 30).kid == successor


async def test_under_a_key_encryption_key_that_no_process_uses_nothing_is_rotated_or_retired(keyed: Keyed) -> None:
    changed = GatewaySettings.model_validate(keyed.settings.model_dump() | {"key_encryption_key": random_key()})
    mistaken = replace(keyed, settings=changed)
    with pytest.raises(ConflictError, match="SLUICE_KEY_ENCRYPTION_KEY"):
        await mistaken.rotate(0)
    with pytest.raises(ConflictError, match="SLUICE_KEY_ENCRYPTION_KEY"):
        await mistaken.retire(keyed.first)
    assert await keyed.states() == {keyed.first: "signing"}

    # Once a gateway was started with it, it is one that is used.
    new = await ensure_signing_key(keyed.engine, changed)
    assert await mistaken.retire(keyed.first) is None
    assert await mistaken.states() == {keyed.first: "retired", new: "signing"}


@given(
    keys=st.lists(
        st.tuples(st.integers(0, 50), st.one_of(st.integers(0, 100), st.just(math.inf))), min_size=1, max_size=6
    ),
    now=st.integers(0, 100),
)
def test_a_token_is_signed_with_the_key_that_is_believed_longest(keys: list[tuple[float, float]], now: float) -> None:
    ring = Keys({}, tuple(SigningKey(str(n), PRIVATE_KEY, start, end) for n, (start, end) in enumerate(sorted(keys))))
    signer = ring.signer(now)
    ready = [end for start, end in keys if start <= now < end]
    assert (signer.retired_at if signer else None) == max(ready, default=None)
    assert signer is None or signer.signs_from <= now
