"""What is sent and answered about replays, as JSON. Meaning and bounds are those of `replays` and `selection`."""

from __future__ import annotations

import re
from datetime import UTC, date, datetime
from typing import TYPE_CHECKING, Annotated, Any, Self
from uuid import UUID

from pydantic import AliasChoices, BaseModel, BeforeValidator, ConfigDict, Field, NonNegativeInt, model_validator

from app.events.timestamps import parse_rfc3339
from app.parameters import TIME_SCHEMA, start_of_day
from app.recovery.replays import State, Target
from tenants.answers import Moment
from tenants.bodies import Body

if TYPE_CHECKING:
    from app.recovery.replays import Replay
    from app.recovery.selection import Estimate

REPLAY_ID = "0d6f3c1e-5b7a-4f8e-9a51-2c7f6d1a0b9c"
MOST_EVENTS_PER_SECOND = 1_000_000
_MOST_CHARACTERS = 200
_DATE = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")


def moment_of(value: Any) -> Any:
    """RFC 3339, or a date: the start of that day in UTC."""
    if not isinstance(value, str):
        return value
    return start_of_day(date.fromisoformat(value), UTC) if _DATE.fullmatch(value) else parse_rfc3339(value)


def _without_nul(value: Any) -> Any:
    if isinstance(value, str) and "\0" in value:
        raise ValueError("contains a NUL character, which nothing stored can")
    return value


_Moment = Annotated[
    datetime | None, BeforeValidator(moment_of, json_schema_input_type=str), Field(json_schema_extra={**TIME_SCHEMA})
]
_Text = Annotated[str, BeforeValidator(_without_nul), Field(min_length=1, max_length=_MOST_CHARACTERS)]


class NewReplayBody(Body):
    """Events with started_at ≤ timestamp < ended_at (RFC 3339, or a date in UTC) that pass the filters; what is left
    out does not restrict. `webhook_url` with the target webhook only, `events_per_second` not with ndjson.
    """

    target: Target
    started_at: _Moment = None
    ended_at: _Moment = None
    event_type: _Text | None = Field(default=None, validation_alias=AliasChoices("eventType", "name"))
    user_id: _Text | None = None
    events_per_second: float | None = Field(
        default=None,
        ge=0.001,
        le=MOST_EVENTS_PER_SECOND,
        description="No more than so many; left out: as fast as it goes.",
    )
    webhook_url: str | None = Field(default=None, description="https, and on the public internet.")
    dry_run: bool = Field(default=False, description="Only say how much it would be.")

    @model_validator(mode="after")
    def _agrees(self) -> Self:
        if self.started_at is not None and self.ended_at is not None and self.ended_at < self.started_at:
            raise ValueError("ended_at is before started_at")
        if (self.target == "webhook") != (self.webhook_url is not None):
            raise ValueError("webhook_url goes with the target webhook, and only with that")
        if self.target == "ndjson" and self.events_per_second is not None:
            raise ValueError("events_per_second does not go with the target ndjson, whose reader sets the pace")
        return self


_REPLAY: dict[str, Any] = {
    "replay_id": REPLAY_ID,
    "target": "webhook",
    "state": "running",
    "started_at": "2026-01-01T00:00:00Z",
    "ended_at": "2026-02-01T00:00:00Z",
    "event_type": "click",
    "user_id": None,
    "events_per_second": 100.0,
    "webhook_url": "https://example.com/hook",
    "requested_at": "2026-03-04T05:06:07Z",
    "total": 20000,
    "total_estimated": False,
    "sent": 5000,
    "refused": 0,
    "share": 0.25,
    "rate": 99.7,
    "problem": None,
    "finished_at": None,
}


class ReplayAnswer(BaseModel):
    """Of `total` events `sent` are sent and `refused` can't be taken by the target; `share` is both, from 0 to 1.

    `rate` is how many events a second were sent lately; null: it stands still. `problem` says what it waits for, or why
    it failed.
    """

    replay_id: UUID
    target: Target
    state: State
    started_at: Moment | None
    ended_at: Moment | None
    event_type: str | None
    user_id: str | None
    events_per_second: float | None
    webhook_url: str | None
    requested_at: Moment
    total: NonNegativeInt
    total_estimated: bool
    sent: NonNegativeInt
    refused: NonNegativeInt
    share: float = Field(ge=0, le=1)
    rate: float | None
    problem: str | None
    finished_at: Moment | None

    model_config = ConfigDict(json_schema_extra={"example": _REPLAY})

    @classmethod
    def of(cls, replay: Replay) -> ReplayAnswer:
        return cls(**_members(replay))


class ReplayMadeAnswer(ReplayAnswer):
    """The replay, and the secret that its webhook's messages are signed with, which is shown only now; null for other
    targets.
    """

    webhook_secret: str | None

    model_config = ConfigDict(json_schema_extra={"example": {**_REPLAY, "webhook_secret": "whsec_…"}})

    @classmethod
    def made(cls, replay: Replay, secret: str | None) -> ReplayMadeAnswer:
        return cls(**_members(replay), webhook_secret=secret)


class ReplayEstimateAnswer(BaseModel):
    """What a replay would send. `bytes` are those of event_id, event_type, user_id and metadata as stored.

    `estimated`: there are more than 100,000 events, and `bytes` is what so many have, taken for all; beyond a million
    `events` is an estimate too.
    """

    events: NonNegativeInt
    bytes: NonNegativeInt
    estimated: bool

    model_config = ConfigDict(json_schema_extra={"example": {"events": 20000, "bytes": 3200000, "estimated": False}})

    @classmethod
    def of(cls, counted: Estimate) -> ReplayEstimateAnswer:
        return cls(events=counted.events, bytes=counted.size, estimated=counted.estimated)


class ReplaysAnswer(BaseModel):
    """Newest first. `next_cursor` asks for the following page; null on the last one."""

    replays: list[ReplayAnswer]
    next_cursor: str | None

    model_config = ConfigDict(json_schema_extra={"example": {"replays": [_REPLAY], "next_cursor": None}})


def _members(replay: Replay) -> dict[str, Any]:
    selection, done = replay.order.selection, replay.sent + replay.refused
    nothing_left = 1.0 if replay.state == "done" else 0.0
    return {
        "replay_id": replay.replay_id,
        "target": replay.order.target,
        "state": replay.state,
        "started_at": selection.started_at,
        "ended_at": selection.ended_at,
        "event_type": selection.event_type,
        "user_id": selection.user_id,
        "events_per_second": replay.order.events_per_second,
        "webhook_url": replay.order.webhook_url,
        "requested_at": replay.requested_at,
        "total": replay.total,
        "total_estimated": replay.total_estimated,
        "sent": replay.sent,
        "refused": replay.refused,
        "share": min(1.0, done / replay.total) if replay.total else nothing_left,
        "rate": replay.rate if replay.state == "running" else None,
        "problem": replay.problem,
        "finished_at": replay.finished_at,
    }
