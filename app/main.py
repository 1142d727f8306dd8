"""The gateway's composition root: `create_app(settings)` makes everything that a process holds, and nothing else does.

Ingest paths go to their ASGI function before the router; everything else is FastAPI's.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

import structlog
from fastapi import FastAPI
from redis.asyncio import Redis
from starlette.routing import Route

from app import health, openapi, redirects
from app.database import create_engine
from app.http_errors import install as install_error_handlers
from app.ingest.endpoint import BATCH, SINGLE, IngestEndpoint
from app.ingest.publish import Publisher
from app.observe import observed
from app.reads.endpoints import router as reads
from app.recovery.erasure_endpoints import router as erasures
from app.recovery.letter_endpoints import router as dead_letters
from app.recovery.replay_endpoints import router as replays
from app.settings import GatewaySettings
from app.state import State
from app.throttling.throttle import Throttle
from auth.endpoints import router as oauth
from auth.keys import KeyRing, ensure_signing_key
from auth.tokens import TokenVerifier
from search.client import make_client
from search.endpoints import router as search
from tenants.administration.endpoints import router as tenants
from tenants.administration.oversight_endpoints import router as oversight
from tenants.administration.plan_endpoints import router as plans
from tenants.audit_endpoints import router as audit
from tenants.clients.endpoints import platform_router as clients_of_tenants
from tenants.clients.endpoints import router as clients
from tenants.clients.secret_endpoints import router as client_secrets
from tenants.directory import Directory
from tenants.limits.buckets import TokenBuckets
from tenants.usage.endpoints import router as usage
from tenants.usage.refusals import Refusals

log = structlog.get_logger()


class Gateway(FastAPI):
    """FastAPI, with a shortcut for the paths that carry the load."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.ingest = IngestEndpoint()
        self._observed = observed(super().__call__)

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "http" and scope["method"] == "POST" and scope["path"] in (SINGLE, BATCH):
            scope["app"] = self
            await self.ingest(scope, receive, send)
        else:
            await self._observed(scope, receive, send)


def create_app(settings: GatewaySettings, state: State | None = None) -> Gateway:
    """The application. It connects to its servers in its lifespan, or uses `state`, which stays its owner's."""

    @contextlib.asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        async with open_state(settings) as opened:
            app.state.sluice = opened
            yield

    # A redirect for a slash too many would be built from the Host header, and without TLS behind a proxy.
    app = Gateway(**openapi.DESCRIPTION, redirect_slashes=False, lifespan=lifespan if state is None else None)
    app.state.sluice = state
    managing = (clients, client_secrets, audit, usage, tenants, clients_of_tenants, plans, oversight)
    recovering = (dead_letters, replays, erasures)
    for router in (oauth, reads, search, *managing, *recovering, health.router):
        app.include_router(router)
    # Here for other methods, which get 405, and for whoever lists routes; POST never comes this far.
    app.router.routes += [Route(path, app.ingest, methods=["POST"]) for path in (SINGLE, BATCH)]
    redirects.install(app)
    openapi.install(app)
    install_error_handlers(app)
    return app


@contextlib.asynccontextmanager
async def open_state(settings: GatewaySettings) -> AsyncIterator[State]:
    """Connections, caches and background tasks of one gateway, closed in reverse order at the end.

    Raises:
        OSError, SQLAlchemyError, KafkaError: PostgreSQL or Kafka does not answer. Redis and Elasticsearch may be down.
    """
    async with contextlib.AsyncExitStack() as stack:
        engine = create_engine(settings.postgres_app_url.get_secret_value())
        stack.push_async_callback(engine.dispose)
        auth_engine = create_engine(settings.postgres_auth_url.get_secret_value(), pool_size=5)
        stack.push_async_callback(auth_engine.dispose)
        await ensure_signing_key(auth_engine, settings)
        # Connections of its own: what was revoked must be learnt however many ask for tokens.
        watch_engine = create_engine(settings.postgres_auth_url.get_secret_value(), pool_size=2)
        stack.push_async_callback(watch_engine.dispose)
        keys = await KeyRing.load(watch_engine, settings)
        directory = await Directory.load(watch_engine)
        directory.on_change(keys.refresh)
        polling = asyncio.create_task(directory.run())
        stack.push_async_callback(_end, polling)
        redis = Redis.from_url(
            settings.redis_url.get_secret_value(),
            socket_timeout=settings.limiter_timeout_seconds,
            socket_connect_timeout=settings.limiter_timeout_seconds,
        )
        stack.push_async_callback(redis.aclose)
        buckets = TokenBuckets(
            redis,
            prefix=settings.redis_prefix,
            timeout_seconds=settings.limiter_timeout_seconds,
            processes=settings.gateway_processes,
        )
        stack.push_async_callback(buckets.close)
        refusals = Refusals(auth_engine)
        stack.push_async_callback(refusals.flush)
        stack.push_async_callback(_end, asyncio.create_task(refusals.run()))
        search_client = make_client(settings.elasticsearch_url.get_secret_value())
        stack.push_async_callback(search_client.close)
        publisher = Publisher(
            settings.kafka_bootstrap,
            settings.raw_topic,
            timeout_seconds=settings.produce_timeout_seconds,
            pending_bytes=settings.pending_bytes,
        )
        await publisher.start()
        stack.push_async_callback(publisher.stop)
        log.info("gateway ready", issuer=settings.issuer, topic=settings.raw_topic)
        yield State(
            settings=settings,
            engine=engine,
            auth_engine=auth_engine,
            redis=redis,
            search_client=search_client,
            directory=directory,
            keys=keys,
            verifier=TokenVerifier(keys, directory, issuer=settings.issuer, audience=settings.issuer),
            buckets=buckets,
            refusals=refusals,
            throttle=Throttle(settings),
            publisher=publisher,
        )


async def _end(task: asyncio.Task[None]) -> None:
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task
