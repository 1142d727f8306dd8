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
    UnavailableError,
    render,
)
from app.events.model import Receipt
from app.events.record import AcceptedEvent
from app.ingest.content import (
    MAX_BATCH_BYTES,
    OFF_LOOP_BYTES,
    Batch,
    Rejected,
    decode_batch,
    decode_single,
    media_type,
    read_body,
)
from app.ingest.drain import shards_in_force
from app.ingest.limited import Headers, check_fits, limit_fields, over_the_limit, over_the_quota
from app.ingest.publish import Outcome
from app.metrics import ACCEPTED, INGEST_SECONDS, REJECTED, THROTTLED, UNKNOWN
from app.request_id import request_id_of
from app.state import State
from auth.dependencies import authenticated, check_scope
from auth.principal import Principal
from auth.scopes import EVENTS_WRITE
from tenants.limits.buckets import OwnBucket, retry_after
from tenants.plans import TenantLimits

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
        limit_headers: Headers = []
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


async def _ingest(state: State, scope: Any, receive: Any, limit_headers: Headers) -> tuple[int, bytes]:
    started = time.perf_counter()
    headers = dict(scope["headers"])
    writer = await authenticated(state, scope)
    check_scope(writer, EVENTS_WRITE)
    tenant = writer.access.tenant
    limits = tenant.limits
    own = None if writer.access.limits is None else OwnBucket(writer.client_id, writer.access.limits)
    is_batch = scope["path"] == BATCH
    _refuse_unread(state, writer, own, limit_headers, cost=None if is_batch else 1)
    receipt = Receipt.now()
    try:
        if is_batch:
            batch = await _read_batch(receive, headers, receipt, limits)
            accepted, rejected = batch.accepted, batch.rejected
        else:
            body = await read_body(receive, headers, limits.max_event_bytes)
            accepted, rejected = [decode_single(body, media_type(headers), receipt)], []
        cost = len(accepted)
        check_fits(limits, own, cost)
    except AppError as error:
        _count_rejected(state, writer, len(error.extra.get("rejected", ())) or 1)
        grant = await state.buckets.take(tenant.tenant_id, limits, 0, own)
        limit_headers += limit_fields(limits, own, grant.remaining, grant.own_remaining)
        raise
    grant = await state.buckets.take(tenant.tenant_id, limits, cost, own)
    if not grant.granted:
        wait = retry_after(grant.retry_after)
        limit_headers += limit_fields(limits, own, grant.remaining, grant.own_remaining, wait)
        _count_throttled(state, writer, cost)
        raise over_the_limit(limits, own, wait)
    limit_headers += limit_fields(limits, own, grant.remaining, grant.own_remaining)
    await _publish(state, writer, accepted)
    ACCEPTED.inc(cost)
    INGEST_SECONDS.observe(time.perf_counter() - started)
    if is_batch:
        if rejected:
            _count_rejected(state, writer, len(rejected))
        return 202, _encode({"accepted": cost, "rejected": _rejections(rejected)})
    event_id = _encode(accepted[0].event_id)
    return 202, b'{"message":"Event received successfully","event_id":%b}' % event_id


def _refuse_unread(
    state: State, writer: Principal, own: OwnBucket | None, limit_headers: Headers, *, cost: int | None
) -> None:
    """Nothing, unless it is known before the body is read that the request is over the month's quota or a bucket."""
    tenant = writer.access.tenant
    if tenant.refused_until and (now := time.time()) < tenant.refused_until:
        _count_throttled(state, writer, 1)
        refusal, fields = over_the_quota(tenant, now)
        limit_headers += fields
        raise refusal
    wait = state.buckets.known_empty(tenant.tenant_id, tenant.limits, cost=cost)
    own_wait = 0.0 if own is None else state.buckets.known_empty(own.client_id, own.limits, cost=cost)
    if wait or own_wait:
        _count_throttled(state, writer, 1)
        seconds = retry_after(max(wait, own_wait))
        limit_headers += limit_fields(tenant.limits, own, 0 if wait else None, 0 if own_wait else None, seconds)
        raise over_the_limit(tenant.limits, own, seconds)


def _count_rejected(state: State, writer: Principal, events: int) -> None:
    REJECTED.inc(events)
    state.refusals.rejected(writer.tenant_id, writer.client_id, events)


def _count_throttled(state: State, writer: Principal, events: int) -> None:
    THROTTLED.inc(events)
    state.refusals.throttled(writer.tenant_id, writer.client_id, events)


async def _read_batch(receive: Any, headers: dict[bytes, bytes], receipt: Receipt, limits: TenantLimits) -> Batch:
    kind = media_type(headers)
    body = await read_body(receive, headers, MAX_BATCH_BYTES)
    if len(body) > OFF_LOOP_BYTES:
        batch = await asyncio.to_thread(decode_batch, body, kind, receipt, limits.max_event_bytes)
    else:
        batch = decode_batch(body, kind, receipt, limits.max_event_bytes)
    if not batch.accepted:
        faults = tuple(
            Fault(f"/{rejected.index}{fault.pointer}", fault.detail)
            for rejected in batch.rejected
            for fault in rejected.faults
        )
        raise InvalidError("No event of the batch is valid.", faults, extra={"rejected": _rejections(batch.rejected)})
    return batch


def _rejections(rejected: list[Rejected]) -> list[dict[str, Any]]:
    return [
        {
            "index": each.index,
            "event_id": each.event_id,
            "errors": [{"pointer": fault.pointer, "detail": fault.detail} for fault in each.faults],
        }
        for each in rejected
    ]


async def _publish(state: State, writer: Principal, events: list[AcceptedEvent]) -> None:
    try:
        shards = await shards_in_force(state, writer.access.tenant, events)
    except UnavailableError:
        UNKNOWN.inc(len(events))
        raise
    futures = state.publisher.publish(writer.tenant_id, writer.client_id, shards, events)
    outcomes = [await futures[0]] if len(futures) == 1 else await asyncio.gather(*futures)
    if all(outcome is Outcome.ACKNOWLEDGED for outcome in outcomes):
        return
    UNKNOWN.inc(len(events))
    if all(outcome is Outcome.NOT_TAKEN for outcome in outcomes):
        detail = "Too much waits to be written; none of these events was taken. Send them again."
    else:
        detail = "It is not known whether these events were stored. Send them again with the same ids: they count once."
    raise UnavailableError(
        detail,
        headers={"Retry-After": str(retry_after(1.0))},
        extra={"event_ids": [event.event_id for event in events]},
    )
