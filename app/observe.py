"""Around every request that FastAPI answers: the request id and what limits say on the answer, a count and a time.

No decision.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from typing import Any

from app.metrics import REQUEST_SECONDS, REQUESTS
from app.request_id import HEADER, request_id_of

EXTRA_HEADERS = "sluice.extra_headers"
"""Key of the ASGI scope under which headers (pairs of bytes) are left that the answer shall carry, whatever it is."""

AsgiApp = Callable[[Any, Any, Any], Awaitable[None]]


def observed(app: AsgiApp) -> AsgiApp:
    """`app` with `X-Request-Id` on each answer and the HTTP metrics counted."""

    async def call(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            await app(scope, receive, send)
            return
        started = time.perf_counter()
        request_id = request_id_of(scope)
        status = 500

        async def send_with_id(message: Any) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                added = [(HEADER, request_id.encode()), *scope.get(EXTRA_HEADERS, ())]
                message["headers"] = [*message.get("headers", ()), *added]
            await send(message)

        try:
            await app(scope, receive, send_with_id)
        finally:
            # The route's template, never the path: a label must not grow with users or tenants.
            route = getattr(scope.get("route"), "path", "none")
            REQUESTS.labels(scope["method"], route, f"{status // 100}xx").inc()
            REQUEST_SECONDS.labels(route).observe(time.perf_counter() - started)

    return call
