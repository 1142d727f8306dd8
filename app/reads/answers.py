"""What the read endpoints answer, as OpenAPI shows it: models with examples, and the problems that they share.

Handlers encode the query functions' results straight to JSON; a test holds each real answer to its model.
"""

from __future__ import annotations

from typing import Any

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, NonNegativeInt, PositiveInt

from app.errors import (
    PROBLEM_JSON,
    AppError,
    Fault,
    ForbiddenError,
    InvalidError,
    MalformedError,
    UnauthorizedError,
    UnavailableError,
)


def _example(**example: Any) -> ConfigDict:
    return ConfigDict(extra="forbid", json_schema_extra={"example": example})


class TimelineEventAnswer(BaseModel):
    event_id: str
    event_type: str
    timestamp: AwareDatetime
    metadata: dict[str, Any]

    model_config = ConfigDict(extra="forbid")


class TimelineAnswer(BaseModel):
    """`next_cursor` asks for the following page with the same parameters; null on the last one."""

    events: list[TimelineEventAnswer]
    next_cursor: str | None

    model_config = _example(
        events=[
            {
                "event_id": "019b7c5e-8f3a-7c11-9d5e-2f1a7b6c4d3e",
                "event_type": "click",
                "timestamp": "2026-01-02T03:04:05.678Z",
                "metadata": {"page": "/pricing"},
            }
        ],
        next_cursor="AZt8Xo86AAAwMTliN2M1ZQ",
    )


class CountAnswer(BaseModel):
    """`event_type` is the one that was asked for, null for all."""

    event_type: str | None
    count: NonNegativeInt

    model_config = _example(event_type="click", count=1234)


class PointAnswer(BaseModel):
    """`bucket` is the start of the hour, day, week or month in `timezone`, written in UTC."""

    bucket: AwareDatetime
    event_type: str
    count: NonNegativeInt

    model_config = ConfigDict(extra="forbid")


class TrendAnswer(BaseModel):
    """One entry per bucket and event type, by bucket, then type; a type that occurs at all is in each bucket."""

    interval: str
    timezone: str
    series: list[PointAnswer]

    model_config = _example(
        interval="daily",
        timezone="Asia/Shanghai",
        series=[
            {"bucket": "2025-12-31T16:00:00Z", "event_type": "click", "count": 17},
            {"bucket": "2026-01-01T16:00:00Z", "event_type": "click", "count": 0},
        ],
    )


class TypeCountAnswer(BaseModel):
    event_type: str
    count: PositiveInt
    share: float = Field(gt=0, le=1, description="`count` over `total`")

    model_config = ConfigDict(extra="forbid")


class PeakHourAnswer(BaseModel):
    """The clock hour of `timezone` with most events (the first of equals), named by its start in UTC."""

    bucket: AwareDatetime
    count: PositiveInt

    model_config = ConfigDict(extra="forbid")


class StatsAnswer(BaseModel):
    """`by_type` holds the `top` most frequent types; `unique_users` counts exactly, events without a user apart."""

    total: NonNegativeInt
    by_type: list[TypeCountAnswer]
    first_event_at: AwareDatetime | None
    last_event_at: AwareDatetime | None
    peak_hour: PeakHourAnswer | None
    unique_users: NonNegativeInt
    timezone: str

    model_config = _example(
        total=1500,
        by_type=[
            {"event_type": "click", "count": 1200, "share": 0.8},
            {"event_type": "signup", "count": 300, "share": 0.2},
        ],
        first_event_at="2026-01-01T00:00:07.25Z",
        last_event_at="2026-01-31T23:59:58Z",
        peak_hour={"bucket": "2026-01-15T09:00:00Z", "count": 96},
        unique_users=211,
        timezone="UTC",
    )


_TEXT = {"type": "string"}
_PROBLEM_SCHEMA: dict[str, Any] = {
    "title": "Problem",
    "description": "RFC 9457 problem details",
    "type": "object",
    "required": ["type", "title", "status", "detail", "instance", "request_id"],
    "properties": {
        "type": _TEXT,
        "title": _TEXT,
        "status": {"type": "integer"},
        "detail": _TEXT,
        "instance": _TEXT,
        "request_id": _TEXT,
        "errors": {
            "type": "array",
            "items": {
                "type": "object",
                "required": ["pointer", "detail"],
                "properties": {"pointer": _TEXT, "detail": _TEXT},
            },
        },
    },
}


def problems(path: str) -> dict[int | str, dict[str, Any]]:
    """What a route at `path` passes as `responses`: each error that a read can answer, with an example."""
    backwards = Fault("/query/ended_at", "is before started_at")
    cases: list[tuple[str, AppError]] = [
        ("The query can't be parsed", MalformedError("The query is not UTF-8.")),
        ("No token, or one that does not hold", UnauthorizedError("The token has expired.")),
        ("The token lacks the scope `events:read`", ForbiddenError("The token lacks the scope events:read.")),
        ("A parameter is unknown or not valid", InvalidError("The parameters are not valid.", (backwards,))),
        ("The database does not answer; `Retry-After` says when", UnavailableError("The database does not answer.")),
    ]
    return {error.status: _problem(description, error, path) for description, error in cases}


def _problem(description: str, error: AppError, path: str) -> dict[str, Any]:
    example = error.problem(instance=path, request_id="5f0c9a7e1b2d4c3f")
    return {"description": description, "content": {PROBLEM_JSON: {"schema": _PROBLEM_SCHEMA, "example": example}}}
