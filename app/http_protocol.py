"""HTTP/1.1 as uvicorn and httptools read it, and what they leave open: a bound and a time for a request's head, problem
details for what is no HTTP, no header out of a trailer, an answer for who has said that nothing more comes.

Knows no route.
"""

from __future__ import annotations

import asyncio
from typing import Any

from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from app.errors import PROBLEM_JSON, AppError, HeadTooLargeError, MalformedError, render
from app.request_id import HEADER, request_id_of

MAX_HEAD_BYTES = 64 * 1024
"""Of request line and headers, beyond what has come in one piece (uvloop reads up to 256 KiB at once)."""

HEAD_TIMEOUT_SECONDS = 30.0
"""How long a new connection may take to its first request, and any to finish a head that it has begun."""


class Protocol(HttpToolsProtocol):
    """One connection. What is overridden here costs a request well below a microsecond."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._in_head = True
        self._head_bytes = 0
        self._has_body = False
        self._head_timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn's own
        super().connection_made(transport)
        self._wait_for_head()

    def connection_lost(self, exc: Exception | None) -> None:
        self._head_has_come()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        self._has_body = False
        super().data_received(data)
        if self._has_body and not self._in_head:
            self._head_bytes = 0  # a body has bounds of its own
            return
        if self.transport.is_closing():
            return
        self._head_bytes += len(data)
        if self._head_bytes > MAX_HEAD_BYTES:
            self._end_what_has_no_end()
        elif self._in_head or (self.cycle is not None and self.cycle.response_complete):
            self._wait_for_head()

    def on_body(self, body: bytes) -> None:
        self._has_body = True
        super().on_body(body)

    def _end_what_has_no_end(self) -> None:
        """A head, or what is neither head nor body: trailers, chunks' extensions, empty lines."""
        if self._in_head:
            self._refuse(HeadTooLargeError(f"Request line and headers are larger than {MAX_HEAD_BYTES} bytes."))
        elif self._is_answering():
            self.cycle.keep_alive = False
        else:
            self.transport.close()

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._in_head = True
        self._head_bytes = 0

    def on_headers_complete(self) -> None:
        self._in_head = False
        if self._head_timer is not None:
            self._head_has_come()
        super().on_headers_complete()
        # Trailers come by the same callback; they must not become headers (RFC 9110 section 6.5.1).
        self.headers = []

    def eof_received(self) -> bool:  # type: ignore[override]  # uvicorn returns nothing, which closes the connection
        """Whether to keep the connection: for the answer to a request that has come as a whole."""
        if not self._is_answering():
            return False
        self.cycle.keep_alive = False
        return True

    def send_400_response(self, msg: str) -> None:
        """What came is no HTTP. Where it follows a whole request, that one is answered, and nothing after it."""
        del msg
        if self._is_answering():
            self.cycle.keep_alive = False
            self.flow.pause_reading()
        else:
            self._refuse(MalformedError("This is not a request of HTTP/1.1 (RFC 9112)."))

    def _is_answering(self) -> bool:
        return self.cycle is not None and not self.cycle.response_complete and not self.cycle.more_body

    def _refuse(self, error: AppError) -> None:
        request_id = request_id_of({"headers": ()})
        body = render(error, instance="/", request_id=request_id)
        head = (
            b"content-type: %b\r\ncontent-length: %d\r\n%b: %b\r\nconnection: close\r\n\r\n"
            % (PROBLEM_JSON.encode(), len(body), HEADER, request_id.encode())
        )  # fmt: skip
        self.transport.write(STATUS_LINE[error.status] + head + body)
        self.transport.close()

    def _wait_for_head(self) -> None:
        if self._head_timer is None:
            self._head_timer = self.loop.call_later(HEAD_TIMEOUT_SECONDS, self.transport.close)

    def _head_has_come(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None
