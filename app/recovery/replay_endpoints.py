"""`/api/v1/replays`: a tenant sends its stored events again. HTTP only: `app.recovery.replays` keeps the jobs, the
worker `replay` does them, and those to ndjson are read here.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any
from uuid import UUID

import structlog
from fastapi import APIRouter, Depends, Request, Response
from fastapi.responses import StreamingResponse
from sqlalchemy.exc import SQLAlchemyError

from app.errors import AppError, ConflictError, Fault, InvalidError, NotFoundError
from app.parameters import Parameter, Reading, openapi_parameters, pairs_of_query
from app.recovery import replays
from app.recovery.replay_answers import (
    REPLAY_ID,
    NewReplayBody,
    ReplayAnswer,
    ReplayEstimateAnswer,
    ReplayMadeAnswer,
    ReplaysAnswer,
)
from app.recovery.replay_orders import order_of
from app.recovery.replay_stream import check_readable, lines, place_after
from app.recovery.selection import estimate, page
from app.settings import parsed_networks
from app.state import Database, SettingsOf
from auth.credentials import key_bytes
from auth.dependencies import TenantAdmin
from auth.scopes import TENANT_ADMIN
from tenants.actors import actor_of
from tenants.answers import BODY_ERRORS, QUERY_ERRORS, json_response, problems
from tenants.audit import Actor
from tenants.bodies import body_of, documented
from tenants.pages import PAGE_PARAMETERS, UUIDS, PageAsked, read_page
from tenants.session import tenant_session

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from sqlalchemy.ext.asyncio import AsyncEngine

router = APIRouter(prefix="/api/v1/replays", tags=["Manage"])
log = structlog.get_logger()

NDJSON = "application/x-ndjson"
AFTER = Parameter(
    "after",
    "Only what comes behind this event: the event_id of the last line that was read.",
    {"type": "string", "minLength": 1, "maxLength": 200},
)
_REPLAY = f"/api/v1/replays/{REPLAY_ID}"
_UNKNOWN = NotFoundError("There is no such replay.")
_FULL = ConflictError(
    f"The tenant has {replays.MOST_UNFINISHED} unfinished replays, which is the most: cancel one first."
)
_FINISHED = ConflictError("The replay is done.")
_BAD_AFTER = InvalidError("The parameters are not valid.", (Fault("/query/after", "is no stored event's id"),))
_LINE = (
    '{"event_id":"e1","event_type":"click","user_id":"u1","client_id":"slc_9f86d081884c7d659a2feaa0c55ad015",'
    '"timestamp":"2026-01-02T03:04:05Z","received_at":"2026-01-02T03:04:05.678900Z","metadata":{"page":"/"},'
    f'"replay_id":"{REPLAY_ID}","replayed":true}}\n'
)


@dataclass(frozen=True)
class Changer:
    """Who changes a replay of which tenant."""

    engine: AsyncEngine
    tenant_id: UUID
    actor: Actor

    async def change(self, replay_id: UUID, how: Callable[..., Awaitable[replays.Replay]]) -> Response:
        async with tenant_session(self.engine, self.tenant_id) as connection:
            return json_response(ReplayAnswer.of(await how(connection, self.tenant_id, replay_id, self.actor)))


async def _changer(request: Request, admin: TenantAdmin, database: Database) -> Changer:
    return Changer(database, admin.tenant_id, actor_of(request, admin))


async def _page(request: Request, admin: TenantAdmin) -> PageAsked:
    reading = Reading(pairs_of_query(request.scope["query_string"]), PAGE_PARAMETERS)
    asked = read_page(reading, UUIDS, "replays", str(admin.tenant_id))
    reading.finish()
    return asked


async def _after(request: Request, _admin: TenantAdmin) -> str | None:
    reading = Reading(pairs_of_query(request.scope["query_string"]), (AFTER,))
    after = reading.text(AFTER.name, most=200)
    reading.finish()
    return after


Change = Annotated[Changer, Depends(_changer)]


@router.get(
    "",
    summary="The tenant's replays",
    response_model=ReplaysAnswer,
    responses=problems("/api/v1/replays", TENANT_ADMIN, *QUERY_ERRORS),
    openapi_extra=openapi_parameters(PAGE_PARAMETERS),
)
async def list_replays(admin: TenantAdmin, asked: Annotated[PageAsked, Depends(_page)], database: Database) -> Response:
    """The newest first. Those that ended a month ago are no longer kept."""
    async with tenant_session(database, admin.tenant_id, snapshot=True) as connection:
        found, last = await replays.page_of_replays(connection, admin.tenant_id, asked)
    answered = [ReplayAnswer.of(replay) for replay in found]
    return json_response(ReplaysAnswer(replays=answered, next_cursor=asked.next_cursor(last)))


@router.post(
    "",
    status_code=201,
    summary="Send events again",
    response_model=ReplayMadeAnswer,
    responses={
        200: {"model": ReplayEstimateAnswer, "description": "With `dry_run`: how much it would be"},
        **problems("/api/v1/replays", TENANT_ADMIN, *BODY_ERRORS, _FULL),
    },
    openapi_extra=documented(
        NewReplayBody,
        webhook={
            "target": "webhook",
            "started_at": "2026-01-01",
            "ended_at": "2026-02-01",
            "event_type": "click",
            "events_per_second": 100.0,
            "webhook_url": "https://example.com/hook",
        },
        estimate={"target": "ndjson", "user_id": "u1", "dry_run": True},
    ),
)
async def start_replay(
    changer: Change, body: Annotated[NewReplayBody, body_of(NewReplayBody)], settings: SettingsOf
) -> Response:
    """To the search index, the Kafka topic `events.replay`, a webhook, or as NDJSON that is read from `…/events`.

    Events are sent in the order of their timestamps and marked as replayed; nothing is counted again, and what is
    received after the request is not part of it. After a fault some may be sent twice. A tenant has at most four
    unfinished replays.
    """
    async with tenant_session(changer.engine, changer.tenant_id) as connection:
        requested_at = await replays.moment(connection)
        order = order_of(body, changer.tenant_id, requested_at, parsed_networks(settings.webhook_networks))
        counted = await estimate(connection, order.selection)
        if body.dry_run:
            return json_response(ReplayEstimateAnswer.of(counted))
        key = key_bytes(settings.key_encryption_key)
        replay_id, secret = await replays.create(connection, key, changer.actor, order, counted)
        made = await replays.find(connection, changer.tenant_id, replay_id)
    return json_response(ReplayMadeAnswer.made(made, secret), 201, {"Location": f"/api/v1/replays/{replay_id}"})


@router.get(
    "/{replay_id}",
    summary="One replay",
    response_model=ReplayAnswer,
    responses=problems(_REPLAY, TENANT_ADMIN, _UNKNOWN),
)
async def show_replay(admin: TenantAdmin, replay_id: UUID, database: Database) -> Response:
    """How far it is, how fast, and what it waits for."""
    async with tenant_session(database, admin.tenant_id, snapshot=True) as connection:
        return json_response(ReplayAnswer.of(await replays.find(connection, admin.tenant_id, replay_id)))


@router.post(
    "/{replay_id}/pause",
    summary="Let a replay stand still",
    response_model=ReplayAnswer,
    responses=problems(f"{_REPLAY}/pause", TENANT_ADMIN, _UNKNOWN, _FINISHED),
)
async def pause_replay(changer: Change, replay_id: UUID) -> Response:
    """After the piece that is under way. A stream of NDJSON is cut off between two lines."""
    return await changer.change(replay_id, replays.pause)


@router.post(
    "/{replay_id}/resume",
    summary="Let a replay go on",
    response_model=ReplayAnswer,
    responses=problems(f"{_REPLAY}/resume", TENANT_ADMIN, _UNKNOWN, _FINISHED),
)
async def resume_replay(changer: Change, replay_id: UUID) -> Response:
    """Behind the last event that was sent."""
    return await changer.change(replay_id, replays.resume)


@router.post(
    "/{replay_id}/cancel",
    summary="End a replay",
    response_model=ReplayAnswer,
    responses=problems(f"{_REPLAY}/cancel", TENANT_ADMIN, _UNKNOWN, _FINISHED),
)
async def cancel_replay(changer: Change, replay_id: UUID) -> Response:
    """After the piece that is under way, and for good. What was sent stays sent."""
    return await changer.change(replay_id, replays.cancel)


@router.get(
    "/{replay_id}/events",
    summary="The events of a replay to ndjson",
    response_class=StreamingResponse,
    responses={
        200: {"description": "One event a line", "content": {NDJSON: {"schema": {"type": "string"}, "example": _LINE}}},
        **problems(
            f"{_REPLAY}/events",
            TENANT_ADMIN,
            _UNKNOWN,
            ConflictError("The replay is paused."),
            *QUERY_ERRORS[:1],
            _BAD_AFTER,
        ),
    },
    openapi_extra=openapi_parameters((AFTER,)),
)
async def replayed_events(
    admin: TenantAdmin, replay_id: UUID, after: Annotated[str | None, Depends(_after)], database: Database
) -> Response:
    """One event a line, in the order of their timestamps, and then of their ids. The stream is whole if it ends as HTTP
    says (the last chunk); if it is cut off, ask again with `after` = the last line's event_id. It may be read again.
    """
    session = partial(tenant_session, database, admin.tenant_id)
    async with session() as connection:
        replay = await replays.find(connection, admin.tenant_id, replay_id)
        check_readable(replay)
        place = await place_after(connection, replay, after)
        first = await page(connection, replay.order.selection, place)
    return _Lines(lines(session, session, replay, first), media_type=NDJSON, headers={"Cache-Control": "no-store"})


class _Lines(StreamingResponse):
    """A stream that is cut off, without the last chunk, when it can't go on: nobody can take it for the whole."""

    async def stream_response(self, send: Any) -> None:
        try:
            await super().stream_response(send)
        except (AppError, SQLAlchemyError) as error:
            log.warning("a stream of a replay is cut off", reason=str(error))
