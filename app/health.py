"""`/api/v1/health`: what each dependency says. `/api/v1/ready`: whether this process can take events.

Open to anyone, so answers name dependencies and states, never addresses or errors' texts.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from typing import Annotated, Literal

import redis.exceptions
from elastic_transport import TransportError
from elasticsearch import ApiError
from fastapi import APIRouter, Depends, Response
from pydantic import BaseModel
from sqlalchemy import text
from sqlalchemy.exc import SQLAlchemyError

from app.state import State, state_of

router = APIRouter(prefix="/api/v1", tags=["Open"])

CHECK_SECONDS = 3.0

StateOf = Annotated[State, Depends(state_of)]
Condition = Literal["up", "down"]


class Health(BaseModel):
    """`status` is `ok` if every dependency is up, else `degraded`."""

    status: Literal["ok", "degraded"]
    dependencies: dict[str, Condition]

    model_config = {
        "json_schema_extra": {
            "example": {
                "status": "ok",
                "dependencies": {"postgres": "up", "redis": "up", "kafka": "up", "elasticsearch": "up"},
            }
        }
    }


class Ready(BaseModel):
    ready: bool
    model_config = {"json_schema_extra": {"example": {"ready": True}}}


@router.get(
    "/health",
    summary="What each dependency says",
    responses={503: {"model": Health, "description": "At least one dependency does not answer"}},
)
async def health(state: StateOf, response: Response) -> Health:
    """Asks all four at once; takes at most three seconds."""
    names = ("postgres", "redis", "kafka", "elasticsearch")
    checks = (_postgres(state), _redis(state), state.publisher.healthy(), _elasticsearch(state))
    found = await asyncio.gather(*(_within_limit(check) for check in checks))
    dependencies: dict[str, Condition] = {name: "up" if up else "down" for name, up in zip(names, found, strict=True)}
    ok = all(found)
    response.status_code = 200 if ok else 503
    return Health(status="ok" if ok else "degraded", dependencies=dependencies)


@router.get(
    "/ready",
    summary="Whether this process can take events",
    responses={503: {"model": Ready, "description": "Kafka does not answer"}},
)
async def ready(state: StateOf, response: Response) -> Ready:
    """Ready means that an event sent now would be accepted: keys and tenants are loaded and Kafka answers."""
    up = await state.publisher.healthy()
    response.status_code = 200 if up else 503
    return Ready(ready=up)


async def _within_limit(check: Awaitable[bool]) -> bool:
    try:
        return await asyncio.wait_for(check, CHECK_SECONDS)
    except TimeoutError:
        return False


async def _postgres(state: State) -> bool:
    try:
        async with state.engine.connect() as connection:
            await connection.execute(text("select 1"))
    except (SQLAlchemyError, OSError):
        return False
    return True


async def _redis(state: State) -> bool:
    try:
        await state.redis.ping()
    except (redis.exceptions.RedisError, OSError):
        return False
    return True


async def _elasticsearch(state: State) -> bool:
    try:
        health = await state.search_client.cluster.health()
    except (ApiError, TransportError):
        return False
    return bool(health["status"] != "red")
