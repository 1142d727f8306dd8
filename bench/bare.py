"""The reference of the ingest rows: the same server with an ASGI function that answers a constant."""

from __future__ import annotations

import sys
from typing import Any

import uvicorn

from app.http_protocol import Protocol

_BODY = b'{"message":"Event received successfully","event_id":"0196a0c4-7a7e-7000-8000-5d1f6f2f9a01"}'
_START = {
    "type": "http.response.start",
    "status": 202,
    "headers": [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(_BODY))],
}


async def constant(scope: Any, receive: Any, send: Any) -> None:
    """Answer 202 whatever comes."""
    if scope["type"] == "lifespan":
        return
    while (await receive()).get("more_body"):
        pass
    await send(_START)
    await send({"type": "http.response.body", "body": _BODY})


if __name__ == "__main__":
    uvicorn.run(
        constant,
        port=int(sys.argv[1]),
        loop="uvloop",
        http=Protocol,
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        backlog=4096,
    )
