"""Hours, days, weeks and months of a time zone as spans of UTC. Pure arithmetic: no database, no clock.

The rules: a day belongs to the local date, a week to its ISO Monday, a month to its local month, each as long as
the local calendar says. An hour is the time in which the local clock shows the same hour at the same UTC
offset, so the hour that is shown twice in autumn is two. Each bucket is named by its first moment.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from itertools import pairwise
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from zoneinfo import ZoneInfo

QUARTER = timedelta(minutes=15)
"""The width of the stored aggregates, aligned to 1970-01-01T00:00Z."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_SECOND = timedelta(seconds=1)
# Offsets are compared this far apart; the shortest time between two changes is about four weeks (Egypt, 2014).
_PROBE = timedelta(days=7)


class Interval(StrEnum):
    """The width of a trend's buckets, on the local calendar."""

    HOURLY = "hourly"
    DAILY = "daily"
    WEEKLY = "weekly"
    MONTHLY = "monthly"

    @property
    def reach(self) -> timedelta:
        """Longer than any bucket, so that each bucket of a moment begins less than this before it."""
        return {"hourly": timedelta(hours=2), "daily": timedelta(days=3), "weekly": timedelta(days=10)}.get(
            self.value, timedelta(days=35)
        )

    def label(self, local: datetime) -> datetime:
        """What the clock and calendar show at the start of the bucket that holds `local` (without zone)."""
        if self is Interval.HOURLY:
            return local.replace(minute=0, second=0, microsecond=0)
        midnight = local.replace(hour=0, minute=0, second=0, microsecond=0)
        if self is Interval.WEEKLY:
            return midnight - timedelta(days=midnight.weekday())
        return midnight.replace(day=1) if self is Interval.MONTHLY else midnight

    def after(self, label: datetime) -> datetime:
        """The label that follows `label`."""
        if self is Interval.MONTHLY:
            return (label + timedelta(days=31)).replace(day=1)
        if self is Interval.HOURLY:
            return label + timedelta(hours=1)
        return label + timedelta(days=7 if self is Interval.WEEKLY else 1)


@dataclass(frozen=True)
class Span:
    """Time from `started_at` (UTC) on, in which local clocks are `offset` ahead of UTC."""

    started_at: datetime
    offset: timedelta


@dataclass(frozen=True)
class Segments:
    """[started_at, ended_at) cut into pieces that lie in one bucket each.

    Piece i begins at `edges[i]` and belongs to `buckets[bucket_of[i]]`. Both are in order of time; only where a day is
    left and entered again (a clock set back across midnight) has a bucket several pieces.
    """

    edges: tuple[datetime, ...]
    bucket_of: tuple[int, ...]
    buckets: tuple[datetime, ...]


def spans(started_at: datetime, ended_at: datetime, zone: ZoneInfo) -> list[Span]:
    """The spans of one offset that cover [started_at, ended_at), the first beginning at `started_at`."""
    found = [Span(started_at, _offset(started_at, zone))]
    probe = started_at
    while probe < ended_at:
        following = min(probe + _PROBE, ended_at)
        found.extend(Span(moment, _offset(moment, zone)) for moment in _changes(probe, following, zone))
        probe = following
    return [span for span in found if span.started_at < ended_at or span is found[0]]


def segments(started_at: datetime, ended_at: datetime, interval: Interval, zone: ZoneInfo) -> Segments:
    """Cut [started_at, ended_at) into buckets; the first bucket is named by its true start, even before `started_at`.

    Raises:
        OverflowError: a bucket would reach outside the years 0001 to 9999.
    """
    edges: list[datetime] = []
    bucket_of: list[int] = []
    buckets: list[datetime] = []
    by_label: dict[datetime, int] = {}
    starts: dict[datetime, datetime] = {}
    for started, ended, label in _pieces(started_at - interval.reach, ended_at, interval, zone):
        if interval is Interval.HOURLY or label not in starts:
            starts[label] = started
            by_label.pop(label, None)
        if ended <= started_at:
            continue
        if label not in by_label:
            by_label[label] = len(buckets)
            buckets.append(starts[label])
        edges.append(max(started, started_at))
        bucket_of.append(by_label[label])
    return Segments(tuple(edges), tuple(bucket_of), tuple(buckets))


def on_quarter(moments: Iterable[datetime]) -> bool:
    """Whether all `moments` are edges of 15-minute aggregates, so that sums of those are exact between them."""
    return all(floor_quarter(moment) == moment for moment in moments)


def floor_quarter(moment: datetime) -> datetime:
    """The start of the 15-minute aggregate that holds `moment` (UTC)."""
    return moment - (moment - _EPOCH) % QUARTER


def ceil_quarter(moment: datetime) -> datetime:
    """The first edge of a 15-minute aggregate at or after `moment` (UTC)."""
    return moment + (_EPOCH - moment) % QUARTER


def _pieces(
    started_at: datetime, ended_at: datetime, interval: Interval, zone: ZoneInfo
) -> Iterator[tuple[datetime, datetime, datetime]]:
    """(start, end, label) of each stretch of time with one label and one offset, in order."""
    covering = spans(started_at, ended_at, zone)
    ends = [*(span.started_at for span in covering[1:]), ended_at]
    for span, span_end in zip(covering, ends, strict=True):
        at = span.started_at
        label = interval.label((at + span.offset).replace(tzinfo=None))
        while at < span_end:
            following = interval.after(label)
            until = min(following.replace(tzinfo=UTC) - span.offset, span_end)
            yield at, until, label
            at, label = until, following


def _changes(started_at: datetime, ended_at: datetime, zone: ZoneInfo) -> Iterator[datetime]:
    """The moments in (started_at, ended_at] at which the offset changes, found by halving to the second."""
    if _offset(started_at, zone) == _offset(ended_at, zone):
        return
    if ended_at - started_at <= _SECOND:
        yield ended_at.replace(microsecond=0)
        return
    middle = started_at + (ended_at - started_at) / 2
    middle = middle.replace(microsecond=0) if middle.replace(microsecond=0) > started_at else middle
    for left, right in pairwise((started_at, middle, ended_at)):
        yield from _changes(left, right, zone)


def _offset(moment: datetime, zone: ZoneInfo) -> timedelta:
    offset = moment.astimezone(zone).utcoffset()
    assert offset is not None  # noqa: S101  a ZoneInfo always has one
    return offset
