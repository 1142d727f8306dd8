"""Errors that a caller is told about, and their RFC 9457 form. Knows no endpoint and no storage.

OAuth endpoints keep the RFC 6749 shape and do not use this module's rendering.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, ClassVar

import msgspec

PROBLEM_JSON = "application/problem+json"


@dataclass(frozen=True)
class Fault:
    """One thing wrong with the input: where (RFC 6901 JSON pointer, `''` is the whole) and what."""

    pointer: str
    detail: str


@dataclass
class AppError(Exception):
    """An error with an HTTP status. `code` names it for machines and ends the problem's `type`."""

    detail: str
    faults: tuple[Fault, ...] = ()
    headers: dict[str, str] = field(default_factory=dict)
    extra: dict[str, Any] = field(default_factory=dict)

    status: ClassVar[int] = 500
    code: ClassVar[str] = "internal-error"
    title: ClassVar[str] = "Internal error"

    def problem(self, *, instance: str, request_id: str) -> dict[str, Any]:
        """The problem details object (RFC 9457 section 3), with `errors` where the input is at fault."""
        body: dict[str, Any] = {
            "type": f"urn:sluice:problem:{self.code}",
            "title": self.title,
            "status": self.status,
            "detail": self.detail,
            "instance": instance,
            "request_id": request_id,
        }
        if self.faults:
            body["errors"] = [{"pointer": fault.pointer, "detail": fault.detail} for fault in self.faults]
        return body | self.extra


class MalformedError(AppError):
    """The body or a parameter can't be parsed."""

    status = 400
    code = "malformed"
    title = "Malformed request"


class UnauthorizedError(AppError):
    """No token, or one that does not hold. Carries `WWW-Authenticate` (RFC 6750 section 3)."""

    status = 401
    code = "unauthorized"
    title = "Not authenticated"


class ForbiddenError(AppError):
    """The token holds but lacks the scope."""

    status = 403
    code = "forbidden"
    title = "Not allowed"


class NotFoundError(AppError):
    status = 404
    code = "not-found"
    title = "Not found"


class MethodNotAllowedError(AppError):
    status = 405
    code = "method-not-allowed"
    title = "Method not allowed"


class ConflictError(AppError):
    """Valid, but not in the state that things are in."""

    status = 409
    code = "conflict"
    title = "Conflict"


class TooLargeError(AppError):
    status = 413
    code = "too-large"
    title = "Too large"


class UnsupportedMediaTypeError(AppError):
    status = 415
    code = "unsupported-media-type"
    title = "Unsupported media type"


class InvalidError(AppError):
    """Parsed, but not valid."""

    status = 422
    code = "invalid"
    title = "Invalid input"


class HeadTooLargeError(AppError):
    """The request line and the headers together (RFC 6585 section 5)."""

    status = 431
    code = "head-too-large"
    title = "Request header fields too large"


class RateLimitedError(AppError):
    status = 429
    code = "rate-limited"
    title = "Too many requests"


class QuotaExceededError(RateLimitedError):
    """The month's quota of events is used up."""

    code = "quota-exceeded"
    title = "Quota used up"


class UnavailableError(AppError):
    """A server that this request needs does not answer; carries `Retry-After`."""

    status = 503
    code = "unavailable"
    title = "Temporarily unavailable"


def render(error: AppError, *, instance: str, request_id: str) -> bytes:
    """The problem details as JSON bytes."""
    return msgspec.json.encode(error.problem(instance=instance, request_id=request_id))
