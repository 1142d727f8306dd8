"""Bodies of management routes that are hard to read: refused with an error of ours, never with another."""

from __future__ import annotations

import pytest
from starlette.requests import Request
from starlette.types import Message

from app.errors import InvalidError, MalformedError
from tenants.bodies import Body, read_body


class Named(Body):
    name: str


def request_of(body: bytes) -> Request:
    async def receive() -> Message:
        return {"type": "http.request", "body": body, "more_body": False}

    return Request({"type": "http", "headers": [(b"content-type", b"application/json")]}, receive)


@pytest.mark.parametrize(("opening", "closing"), [(b"[", b"]"), (b'{"a":', b"}")])
async def test_a_body_is_refused_however_deep_it_is_nested(opening: bytes, closing: bytes) -> None:
    seen = set()
    # Every depth around that at which the one or the other reader gives up.
    for depth in range(1, 1100):
        with pytest.raises((InvalidError, MalformedError)) as refused:
            await read_body(request_of(b'{"name":' + opening * depth + b"1" + closing * depth + b"}"), Named)
        seen.add(refused.type)
    assert seen == {InvalidError, MalformedError}
