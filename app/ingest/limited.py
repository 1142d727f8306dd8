"""What the ingest routes say about limits: `RateLimit`, `RateLimit-Policy`, and the refusals. Pure: decides nothing.

The fields are those of draft-ietf-httpapi-ratelimit-headers-11, sections 3 and 4; a unit is an event, for which its
registry has no word. A policy's quota is the bucket's size, its window the time in which an empty bucket fills. The
effective window is the time until the bucket is full, but ends with `Retry-After` where there is one (section 6).
"""

from __future__ import annotations

import calendar
import math
from datetime import UTC, datetime
from functools import lru_cache
from typing import TYPE_CHECKING

from app.errors import QuotaExceededError, RateLimitedError, TooLargeError
from app.events.timestamps import format_utc

if TYPE_CHECKING:
    from tenants.directory import TenantRecord
    from tenants.limits.buckets import OwnBucket
    from tenants.plans import ClientLimits, TenantLimits

Headers = list[tuple[bytes, bytes]]

TENANT = b"events"
CLIENT = b"client"
MONTH = b"month"
"""Names of policies: the tenant's bucket, the client's own, the month's quota."""

LARGEST = 999_999_999_999_999
"""The largest integer of a structured field (RFC 9651 section 3.3.1)."""


def limit_fields(
    limits: TenantLimits,
    own: OwnBucket | None,
    remaining: float | None,
    own_remaining: float | None,
    wait: int = LARGEST,
) -> Headers:
    """The fields for the tenant's bucket and, if the client has one, its own; None: what is left is not known.

    `wait`: what `Retry-After` says.
    """
    policies = [_policy(TENANT, limits)]
    states = [] if remaining is None else [_state(TENANT, limits, remaining, wait)]
    if own is not None:
        policies.append(_policy(CLIENT, own.limits))
        if own_remaining is not None:
            states.append(_state(CLIENT, own.limits, own_remaining, wait))
    return [(b"ratelimit-policy", b", ".join(policies)), (b"ratelimit", b", ".join(states))]


def over_the_limit(limits: TenantLimits, own: OwnBucket | None, wait: int) -> RateLimitedError:
    """429 for a request that may fit after `wait` seconds."""
    also = "" if own is None else f", the client's own {_bounds(own.limits)}"
    return RateLimitedError(
        f"The tenant's limit is {_bounds(limits)}{also}; try again in {wait} s.", headers={"Retry-After": str(wait)}
    )


def check_fits(limits: TenantLimits, own: OwnBucket | None, cost: int) -> None:
    """Nothing, if there is room for `cost` in full buckets.

    Raises:
        TooLargeError: no waiting helps; with the size of the smaller bucket.
    """
    size = limits.burst if own is None else min(limits.burst, own.limits.burst)
    if cost > size:
        whose = "tenant" if size == limits.burst else "client"
        raise TooLargeError(
            f"The batch has {cost} valid events, but the {whose}'s bucket holds {size}: send smaller batches.",
            extra={"bucket_size": size},
        )


def over_the_quota(tenant: TenantRecord, now: float) -> tuple[QuotaExceededError, Headers]:
    """429 until the month ends, and its fields. `now` in seconds since 1970."""
    quota = tenant.allowance.monthly_quota or 0
    wait = math.ceil(tenant.refused_until - now)
    today = datetime.fromtimestamp(now, UTC)
    window = calendar.monthrange(today.year, today.month)[1] * 24 * 3600
    resets_at = format_utc(datetime.fromtimestamp(tenant.refused_until, UTC))
    error = QuotaExceededError(
        f"The tenant's plan stores {quota} events a month, and this month's are stored; more from {resets_at} on.",
        headers={"Retry-After": str(wait)},
        extra={"quota": quota, "resets_at": resets_at},
    )
    month = b'"%b";q=%d;w=%d' % (MONTH, min(quota, LARGEST), window)
    return error, [
        (b"ratelimit-policy", b"%b, %b" % (_policy(TENANT, tenant.limits), month)),
        (b"ratelimit", b'"%b";r=0;t=%d' % (MONTH, wait)),
    ]


@lru_cache(maxsize=4096)
def _policy(name: bytes, limits: TenantLimits | ClientLimits) -> bytes:
    return b'"%b";q=%d;w=%d' % (name, limits.burst, max(1, _seconds(limits.burst, limits)))


def _state(name: bytes, limits: TenantLimits | ClientLimits, remaining: float, wait: int) -> bytes:
    left = min(limits.burst, max(0.0, remaining))
    return b'"%b";r=%d;t=%d' % (name, left, min(_seconds(limits.burst - left, limits), wait))


def _seconds(events: float, limits: TenantLimits | ClientLimits) -> int:
    """In which the rate gives so many, rounded up."""
    return math.ceil(min(LARGEST, events / limits.events_per_second))


def _bounds(limits: TenantLimits | ClientLimits) -> str:
    return f"{limits.events_per_second:g} events a second with bursts of {limits.burst}"
