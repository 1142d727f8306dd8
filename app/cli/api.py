"""`sluice api`: the HTTP gateway as one process."""

from __future__ import annotations

import uvicorn
from prometheus_client import start_http_server

from app import logs
from app.main import create_app
from app.settings import GatewaySettings


def api() -> None:
    """Serve the HTTP API until SIGTERM.

    Listens on `SLUICE_API_HOST`:`SLUICE_API_PORT`, with metrics on `SLUICE_METRICS_PORT`. Requests that have begun
    are finished before it ends. Every setting is an environment variable; see docs/operations.md.
    """
    settings = GatewaySettings.load()
    logs.configure(settings.log_format, "api")
    start_http_server(settings.metrics_port, settings.metrics_host)
    uvicorn.run(
        create_app(settings),
        host=settings.api_host,
        port=settings.api_port,
        loop="uvloop",
        http="httptools",
        log_config=None,
        access_log=False,
        server_header=False,
        # Behind a proxy addresses come from X-Forwarded-For; nobody's word is taken for it by default.
        proxy_headers=False,
        timeout_graceful_shutdown=10,
        backlog=4096,
    )
