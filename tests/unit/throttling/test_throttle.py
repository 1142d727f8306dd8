"""Who shares a limit with whom, and what an answer says of it."""

from __future__ import annotations

import base64
from typing import Any

import pytest
from prometheus_client import REGISTRY

from app.errors import RateLimitedError, UnauthorizedError
from app.observe import EXTRA_HEADERS
from app.settings import GatewaySettings
from app.throttling.throttle import Limit, Throttle
from app.throttling.windows import Windows

KEY = base64.b64encode(bytes(32)).decode()
NEEDED = {
    "postgres_app_url": "postgresql://h/d",
    "postgres_auth_url": "postgresql://h/d",
    "redis_url": "redis://h/0",
    "kafka_bootstrap": "h:1",
    "elasticsearch_url": "http://h:1",
    "issuer": "http://localhost",
    "key_encryption_key": KEY,
    "secret_hash_key": KEY,
}


def throttle(**settings: Any) -> Throttle:
    limits = {f"{limit}_limit": "2/minute" for limit in Limit}
    return Throttle(GatewaySettings.model_validate(NEEDED | limits | settings))


def request(address: str = "192.0.2.1", forwarded: str | None = None) -> dict[str, Any]:
    headers = [] if forwarded is None else [(b"x-forwarded-for", forwarded.encode())]
    return {"type": "http", "client": (address, 4711), "headers": headers}


def admitted(limited: Throttle, scope: dict[str, Any], client_id: str = "c", limit: Limit = Limit.QUERY) -> bool:
    try:
        limited.admit(scope, limit, client_id)
    except RateLimitedError:
        return False
    return True


@pytest.mark.parametrize("limit", [Limit.TOKEN, Limit.ADMIN, Limit.QUERY])
def test_a_client_is_admitted_as_often_as_the_limit_says_and_then_refused(limit: Limit) -> None:
    limited = throttle()
    assert [admitted(limited, request(), limit=limit) for _ in range(4)] == [True, True, False, False]


def test_another_client_another_address_and_another_kind_of_route_are_limited_apart() -> None:
    limited = throttle()
    assert [admitted(limited, request()) for _ in range(3)][-1] is False
    assert admitted(limited, request(), client_id="d")
    assert admitted(limited, request("192.0.2.2"))
    assert admitted(limited, request(), limit=Limit.ADMIN)


def test_a_header_that_no_trusted_proxy_wrote_makes_no_new_address() -> None:
    limited = throttle()
    sent = [admitted(limited, request(forwarded=f"198.51.100.{number}")) for number in range(4)]
    assert sent == [True, True, False, False]


def test_addresses_that_a_trusted_proxy_tells_are_limited_apart() -> None:
    limited = throttle(trusted_proxies="192.0.2.0/24")
    assert all(admitted(limited, request(forwarded=f"198.51.100.{number}")) for number in range(9))
    # The client's own part of the header stands before what the proxy added.
    forged = [admitted(limited, request(forwarded=f"203.0.113.{number}, 198.51.100.77")) for number in range(4)]
    assert forged == [True, True, False, False]


def test_addresses_of_one_ipv6_network_of_64_bits_are_one() -> None:
    limited = throttle()
    assert [admitted(limited, request(f"2001:db8:0:1::{number:x}")) for number in range(3)][-1] is False
    assert admitted(limited, request("2001:db8:0:2::1"))


def test_an_ipv4_address_is_the_same_within_ipv6() -> None:
    limited = throttle()
    assert [admitted(limited, request(address)) for address in ("192.0.2.1", "::ffff:192.0.2.1", "192.0.2.1")][-1] is (
        False
    )


def test_each_process_has_its_share_of_a_limit_and_at_least_one_request() -> None:
    shared = throttle(query_limit="100/minute", gateway_processes=8)
    assert [admitted(shared, request()) for _ in range(13)] == [True] * 12 + [False]
    assert admitted(throttle(gateway_processes=1000), request())


def test_an_answer_tells_the_policy_and_what_is_left_of_it() -> None:
    limited = throttle(query_limit="5/minute")
    scope = request()
    limited.admit(scope, Limit.QUERY, "c")
    assert scope[EXTRA_HEADERS] == [(b"ratelimit-policy", b'"query";q=5;w=60'), (b"ratelimit", b'"query";r=4;t=60')]


def test_a_refusal_says_when_to_come_back_and_is_counted() -> None:
    def counted() -> float:
        return REGISTRY.get_sample_value("sluice_throttled_requests_total", {"limit": "query"}) or 0.0

    limited = throttle(query_limit="1/hour")
    limited.admit(request(), Limit.QUERY, "c")
    before = counted()
    scope = request()
    with pytest.raises(
        RateLimitedError, match=r"The limit is 1 requests to query routes in 3600 s; try again in 3\d{3}"
    ):
        limited.admit(scope, Limit.QUERY, "c")
    assert counted() == before + 1
    assert scope[EXTRA_HEADERS][0] == (b"ratelimit-policy", b'"query";q=1;w=3600')


def test_an_address_from_which_clients_failed_to_authenticate_is_refused_and_others_are_not() -> None:
    limited = throttle()
    for _ in range(2):
        limited.admit_presented(request(), "guessed")
        limited.authentication_failed(request())
    with pytest.raises(RateLimitedError) as refused:
        limited.admit_presented(request(), "next guess")
    assert refused.value.extra == {"error": "temporarily_unavailable", "error_description": refused.value.detail}
    assert refused.value.headers["Cache-Control"] == "no-store"
    assert int(refused.value.headers["Retry-After"]) in range(1, 61)
    limited.admit_presented(request("192.0.2.2"), "next guess")


def test_a_client_that_was_let_in_goes_on_where_others_fail_from_its_address() -> None:
    limited = throttle(token_limit="100/minute")
    limited.authenticated(request(), "ours")
    for _ in range(9):
        limited.authentication_failed(request())
    limited.admit_presented(request(), "ours")
    with pytest.raises(RateLimitedError):
        limited.admit_presented(request(), "theirs")


def test_names_that_no_client_can_have_are_one_so_that_keys_have_a_bound() -> None:
    limited = throttle()
    limited.admit_presented(request(), "x" * 201)
    limited.admit_presented(request(), None)
    with pytest.raises(RateLimitedError):
        limited.admit_presented(request(), "y" * 9_000)


def test_tokens_that_do_not_hold_are_answered_429_in_the_end_with_their_challenge() -> None:
    limited = throttle()
    error = UnauthorizedError("No.", headers={"WWW-Authenticate": "Bearer"})
    for _ in range(2):
        limited.token_refused(request(), error)
    with pytest.raises(RateLimitedError) as refused:
        limited.token_refused(request(), error)
    assert refused.value.headers["WWW-Authenticate"] == "Bearer"
    # Who has a good token is not behind it, nor is the way to a new one.
    assert admitted(limited, request())
    limited.admit_presented(request(), "c")


def test_counting_asks_no_server(monkeypatch: pytest.MonkeyPatch) -> None:
    # slowapi would read these; what is given by name has to win.
    monkeypatch.setenv("RATELIMIT_STORAGE_URL", "redis://127.0.0.1:9/0")
    monkeypatch.setenv("RATELIMIT_ENABLED", "false")
    limited = throttle()
    assert type(limited.limiter.storage) is Windows
    assert [admitted(limited, request()) for _ in range(3)][-1] is False
