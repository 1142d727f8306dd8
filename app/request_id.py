"""`X-Request-Id`: the client's own if it is sane, otherwise a fresh one, in every answer and problem."""

from __future__ import annotations

import itertools
import re
import secrets
from typing import Any

HEADER = b"x-request-id"

_SANE = re.compile(rb"[A-Za-z0-9._\-]{1,64}")
_process = secrets.token_hex(6)
_numbers = itertools.count(1)


def request_id_of(scope: Any) -> str:
    """The id of the request in `scope`; the same at each call."""
    known: str | None = scope.get("sluice.request_id")
    if known is None:
        sent = next((value for name, value in scope["headers"] if name == HEADER), None)
        known = sent.decode() if sent and _SANE.fullmatch(sent) else f"{_process}-{next(_numbers):x}"
        scope["sluice.request_id"] = known
    return known
