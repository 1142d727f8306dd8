"""Cursors visit each hit once; facets, filters and orders say what the events say."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any
from uuid import UUID, uuid4

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from search import execute, verify
from search.cursor import sort_clauses
from search.numbers import sortable
from search.scope import scoped
from tests.integration.search.conftest import UNSHRUNK, Index, row

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

START = datetime(2025, 3, 1, tzinfo=UTC)


async def pages(index: Index, tenant_id: UUID, **parameters: Any) -> AsyncIterator[list[str]]:
    """The event ids of each page, in order, to the end."""
    while True:
        answer = await index.answer(tenant_id, **parameters)
        yield [hit["event_id"] for hit in answer["hits"]]
        if answer["next_cursor"] is None:
            return
        parameters["cursor"] = answer["next_cursor"]


async def visited(index: Index, tenant_id: UUID, **parameters: Any) -> list[str]:
    return [event_id async for page in pages(index, tenant_id, **parameters) for event_id in page]


@settings(phases=UNSHRUNK, max_examples=12, deadline=None)
@given(
    st.lists(
        st.tuples(st.text("aé件\U0001f600", min_size=1, max_size=3), st.integers(0, 3), st.integers(1, 3)),
        unique_by=lambda each: each[0],
        min_size=1,
        max_size=40,
    ),
    st.integers(1, 9),
    st.sampled_from(["relevance", "newest", "oldest"]),
)
async def test_pages_together_are_each_hit_once_and_in_order(
    index: Index, events: list[tuple[str, int, int]], limit: int, sort: str
) -> None:
    tenant_id = uuid4()
    # Microseconds apart or at the same moment, with the word once or more: every kind of tie.
    rows = [
        row(tenant_id, {"s": "word " * often}, event_id=event_id, timestamp=START + timedelta(microseconds=moment))
        for event_id, moment, often in events
    ]
    await index.write(rows)
    got = await visited(index, tenant_id, q="word", sort=sort, limit=limit)
    assert sorted(got) == sorted(event_id for event_id, _, _ in events)
    if sort != "relevance":
        sign = -1 if sort == "newest" else 1
        assert got == [e for e, moment, _ in sorted(events, key=lambda each: (sign * each[1], each[0].encode()))]


@pytest.mark.parametrize("sort", ["newest", "oldest"])
async def test_events_that_arrive_meanwhile_make_no_duplicate_and_no_gap(index: Index, sort: str) -> None:
    tenant_id = uuid4()
    moments = [START + timedelta(seconds=n) for n in range(20)]
    await index.write([row(tenant_id, event_id=f"early{n}", timestamp=at) for n, at in enumerate(moments)])
    seen: list[str] = []
    async for page in pages(index, tenant_id, sort=sort, limit=3):
        await index.write([row(tenant_id, event_id=f"late{len(seen)}-{n}", timestamp=moments[n]) for n in (0, 10, 19)])
        seen += page
    assert len(seen) == len(set(seen))
    assert {event_id for event_id in seen if event_id.startswith("early")} == {f"early{n}" for n in range(20)}


async def test_the_last_page_has_no_cursor_even_when_it_is_full(index: Index) -> None:
    tenant_id = await index.holding(*({} for _ in range(6)))
    assert [len(page) async for page in pages(index, tenant_id, limit=3)] == [3, 3]


async def test_filters_times_and_facets_count_what_is_there(index: Index) -> None:
    tenant_id = uuid4()
    rows = [
        row(tenant_id, event_type=f"t{n % 3}", user_id=None if n % 4 == 0 else f"u{n % 4}", client_id=f"c{n % 2}",
            timestamp=START + timedelta(microseconds=n))
        for n in range(60)
    ]  # fmt: skip
    await index.write(rows)
    answer = await index.answer(tenant_id, limit=1)
    assert answer["total"] == 60
    for name in ("event_type", "client_id", "user_id"):
        counted = {each["value"]: each["count"] for each in answer["facets"][name]}
        assert counted == Counter(each[name] for each in rows if each[name] is not None)
    answer = await index.answer(
        tenant_id, event_type="t1", client_id="c0", user_id="u2", limit=100,
        started_at="2025-03-01T00:00:00.00001Z", ended_at="2025-03-01T00:00:00.000046Z",
    )  # fmt: skip
    expected = [n for n in range(10, 46) if n % 3 == 1 and n % 2 == 0 and n % 4 == 2]
    assert [hit["timestamp"] for hit in reversed(answer["hits"])] == [
        f"2025-03-01T00:00:00.{n:06}".rstrip("0") + "Z" for n in expected
    ]
    assert answer["total"] == len(expected)


async def test_a_range_over_numbers_in_metadata_is_numeric(index: Index) -> None:
    amounts = [-100, -9.5, -1, 0, 0.001, 2, 9, 10, 99, 100, 1e30]
    tenant_id = await index.holding(*({"order": {"amount": amount}} for amount in amounts))
    for low, high in [(-10, 2), (9, 100), (-1e300, -1), (0, 0), (10.5, 1e31)]:
        span = {"range": {"numbers.order.amount": {"gte": sortable(low), "lte": sortable(high)}}}
        scope = scoped(tenant_id, filters=[span], size=50, sort=sort_clauses("newest"))
        answer = await execute.search(index.client, index.prefix, scope)
        found = {amounts[int(hit.source.event_id)] for hit in answer.hits.hits}
        assert found == {amount for amount in amounts if low <= amount <= high}


async def test_verification_reads_every_id_in_order_and_counts_by_hour_of_receipt(
    index: Index, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(execute, "PAGE", 7)
    monkeypatch.setattr(verify, "_PAGE_OF_HOURS", 3)
    tenant_id, other = uuid4(), uuid4()
    hours = [datetime(2025, 3 + n % 2, 1, n, 59, tzinfo=UTC) for n in range(20)]
    ids = [f"{'aé件😀'[n % 4]}{n}" for n in range(20)]
    await index.write([row(tenant_id, event_id=e, received_at=at) for e, at in zip(ids, hours, strict=True)])
    await index.write([row(other) for _ in range(30)])
    found = [event_id async for event_id in verify.iter_event_ids(index.client, index.prefix, tenant_id)]
    assert found == sorted(ids, key=str.encode)
    assert await verify.tenant_total(index.client, index.prefix, tenant_id) == 20
    assert await verify.totals_by_hour(index.client, index.prefix, tenant_id) == {
        at.replace(minute=0): 1 for at in hours
    }


async def test_verification_sees_an_event_that_is_in_two_slices_twice(index: Index) -> None:
    tenant_id = uuid4()
    twice = [row(tenant_id, event_id="e", received_at=datetime(2025, month, 1, tzinfo=UTC)) for month in (3, 4)]
    await index.write(twice)
    assert [each async for each in verify.iter_event_ids(index.client, index.prefix, tenant_id)] == ["e", "e"]


async def test_before_the_first_event_nothing_is_found(own_index: Index) -> None:
    tenant_id = uuid4()
    answer = await own_index.answer(tenant_id, q="x")
    assert (answer["total"], answer["hits"], answer["next_cursor"]) == (0, [], None)
    assert await verify.tenant_total(own_index.client, own_index.prefix, tenant_id) == 0
    assert await verify.totals_by_hour(own_index.client, own_index.prefix, tenant_id) == {}
    assert [each async for each in verify.iter_event_ids(own_index.client, own_index.prefix, tenant_id)] == []
    await execute.refresh(own_index.client, own_index.prefix)
