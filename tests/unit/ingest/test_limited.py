"""`RateLimit` and `RateLimit-Policy` are well-formed and true, whatever the limits are."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from uuid import UUID

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from app.errors import TooLargeError
from app.ingest.limited import LARGEST, check_fits, limit_fields, over_the_limit, over_the_quota
from tenants.directory import TenantRecord
from tenants.limits.buckets import OwnBucket
from tenants.plans import Allowance, ClientLimits, TenantLimits

TENANT = TenantLimits(100.0, 1000, 65536, 1)
OWN = OwnBucket("c", ClientLimits(0.5, 10))

# A list of strings with integer parameters (RFC 9651), as the draft's sections 3 and 4 restrict it.
ITEM = r'"[a-z]+"(?:;[a-z]=(?:0|[1-9][0-9]{0,14}))+'
FIELD = re.compile(f"{ITEM}(?:, {ITEM})*")


def test_a_client_without_a_bucket_sees_its_tenant_s() -> None:
    assert limit_fields(TENANT, None, 994.9, None) == [
        (b"ratelimit-policy", b'"events";q=1000;w=10'),
        (b"ratelimit", b'"events";r=994;t=1'),
    ]


def test_a_client_with_a_bucket_of_its_own_sees_both() -> None:
    assert limit_fields(TENANT, OWN, 1000, 4) == [
        (b"ratelimit-policy", b'"events";q=1000;w=10, "client";q=10;w=20'),
        (b"ratelimit", b'"events";r=1000;t=0, "client";r=4;t=12'),
    ]


def test_no_window_ends_after_the_wait_that_a_refusal_names() -> None:
    assert limit_fields(TENANT, OWN, 0.2, 9, 2)[1] == (b"ratelimit", b'"events";r=0;t=2, "client";r=9;t=2')


def test_what_is_not_known_is_left_out() -> None:
    assert limit_fields(TENANT, OWN, None, 0, 3)[1] == (b"ratelimit", b'"client";r=0;t=3')
    assert limit_fields(TENANT, OWN, 0, None, 3)[1] == (b"ratelimit", b'"events";r=0;t=3')


@example(rate=1e-300, burst=2**31 - 1, left=0, wait=LARGEST)
@given(
    rate=st.floats(1e-300, 1e12),
    burst=st.integers(1, 2**31 - 1),
    left=st.floats(-100, 2**31 - 1),
    wait=st.integers(0, LARGEST),
)
def test_the_fields_are_structured_fields_for_any_limits(rate: float, burst: int, left: float, wait: int) -> None:
    own = OwnBucket("c", ClientLimits(rate, burst))
    for _, value in limit_fields(TenantLimits(rate, burst, 65536, 1), own, left, left, wait):
        assert FIELD.fullmatch(value.decode())


def test_a_request_that_can_never_fit_is_told_the_smaller_bucket_s_size() -> None:
    check_fits(TENANT, None, 1000)
    check_fits(TENANT, OWN, 10)
    for own, size, whose in ((None, 1000, "tenant"), (OWN, 10, "client")):
        with pytest.raises(TooLargeError, match=f"the {whose}'s bucket holds {size}") as refused:
            check_fits(TENANT, own, size + 1)
        assert refused.value.extra == {"bucket_size": size}


def test_a_refusal_says_the_limits_and_when_to_come_back() -> None:
    error = over_the_limit(TENANT, OWN, 7)
    assert (error.status, error.headers) == (429, {"Retry-After": "7"})
    assert "100 events a second with bursts of 1000" in error.detail
    assert "the client's own 0.5 events a second with bursts of 10" in error.detail


def test_a_used_up_quota_says_when_the_month_ends() -> None:
    end = datetime(2028, 3, 1, tzinfo=UTC)
    record = TenantRecord(UUID(int=7), "p", TENANT, Allowance(30, 50, "refuse"), end.timestamp())
    error, fields = over_the_quota(record, datetime(2028, 2, 29, 23, 59, 58, 500_000, tzinfo=UTC).timestamp())
    assert error.headers == {"Retry-After": "2"}
    assert error.extra == {"quota": 50, "resets_at": "2028-03-01T00:00:00Z"}
    assert fields == [
        (b"ratelimit-policy", b'"events";q=1000;w=10, "month";q=50;w=2505600'),
        (b"ratelimit", b'"month";r=0;t=2'),
    ]
