"""What the running gateway holds: made by `app.main`'s lifespan, handed to handlers as dependencies.

Handlers name what they use in their signature; nothing here is global.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

from elasticsearch import AsyncElasticsearch
from fastapi import Depends, Request
from sqlalchemy.ext.asyncio import AsyncEngine

from app.settings import GatewaySettings

if TYPE_CHECKING:
    from redis.asyncio import Redis

    from app.ingest.publish import Publisher
    from app.throttling.throttle import Throttle
    from auth.keys import KeyRing
    from auth.tokens import TokenVerifier
    from tenants.directory import Directory
    from tenants.limits.buckets import TokenBuckets
    from tenants.usage.refusals import Refusals


@dataclass(frozen=True)
class State:
    """One per process. `engine` logs in as sluice_app, `auth_engine` as sluice_auth."""

    settings: GatewaySettings
    engine: AsyncEngine
    auth_engine: AsyncEngine
    redis: Redis
    search_client: AsyncElasticsearch
    directory: Directory
    keys: KeyRing
    verifier: TokenVerifier
    buckets: TokenBuckets
    refusals: Refusals
    throttle: Throttle
    publisher: Publisher


def state_of(request: Request) -> State:
    state: State = request.app.state.sluice
    return state


def _engine(request: Request) -> AsyncEngine:
    return state_of(request).engine


def _search_client(request: Request) -> AsyncElasticsearch:
    return state_of(request).search_client


def _settings(request: Request) -> GatewaySettings:
    return state_of(request).settings


Database = Annotated[AsyncEngine, Depends(_engine)]
SearchClient = Annotated[AsyncElasticsearch, Depends(_search_client)]
SettingsOf = Annotated[GatewaySettings, Depends(_settings)]
