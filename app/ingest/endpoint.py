"""`POST /api/v1/events` and `/batch` as one ASGI function: verify, decode, admit, publish, answer.

The application hands these paths over before its router: no framework object is made on the way. Owns the
order of the steps and the answers; each step lives in a module of its own. Their OpenAPI text is in `openapi`.
"""

from __future__ import annotations

import asyncio
import time
from typing import Any

import msgspec

from app.errors import (
    PROBLEM_JSON,
    AppError,
    Fault,
    InvalidError,
    MalformedError,
    RateLimitedError,
    TooLargeError,
    UnavailableError,
    render,
)
from app.events.model import Receipt
from app.events.record import AcceptedEvent
from app.ingest.content import MAX_BATCH_BYTES, Batch, decode_batch, decode_single, media_type, read_body
from app.ingest.publish import Outcome
from app.metrics import ACCEPTED, INGEST_SECONDS, REJECTED, THROTTLED, UNKNOWN
from app.request_id import request_id_of
from app.state import State
from auth.dependencies import check_scope
from auth.principal import Principal
from auth.scopes import EVENTS_WRITE
from auth.tokens import refused
from tenants.directory import TenantLimits
from tenants.limits import Grant, retry_after

SINGLE = "/api/v1/events"
BATCH = "/api/v1/events/batch"

_encode = msgspec.json.encode
_JSON_TYPE = (b"content-type", b"application/json")
_PROBLEM_TYPE = (b"content-type", PROBLEM_JSON.encode())


class IngestEndpoint:
    """The ASGI function for both paths. `app.state.sluice` holds what it uses."""

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        state: State = scope["app"].state.sluice
        request_id = request_id_of(scope)
        limit_headers: list[tuple[bytes, bytes]] = []
        try:
            status, body = await _ingest(state, scope, receive, limit_headers)
            headers = [_JSON_TYPE]
        except AppError as error:
            status = error.status
            body = render(error, instance=scope["path"], request_id=request_id)
            headers = [_PROBLEM_TYPE, *((k.lower().encode(), v.encode()) for k, v in error.headers.items())]
        headers += ((b"content-length", b"%d" % len(body)), (b"x-request-id", request_id.encode()))
        await send({"type": "http.response.start", "status": status, "headers": headers + limit_headers})
        await send({"type": "http.response.body", "body": body})


async def _ingest(
    state: State, scope: Any, receive: Any, limit_headers: list[tuple[bytes, bytes]]
) -> tuple[int, bytes]:
    started = time.perf_counter()
    headers = dict(scope["headers"])
    writer = await state.verifier.authenticate(_authorization(scope["headers"]))
    check_scope(writer, EVENTS_WRITE)
    limits = state.directory.limits(writer.tenant_id)
    if limits is None:  # suspended between the two looks
        raise refused("The tenant is not active")
    wait = state.buckets.known_empty(writer.tenant_id, limits)
    if wait > 0:
        THROTTLED.inc()
        limit_headers += _limit_headers(limits, 0)
        raise _over_the_limit(limits, wait)
    receipt = Receipt.now()
    try:
        if scope["path"].endswith("/batch"):
            batch = await _read_batch(receive, headers, receipt, limits)
        else:
            body = await read_body(receive, headers, limits.max_event_bytes)
            batch = Batch([decode_single(body, media_type(headers), receipt)], [])
    except AppError:
        grant = await state.buckets.take(writer.tenant_id, limits, 0)
        limit_headers += _limit_headers(limits, grant.remaining)
        raise
    grant = await _admit(state, writer, limits, len(batch.accepted), limit_headers)
    limit_headers += _limit_headers(limits, grant.remaining)
    if not grant.granted:
        THROTTLED.inc(len(batch.accepted))
        raise _over_the_limit(limits, grant.retry_after)
    await _publish(state, writer, limits, batch.accepted)
    ACCEPTED.inc(len(batch.accepted))
    INGEST_SECONDS.observe(time.perf_counter() - started)
    if scope["path"].endswith("/batch"):
        return 202, _encode({"accepted": len(batch.accepted), "rejected": _rejections(batch)})
    event_id = _encode(batch.accepted[0].event_id)
    return 202, b'{"message":"Event received successfully","event_id":%b}' % event_id


def _authorization(headers: Any) -> bytes | None:
    sent = [value for name, value in headers if name == b"authorization"]
    if len(sent) > 1:
        raise MalformedError("More than one Authorization header.")
    return sent[0] if sent else None


async def _read_batch(receive: Any, headers: dict[bytes, bytes], receipt: Receipt, limits: TenantLimits) -> Batch:
    kind = media_type(headers)
    body = await read_body(receive, headers, MAX_BATCH_BYTES)
    batch = decode_batch(body, kind, receipt, limits.max_event_bytes)
    REJECTED.inc(len(batch.rejected))
    if not batch.accepted:
        faults = tuple(
            Fault(f"/{rejected.index}{fault.pointer}", fault.detail)
            for rejected in batch.rejected
            for fault in rejected.faults
        )
        raise InvalidError("No event of the batch is valid.", faults, extra={"rejected": _rejections(batch)})
    return batch


def _rejections(batch: Batch) -> list[dict[str, Any]]:
    return [
        {
            "index": rejected.index,
            "event_id": rejected.event_id,
            "errors": [{"pointer": fault.pointer, "detail": fault.detail} for fault in rejected.faults],
        }
        for rejected in batch.rejected
    ]


async def _admit(
    state: State, writer: Principal, limits: TenantLimits, cost: int, limit_headers: list[tuple[bytes, bytes]]
) -> Grant:
    if cost > limits.burst:
        grant = await state.buckets.take(writer.tenant_id, limits, 0)
        limit_headers += _limit_headers(limits, grant.remaining)
        raise TooLargeError(
            f"The batch has {cost} valid events, but the tenant's bucket holds {limits.burst}: send smaller batches.",
            extra={"bucket_size": limits.burst},
        )
    return await state.buckets.take(writer.tenant_id, limits, cost)


def _limit_headers(limits: TenantLimits, remaining: float) -> list[tuple[bytes, bytes]]:
    """`RateLimit` and `RateLimit-Policy` (draft-ietf-httpapi-ratelimit-headers-10, section 3 and 4).

    The quota is the bucket's size, its window the time in which an empty bucket fills.
    """
    rate, burst = limits.events_per_second, limits.burst
    left = max(0.0, remaining)
    return [
        (b"ratelimit-policy", b'"events";q=%d;w=%d' % (burst, max(1, -int(-burst // rate)))),
        (b"ratelimit", b'"events";r=%d;t=%d' % (left, -int(-(burst - left) // rate))),
    ]


def _over_the_limit(limits: TenantLimits, wait: float) -> RateLimitedError:
    seconds = retry_after(wait)
    return RateLimitedError(
        f"The tenant's limit is {limits.events_per_second:g} events a second with bursts of {limits.burst}; "
        f"try again in {seconds} s.",
        headers={"Retry-After": str(seconds)},
    )


async def _publish(state: State, writer: Principal, limits: TenantLimits, events: list[AcceptedEvent]) -> None:
    futures = state.publisher.publish(writer.tenant_id, writer.client_id, limits.shards, events)
    outcomes = [await futures[0]] if len(futures) == 1 else await asyncio.gather(*futures)
    if all(outcome is Outcome.ACKNOWLEDGED for outcome in outcomes):
        return
    UNKNOWN.inc(len(events))
    if all(outcome is Outcome.FULL for outcome in outcomes):
        detail = "Too much waits to be written; none of these events was taken. Send them again."
    else:
        detail = "It is not known whether these events were stored. Send them again with the same ids: they count once."
    raise UnavailableError(
        detail,
        headers={"Retry-After": str(retry_after(1.0))},
        extra={"event_ids": [event.event_id for event in events]},
    )
