"""What the endpoints should answer, counted event by event with zoneinfo. Shares nothing with `app.reads`."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tests.integration.reads.seeding import Seeded

QUARTER = timedelta(minutes=15)


@dataclass(frozen=True)
class Question:
    started_at: datetime | None
    ended_at: datetime | None
    event_type: str | None
    client_id: str | None
    timezone: str

    def parameters(self) -> dict[str, str]:
        times = {"started_at": self.started_at, "ended_at": self.ended_at}
        texts = {"event_type": self.event_type, "client_id": self.client_id, "timezone": self.timezone}
        said = {name: time.isoformat() for name, time in times.items() if time is not None}
        return said | {name: value for name, value in texts.items() if value is not None}

    def matching(self, events: Sequence[Seeded]) -> list[Seeded]:
        return [
            event
            for event in events
            if (self.started_at is None or event.timestamp >= self.started_at)
            and (self.ended_at is None or event.timestamp < self.ended_at)
            and self.event_type in (None, event.event_type)
            and self.client_id in (None, event.client_id)
        ]


def shown(moment: datetime, interval: str, zone: ZoneInfo) -> Any:
    local = moment.astimezone(zone)
    if interval == "hourly":
        return local.date(), local.hour, local.utcoffset()
    if interval == "daily":
        return local.date()
    return local.isocalendar()[:2] if interval == "weekly" else (local.year, local.month)


def starts(first: datetime, last: datetime, interval: str, zone: ZoneInfo) -> dict[Any, datetime]:
    """What the clock shows → when it began to, for each quarter of an hour from 40 days before `first` to `last`."""
    moment = datetime.fromtimestamp(first.timestamp() // 900 * 900, UTC) - timedelta(days=40)
    begun: dict[Any, datetime] = {}
    while moment <= last:
        begun.setdefault(shown(moment, interval, zone), moment)
        moment += QUARTER
    return begun


def trend(question: Question, events: Sequence[Seeded], interval: str) -> list[dict[str, Any]]:
    matching = question.matching(events)
    zone = ZoneInfo(question.timezone)
    times = [event.timestamp for event in matching]
    if not matching and (question.started_at is None or question.ended_at is None):
        return []
    first = question.started_at or min(times)
    last = question.ended_at - timedelta(microseconds=1) if question.ended_at else max(times)
    if last < first:
        return []
    begun = starts(first, last, interval, zone)
    counts = Counter((begun[shown(event.timestamp, interval, zone)], event.event_type) for event in matching)
    types = [question.event_type] if question.event_type else sorted({event.event_type for event in matching})
    earliest = begun[shown(first, interval, zone)]
    buckets = sorted(start for start in begun.values() if start >= earliest)
    return [
        {"bucket": bucket.strftime("%Y-%m-%dT%H:%M:%SZ"), "event_type": name, "count": counts[bucket, name]}
        for bucket in buckets
        for name in types
    ]


def stats(question: Question, events: Sequence[Seeded], top: int) -> dict[str, Any]:
    matching = question.matching(events)
    zone = ZoneInfo(question.timezone)
    types = Counter(event.event_type for event in matching)
    ranked = sorted(types.items(), key=lambda item: (-item[1], item[0]))[:top]
    peak = None
    if matching:
        times = [event.timestamp for event in matching]
        begun = starts(min(times), max(times), "hourly", zone)
        hours = Counter(begun[shown(time, "hourly", zone)] for time in times)
        hour, count = min(hours.items(), key=lambda item: (-item[1], item[0]))
        peak = {"bucket": hour.strftime("%Y-%m-%dT%H:%M:%SZ"), "count": count}
    return {
        "total": len(matching),
        "by_type": [{"event_type": name, "count": count, "share": count / len(matching)} for name, count in ranked],
        "first_event_at": _text(min((event.timestamp for event in matching), default=None)),
        "last_event_at": _text(max((event.timestamp for event in matching), default=None)),
        "peak_hour": peak,
        "unique_users": len({event.user_id for event in matching} - {None}),
        "timezone": question.timezone,
    }


def _text(moment: datetime | None) -> str | None:
    if moment is None:
        return None
    fraction = f".{moment.microsecond:06}".rstrip("0") if moment.microsecond else ""
    return f"{moment:%Y-%m-%dT%H:%M:%S}{fraction}Z"
