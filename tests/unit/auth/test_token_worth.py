"""What a genuine token is worth now: less than it claims if its client was narrowed, nothing if it was revoked."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest

from app.errors import UnauthorizedError, UnavailableError
from auth.keys import Keys
from auth.tokens import UnknownClientError, UnknownKeyError
from tests.unit.auth.conftest import Issuer, verification_key

if TYPE_CHECKING:
    from collections.abc import Callable

BOTH = {"events:write", "events:read"}


def old(issuer: Issuer) -> None:
    """Let the directory have been read since any token was issued, so that nothing makes it look again."""
    issuer.directory.last_refreshed_at = time.time() + 60


async def test_a_token_is_worth_the_scopes_that_its_client_still_has(issuer: Issuer) -> None:
    token = issuer.sign()
    old(issuer)
    for scopes, worth in (
        (BOTH, BOTH),
        ({"events:read"}, {"events:read"}),
        ({"tenant:admin"}, set()),
        (BOTH | {"tenant:admin"}, BOTH),
    ):
        issuer.know(issuer.client_id, scopes=scopes)
        assert issuer.verifier.verify(token).scopes == worth
        assert (await issuer.verifier.authenticate(f"Bearer {token}")).scopes == worth


@pytest.mark.parametrize("claimed", ["", "events:read", "events:read events:read", "platform:admin"])
def test_a_client_that_was_widened_does_not_widen_its_token(issuer: Issuer, claimed: str) -> None:
    issuer.know(issuer.client_id, scopes=BOTH)
    assert issuer.verifier.verify(issuer.sign(scope=claimed)).scopes == set(claimed.split()) & BOTH


async def test_a_token_that_claims_more_than_is_known_of_its_new_scopes_makes_the_process_look_first(
    issuer: Issuer,
) -> None:
    issuer.know(issuer.client_id, scopes={"events:read"})
    with pytest.raises(UnavailableError):
        await issuer.verifier.authenticate(f"Bearer {issuer.sign()}")


def test_a_revoked_token_is_refused_whether_or_not_it_was_seen_before(issuer: Issuer) -> None:
    seen, unseen, other = (issuer.sign(jti=name) for name in ("seen", "unseen", "other"))
    issuer.verifier.verify(seen)
    issuer.directory._revoked = {"seen": time.time() + 60, "unseen": time.time() + 60}
    for token in (seen, unseen, seen):
        with pytest.raises(UnauthorizedError, match="revoked"):
            issuer.verifier.verify(token)
    assert issuer.verifier.verify(other).token_id == "other"


def retired(issuer: Issuer) -> Keys:
    return Keys({issuer.kid: verification_key(issuer.kid, issuer.private_key, time.time() - 1)}, ())


@pytest.mark.parametrize("keys", [retired, lambda _: Keys({}, ())], ids=["retired", "unknown"])
async def test_a_token_of_a_retired_or_unknown_key_is_refused_also_while_postgresql_is_away(
    issuer: Issuer, keys: Callable[[Issuer], Keys]
) -> None:
    token = issuer.sign()
    issuer.keys._keys = keys(issuer)
    issuer.keys.generation += 1
    with pytest.raises(UnknownKeyError, match="unknown key"):
        await issuer.verifier.authenticate(f"Bearer {token}")


def test_a_refusal_names_neither_the_token_nor_the_client(issuer: Issuer) -> None:
    token = issuer.sign()
    issuer.know("slc_other")
    with pytest.raises(UnknownClientError) as refusal:
        issuer.verifier.verify(token)
    said = f"{refusal.value} {refusal.value.detail} {refusal.value.headers}"
    assert issuer.client_id not in said
    assert token.split(".")[1] not in said
