"""`sluice api`: the HTTP gateway as one process."""

from __future__ import annotations

import asyncio
import gc
import math
import signal

import uvicorn
import uvloop
from aiokafka.errors import KafkaError
from prometheus_client import start_http_server
from sqlalchemy.exc import SQLAlchemyError

from app import logs
from app.cli.failure import CommandError
from app.http_protocol import Protocol
from app.main import create_app, open_state
from app.settings import GatewaySettings


def api() -> None:
    """Serve the HTTP API until SIGTERM.

    Listens on `SLUICE_API_HOST`:`SLUICE_API_PORT`, with metrics on `SLUICE_METRICS_PORT`. Requests that have begun
    are finished before it ends. Every setting is an environment variable; see docs/operations.md.
    """
    settings = GatewaySettings.load()
    logs.configure(settings.log_format, "api")
    start_http_server(settings.metrics_port, settings.metrics_host)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        try:
            runner.run(_serve(settings))
        except (KafkaError, SQLAlchemyError) as error:
            cause = getattr(error, "orig", None) or error
            raise CommandError(f"The gateway can't start: {type(cause).__name__}: {cause}") from None


async def _serve(settings: GatewaySettings) -> None:
    async with open_state(settings) as state:
        # What is alive now stays for good: the collector need not walk through it again at every few hundred requests.
        gc.collect()
        gc.freeze()
        gc.set_threshold(50_000, 20, 20)
        server = uvicorn.Server(
            uvicorn.Config(
                create_app(settings, state),
                host=settings.api_host,
                port=settings.api_port,
                http=Protocol,
                ws="none",
                lifespan="off",
                log_config=None,
                access_log=False,
                server_header=False,
                # Behind a proxy addresses come from X-Forwarded-For; nobody's word is taken for it by default.
                proxy_headers=False,
                # Until then each request has its answer, whatever Kafka does.
                timeout_graceful_shutdown=math.ceil(settings.produce_timeout_seconds) + 1,
                backlog=4096,
            )
        )
        # uvicorn ends by raising the signal that stopped it once more, but what was opened above has yet to be closed.
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: None)
        await server.serve()
