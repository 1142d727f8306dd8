"""Secrets: their size, their hash, what the hash is bound to."""

from __future__ import annotations

import base64
import hmac
import re
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from auth import credentials
from auth.credentials import SECRET_PREFIX, hash_secret, matching_hash, new_client_id, new_secret

KEY = bytes(range(32))
TEXT = st.text(max_size=40)


def test_a_secret_carries_256_random_bits_and_needs_no_escaping() -> None:
    secrets = {new_secret() for _ in range(50)}
    assert len(secrets) == 50
    for secret in secrets:
        assert re.fullmatch(r"[A-Za-z0-9_-]+", secret)
        assert len(base64.urlsafe_b64decode(secret.removeprefix(SECRET_PREFIX) + "=")) == 32


def test_client_ids_are_distinct_and_need_no_escaping() -> None:
    ids = {new_client_id() for _ in range(50)}
    assert len(ids) == 50
    assert all(re.fullmatch(r"[a-z0-9_]+", client_id) for client_id in ids)


@given(client_id=TEXT, secret=TEXT)
def test_a_secret_matches_its_own_hash(client_id: str, secret: str) -> None:
    hashed = hash_secret(KEY, client_id, secret)
    assert len(hashed) == 32
    assert matching_hash(KEY, client_id, secret, [hashed]) == 0


@given(one=st.tuples(TEXT, TEXT), other=st.tuples(TEXT, TEXT))
def test_another_client_or_another_secret_never_matches_even_if_both_together_read_the_same(
    one: tuple[str, str], other: tuple[str, str]
) -> None:
    assert matching_hash(KEY, *other, [hash_secret(KEY, *one)]) == (0 if one == other else None)


def test_moving_a_character_from_the_id_to_the_secret_changes_the_hash() -> None:
    assert hash_secret(KEY, "ab", "c") != hash_secret(KEY, "a", "bc")


def test_under_another_key_nothing_matches() -> None:
    assert matching_hash(bytes(32), "slc_a", "sls_b", [hash_secret(KEY, "slc_a", "sls_b")]) is None


@pytest.mark.parametrize(("secret", "found"), [("new", 0), ("old", 1), ("other", None)])
def test_one_hash_is_computed_and_compared_with_all_whichever_fits(
    secret: str, found: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    stored = [hash_secret(KEY, "slc_a", text) for text in ("new", "old")]
    hashed: list[str] = []
    compared: list[bytes] = []

    def hashing(key: bytes, client_id: str, secret: str) -> bytes:
        hashed.append(secret)
        return hash_secret(key, client_id, secret)

    def comparing(computed: bytes, expected: bytes) -> bool:
        compared.append(expected)
        return hmac.compare_digest(computed, expected)

    monkeypatch.setattr(credentials, "hash_secret", hashing)
    monkeypatch.setattr(credentials, "hmac", SimpleNamespace(new=hmac.new, compare_digest=comparing))
    assert matching_hash(KEY, "slc_a", secret, stored) == found
    assert (hashed, compared) == ([secret], stored)
