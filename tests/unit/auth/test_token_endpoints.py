"""Revocation and introspection, without a database: what the token is worth is an argument."""

from __future__ import annotations

import time
import uuid
from dataclasses import replace

import pytest

from auth.metadata import Endpoint
from auth.principal import Principal
from auth.server import Decision
from tenants.platform import PLATFORM_TENANT_ID
from tests.unit.auth.asking import CLIENT, POST, SETTINGS, SUSPENDED, decided, principal


def test_what_was_not_authenticated_or_is_not_active_leaves_nothing_to_write() -> None:
    token = principal()
    for form, client in ((POST | {"client_secret": "x"}, CLIENT), (POST, None), (POST, SUSPENDED)):
        decision = decided(form | {"token": "x"}, client=client, endpoint="revocation", token=token)
        assert decision.answer.status in (400, 401)
        assert (decision.proof, decision.revoked) == (None, None)


def test_revoking_answers_the_same_whatever_the_token_is_and_only_the_clients_own_is_revoked() -> None:
    def revoking(token: Principal | None, **more: str) -> Decision:
        return decided(POST | {"token": "x"} | more, endpoint="revocation", token=token)

    own = principal()
    done = revoking(own)
    assert done.revoked == own
    assert (done.answer.status, done.answer.body) == (200, {})
    assert done.answer.headers["Cache-Control"] == "no-store"
    for hint in ("access_token", "refresh_token", "anything"):
        assert revoking(own, token_type_hint=hint) == done
    for other in (None, principal(client_id="slc_b"), principal(tenant_id=uuid.uuid4(), client_id="slc_b")):
        assert revoking(other) == replace(done, revoked=None)


def test_introspection_tells_what_a_token_of_the_same_tenant_is_worth() -> None:
    token = principal(client_id="slc_b", scopes=frozenset({"events:read", "events:write"}))
    answer = decided(POST | {"token": "x"}, endpoint="introspection", token=token).answer
    assert answer.headers["Cache-Control"] == "no-store"
    assert answer.body == {
        "active": True,
        "scope": "events:write events:read",
        "client_id": "slc_b",
        "tenant_id": str(CLIENT.tenant_id),
        "token_type": "Bearer",
        "sub": "slc_b",
        "aud": SETTINGS.issuer,
        "iss": SETTINGS.issuer,
        "exp": token.expires_at,
        "iat": token.issued_at,
        "jti": "token-1",
    }


def test_introspection_tells_nothing_of_a_token_that_does_not_hold_or_is_another_tenants() -> None:
    others = (None, principal(tenant_id=uuid.uuid4()), principal(expires_at=int(time.time()) - 1))
    for token in others:
        answer = decided(POST | {"token": "x"}, endpoint="introspection", token=token).answer
        assert (answer.status, answer.body) == (200, {"active": False})


def test_a_client_of_the_platform_may_ask_about_any_token() -> None:
    platform = replace(CLIENT, tenant_id=PLATFORM_TENANT_ID)
    token = principal(tenant_id=uuid.uuid4())
    answer = decided(POST | {"token": "x"}, client=platform, endpoint="introspection", token=token).answer
    assert answer.body["active"] is True


@pytest.mark.parametrize("endpoint", ["revocation", "introspection"])
def test_without_a_token_to_speak_of_the_request_is_invalid(endpoint: Endpoint) -> None:
    answer = decided(POST, endpoint=endpoint).answer
    assert (answer.status, answer.body["error"]) == (400, "invalid_request")
    # Whoever is not authenticated doesn't even learn that.
    assert decided(POST, client=None, endpoint=endpoint).answer.status == 401
