"""The bodies of requests that FastAPI answers, read with a bound and a time. Knows no route and no form of a body."""

from __future__ import annotations

import asyncio

from starlette.requests import ClientDisconnect, Request

from app.errors import MalformedError, TooLargeError

BODY_TIMEOUT_SECONDS = 30.0


async def read_bounded(request: Request, most: int) -> bytes:
    """The body, which never is more than `most` bytes in memory.

    Raises:
        TooLargeError: it is larger.
        MalformedError: it has not arrived in `BODY_TIMEOUT_SECONDS`, or the connection is gone.
    """
    body = bytearray()
    try:
        async with asyncio.timeout(BODY_TIMEOUT_SECONDS):
            async for chunk in request.stream():
                body += chunk
                if len(body) > most:
                    raise TooLargeError(f"The body is larger than {most} bytes.")
    except TimeoutError:
        raise MalformedError(f"The body did not arrive within {BODY_TIMEOUT_SECONDS:.0f} seconds.") from None
    except ClientDisconnect:
        raise MalformedError("The connection closed before the whole body had arrived.") from None
    return bytes(body)
