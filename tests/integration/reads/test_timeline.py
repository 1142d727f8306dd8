"""The timeline: one user's events in order, each exactly once over all pages, and no one else's."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import pytest

from app.reads.answers import TimelineAnswer
from tests.integration.reads.seeding import Seeded, scattered, seeded

if TYPE_CHECKING:
    from tests.integration.reads.conftest import Reader

START = datetime(2026, 3, 8, tzinfo=UTC)
RANGE = {"started_at": "2026-03-01", "ended_at": "2026-03-20"}


async def pages(reader: Reader, path: str, **parameters: Any) -> list[list[dict[str, Any]]]:
    answers = []
    cursor: dict[str, str] = {}
    while True:
        answer = await reader.get(path, **parameters, **cursor)
        TimelineAnswer.model_validate(answer)
        answers.append(answer["events"])
        if answer["next_cursor"] is None:
            return answers
        cursor = {"cursor": answer["next_cursor"]}


def ordered(events: list[Seeded], user_id: str) -> list[str]:
    own = [event for event in events if event.user_id == user_id]
    return [event.event_id for event in sorted(own, key=lambda event: (event.timestamp, event.event_id))]


@pytest.mark.parametrize("limit", [1, 7, 100])
async def test_pages_hold_each_event_once_oldest_first(reader: Reader, limit: int) -> None:
    events = scattered(seeded(limit), START, 60, days=2)
    # Ties in time are ordered by the bytes of the event id.
    events += [Seeded(START, event_id=name) for name in ("b", "a", "B", "é", "事", "a-1", "~")]
    await reader.store(events)
    found = await pages(reader, "user/u1", limit=limit, **RANGE)
    assert [event["event_id"] for page in found for event in page] == ordered(events, "u1")
    assert all(len(page) == limit for page in found[:-1])
    assert len(found) == max(1, -(-len(ordered(events, "u1")) // limit))


async def test_an_event_is_answered_with_microseconds_and_its_metadata(reader: Reader) -> None:
    metadata = {"text": '修复 "q" \\ \u2028', "n": 1.5, "deep": {"list": [None, True, {"a": []}]}}
    await reader.store([Seeded(START + timedelta(microseconds=120), event_id="e", metadata=metadata)])
    assert await reader.get("user/u1", **RANGE) == {
        "events": [
            {"event_id": "e", "event_type": "click", "timestamp": "2026-03-08T00:00:00.00012Z", "metadata": metadata}
        ],
        "next_cursor": None,
    }


async def test_the_range_includes_its_start_and_excludes_its_end_and_filters_hold(reader: Reader) -> None:
    end = START + timedelta(hours=1)
    edge = timedelta(microseconds=1)
    await reader.store([Seeded(at, event_id=str(at)) for at in (START - edge, START, end - edge, end)])
    await reader.store([Seeded(START, "view", event_id="v"), Seeded(START, client_id="c2", event_id="c")])
    span = {"started_at": "2026-03-08", "ended_at": "2026-03-08T01:00:00Z"}
    click = await reader.get("user/u1", event_type="click", clientId="c1", **span)
    assert [event["event_id"] for event in click["events"]] == [str(START), str(end - edge)]
    assert [event["event_id"] for event in (await reader.get("user/u1", name="view", **span))["events"]] == ["v"]


async def test_by_default_it_shows_today_and_the_days_after(reader: Reader) -> None:
    now = datetime.now(UTC)
    today = now.replace(hour=0, minute=0, second=0, microsecond=0)
    times = [today - timedelta(microseconds=1), today, now, now + timedelta(hours=23), today + timedelta(days=30)]
    await reader.store([Seeded(at, event_id=str(at)) for at in times])
    found = [event["event_id"] for event in (await reader.get("user/u1"))["events"]]
    if datetime.now(UTC).date() == now.date():  # else midnight came between, and today is another day
        assert found == [str(at) for at in times[1:4]]


async def test_a_cursor_keeps_the_range_of_its_first_page(reader: Reader) -> None:
    now = datetime.now(UTC)
    await reader.store([Seeded(now + timedelta(seconds=second), event_id=f"e{second}") for second in range(3)])
    first = await reader.get("user/u1", limit=2)
    second = await reader.get("user/u1", limit=1000, cursor=first["next_cursor"])
    assert [event["event_id"] for event in first["events"] + second["events"]] == ["e0", "e1", "e2"]


@pytest.mark.parametrize("user_id", ["ü/4", "a b?&#+%", "../admin", "用户", ".", "u1/"])
async def test_any_user_id_can_be_asked_for(reader: Reader, user_id: str) -> None:
    await reader.store([Seeded(START, user_id=user_id, event_id="own"), Seeded(START, user_id="u1")])
    # A path of dots alone would be taken out of the URL before it is sent.
    path = "%2E" if user_id == "." else quote(user_id, safe="")
    found = await reader.get(f"user/{path}", **RANGE)
    assert [event["event_id"] for event in found["events"]] == ["own"]


async def test_a_page_of_large_events_ends_early_and_the_next_goes_on(reader: Reader) -> None:
    large = {"text": "x" * 65_000}
    events = [Seeded(START + timedelta(seconds=n), event_id=f"{n:03}", metadata=large) for n in range(150)]
    await reader.store(events)
    found = await pages(reader, "user/u1", limit=1000, **RANGE)
    assert [event["event_id"] for page in found for event in page] == [event.event_id for event in events]
    assert len(found) == 3
    assert all(len(page) * 65_000 < 5 * 2**20 for page in found)


async def test_cursors_of_another_question_and_changed_ones_are_refused(readers: tuple[Reader, Reader]) -> None:
    mine, others = readers
    for reader in readers:
        await reader.store([Seeded(START, event_id=f"e{n}", user_id=user) for n, user in enumerate(["u1", "u1", "u2"])])
    cursor = (await mine.get("user/u1", limit=1, **RANGE))["next_cursor"]
    assert (await mine.get("user/u1", cursor=cursor, **RANGE))["events"][0]["event_id"] == "e1"
    refused = (422, ["/query/cursor"])
    assert await others.problem("user/u1", cursor=cursor, **RANGE) == refused
    assert await mine.problem("user/u2", cursor=cursor, **RANGE) == refused
    assert await mine.problem("user/u1", cursor=cursor, started_at="2026-03-02", ended_at="2026-03-20") == refused
    assert await mine.problem("user/u1", cursor=cursor) == refused
    assert await mine.problem("user/u1", cursor=cursor, event_type="click", **RANGE) == refused
    for changed in (cursor[:-1], cursor + "A", cursor.swapcase(), "", "é", "A" * 5000):
        assert await mine.problem("user/u1", cursor=changed, **RANGE) == refused


async def test_a_tenant_never_sees_anothers_timeline(readers: tuple[Reader, Reader]) -> None:
    mine, others = readers
    await mine.store([Seeded(START, event_id="same")])
    await others.store([Seeded(START, event_id="same"), Seeded(START, event_id="other")])
    assert [event["event_id"] for event in (await mine.get("user/u1", **RANGE))["events"]] == ["same"]
    assert (await mine.get("user/u2", **RANGE))["events"] == []
