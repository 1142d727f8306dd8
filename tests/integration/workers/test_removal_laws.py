"""Whatever is stored, erased and expires, in any order: all places agree, and what was counted still adds up."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deploy.local.servers import Endpoints
from tests.integration.workers.removing import Sent, Site
from tests.system import System

DAYS = 30
AGES = (-1, 0, 1, 24 * (DAYS - 1), 24 * (DAYS + 1), 24 * (DAYS + 40))
"""Hours ago. The first is ahead: received after any cut."""


class Played(NamedTuple):
    event_id: str
    age: int
    user_id: str | None
    event_type: str
    client_id: str


@dataclass
class Model:
    """What should be there: events by id, how many are counted, and usage as stored and removed."""

    stored: dict[str, Played] = field(default_factory=dict)
    erased: set[str] = field(default_factory=set)
    counted: int = 0
    used: int = 0
    removed: int = 0

    def store(self, batch: Sequence[Played]) -> None:
        for each in batch:
            suppressed = each.user_id in self.erased and each.age >= 0
            if not suppressed and each.event_id not in self.stored:
                self.stored[each.event_id] = each
                self.counted += 1
                self.used += 1

    def erase(self, user_id: str) -> None:
        self.erased.add(user_id)
        self.counted -= self._remove({key for key, x in self.stored.items() if x.user_id == user_id and x.age >= 0})

    def expire(self) -> None:
        self._remove({key for key, x in self.stored.items() if x.age > 24 * DAYS})

    def _remove(self, gone: set[str]) -> int:
        self.stored = {key: x for key, x in self.stored.items() if key not in gone}
        self.removed += len(gone)
        return len(gone)


events = st.builds(
    Played,
    st.sampled_from("abcdefghijkl"),
    st.sampled_from(AGES),
    st.sampled_from(["u", "v", None]),
    st.sampled_from(["click", "view"]),
    st.sampled_from(["first", "second"]),
)
actions = st.one_of(st.lists(events, min_size=1, max_size=8), st.sampled_from(["u", "v", "expire"]))


@pytest.fixture(scope="module")
def system_of_laws(endpoints: Endpoints, tmp_path_factory: pytest.TempPathFactory) -> System:
    return asyncio.run(System.create(endpoints, tmp_path_factory.mktemp("laws")))


@settings(max_examples=12)
@given(played=st.lists(actions, min_size=1, max_size=8))
def test_after_storing_erasing_and_expiring_in_any_order_every_place_agrees_with_a_simple_model(
    system_of_laws: System, played: Sequence[str | list[Played]]
) -> None:
    async def play() -> None:
        model = Model()
        now = datetime.now(UTC)
        async with Site.of(system_of_laws) as site:
            tenant_id = await site.tenant(retention_days=DAYS)
            for action in played:
                if isinstance(action, list):
                    model.store(action)
                    await site.store(
                        tenant_id,
                        [
                            Sent(
                                x.event_id, now - timedelta(hours=x.age), x.user_id, x.event_type, client_id=x.client_id
                            )
                            for x in action
                        ],
                    )
                elif action == "expire":
                    model.expire()
                    await site.expire()
                else:
                    model.erase(action)
                    told = await site.erase(tenant_id, action)
                    assert told.deleted.get("events", 0) == told.deleted.get("search", 0)
            assert await site.stored(tenant_id) == sorted(model.stored)
            assert await site.found(tenant_id) == sorted(model.stored)
            assert await site.counted(tenant_id) == model.counted
            assert await site.usage(tenant_id) == (model.used, model.removed)
            report = await site.verify(tenant_id)
            assert report.agrees, report

    asyncio.run(play())
