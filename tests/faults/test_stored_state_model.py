"""Rows, aggregates, usage and search index against a simple model, after random sequences of what can happen.

Hypothesis sends, sends again, ends processes and connections around a commit, gives partitions to a second worker,
erases users, retries dead letters and replays to the index. Whatever the sequence, all places hold what the model says.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule, run_state_machine_as_test

from tests.faults.in_process import Kind, When, Worker
from tests.faults.places import in_step, reports
from tests.faults.stored_state import USERS, Model, Sent
from tests.faults.world import World
from tests.system import MadeTenant, System

if TYPE_CHECKING:
    from deploy.local.servers import Endpoints

KINDS: tuple[Kind, ...] = ("store", "index")
SETTLED_WITHIN_SECONDS = 60
MOMENTS = [datetime(2026, 5, 4, 12, minute, second, tzinfo=UTC) for minute, second in ((14, 59), (15, 0), (44, 0))]

TENANTS = st.integers(0, 1)
EVENTS = st.builds(
    Sent,
    number=st.integers(0, 6),
    event_type=st.sampled_from(["a", "b"]),
    timestamp=st.sampled_from(MOMENTS),
    storable=st.sampled_from([True, True, False]),
)
RECORDS = st.lists(EVENTS, min_size=1, max_size=5)


class StoredState(RuleBasedStateMachine):
    """One or two workers of each kind, of which any may have its turn."""

    world: ClassVar[World]

    @initialize(records=st.lists(RECORDS, min_size=4, max_size=6))
    def begin(self, records: list[list[Sent]]) -> None:
        """With something in the log: Hypothesis leaves some rules out of an example, perhaps those that send."""
        self.run = self.world.run
        self.tenants = [self.run(self.world.system.tenant()) for _ in range(2)]
        self.models = [Model(), Model()]
        self.history: list[tuple[int, Sent]] = []
        self.workers: dict[Kind, list[Worker]] = {kind: [self.run(self.world.worker(kind))] for kind in KINDS}
        for number, events in enumerate(records):
            self.send(number % 2, events)

    @rule(tenant=TENANTS, events=RECORDS)
    def send(self, tenant: int, events: list[Sent]) -> None:
        place = self.run(self.world.put(self.tenants[tenant], [event.accepted() for event in events]))
        self.world.did["records sent"] += 1
        for index, event in enumerate(events):
            self.models[tenant].send(event, (*place, index))
            self.history.append((tenant, event))

    @rule(which=st.integers(0, 1000), moment=st.none() | st.sampled_from(MOMENTS))
    def send_again(self, which: int, moment: datetime | None) -> None:
        """An event of before, with the same time or another."""
        if self.history:
            tenant, event = self.history[which % len(self.history)]
            again = Sent(event.number, event.event_type, moment or event.timestamp, event.storable)
            self.send(tenant, [again])

    @rule(kind=st.sampled_from(KINDS), which=st.integers(0, 1), turns=st.integers(1, 3))
    def work(self, kind: Kind, which: int, turns: int) -> None:
        worker = self.workers[kind][which % len(self.workers[kind])]
        for _ in range(turns):
            self.run(worker.turn())

    @rule(kind=st.sampled_from(KINDS), when=st.sampled_from(["before", "after"]))
    def lose_the_connection(self, kind: Kind, when: When) -> None:
        """Around a commit; the worker goes on and has to find out what became of it."""
        self._broken(kind, when)

    @rule(kind=st.sampled_from(KINDS), when=st.sampled_from(["before", "after"]))
    def crash(self, kind: Kind, when: When) -> None:
        """Around a commit; another process begins from what is in PostgreSQL."""
        self._broken(kind, when)
        self.run(self.workers[kind].pop().crash())
        self.workers[kind].append(self.run(self.world.worker(kind)))

    @rule(kind=st.sampled_from(KINDS))
    def rebalance(self, kind: Kind) -> None:
        """A second worker is given the partitions before the first knows; or the first of two is gone."""
        if len(self.workers[kind]) == 1:
            self.workers[kind].append(self.run(self.world.worker(kind)))
            self.world.did["partitions given twice"] += 1
        else:
            self.run(self.workers[kind].pop(0).crash())

    @rule(tenant=TENANTS, user=st.integers(0, USERS - 1), when=st.sampled_from([None, "before", "after"]))
    def erase(self, tenant: int, user: int, when: When | None) -> None:
        """To the end, at which the index worker has passed the cut; a commit may break on the way."""
        recovery = self.world.recovery
        self.run(recovery.ask_to_erase(self.tenants[tenant], f"u{user}"))
        self.models[tenant].erase(f"u{user}")
        deadline = time.monotonic() + SETTLED_WITHIN_SECONDS
        self.world.network.breaks = when
        while self.run(recovery.is_erasing()):
            assert time.monotonic() < deadline, "the erasure does not come to an end"
            self.run(self.workers["index"][-1].turn())
        self.world.network.breaks = None
        self.world.did["users erased"] += 1

    @rule(tenant=TENANTS, which=st.integers(0, 1000), mended=st.booleans())
    def retry_a_letter(self, tenant: int, which: int, *, mended: bool) -> None:
        """One that is open, if the store has come to any: as it is, or mended by an edit."""
        recovery = self.world.recovery
        self.work("store", -1, 3)
        letters = self.run(recovery.open_letters(self.tenants[tenant]))
        if letters:
            letter = letters[which % len(letters)]
            self.run(recovery.retry(self.tenants[tenant], letter, mended=mended))
            self.models[tenant].retry(letter.place, mended=mended)
            self.world.did["letters retried"] += 1

    @rule(tenant=TENANTS)
    def lose_documents_and_replay(self, tenant: int) -> None:
        """What the index has lost of what is stored comes back."""
        recovery = self.world.recovery
        self.run(recovery.lose_documents(self.tenants[tenant]))
        self.run(recovery.replay_to_index(self.tenants[tenant]))
        self.world.did["replays"] += 1

    @rule()
    def compare(self) -> None:
        """Once all is handled, every place holds what the model says."""
        for kind in KINDS:
            self._let_one_finish(kind)
        found = self.run(reports(self.world.system, self.tenants))
        assert in_step(found), found
        for tenant, model in zip(self.tenants, self.models, strict=True):
            self._compare(tenant, model)

    def teardown(self) -> None:
        if hasattr(self, "workers"):
            try:
                self.compare()
            finally:
                for worker in (worker for kind in KINDS for worker in self.workers[kind]):
                    self.run(worker.crash())

    def _broken(self, kind: Kind, when: When) -> None:
        """The last worker's next commit breaks, if it comes to one within a few turns."""
        network = self.world.network
        network.breaks = when
        for _ in range(4):
            if network.breaks == when:
                self.run(self.workers[kind][-1].turn())
        self.world.did["commits broken"] += network.breaks is None
        network.breaks = None

    def _let_one_finish(self, kind: Kind) -> None:
        while len(self.workers[kind]) > 1:
            self.run(self.workers[kind].pop(0).crash())
        deadline = time.monotonic() + SETTLED_WITHIN_SECONDS
        while self.run(self.world.has_work(kind)):
            assert time.monotonic() < deadline, f"the {kind} worker does not come to an end"
            self.run(self.workers[kind][0].turn())

    def _compare(self, tenant: MadeTenant, model: Model) -> None:
        world = self.world
        assert self.run(world.rows(tenant)) == {
            event_id: (row.event_type, row.user_id, row.timestamp) for event_id, row in model.rows.items()
        }
        assert self.run(world.buckets(tenant)) == model.buckets()
        stored, duplicates = self.run(world.usage(tenant))
        assert stored == len(model.rows)
        assert model.duplicates is None or duplicates == model.duplicates
        assert self.run(world.letters(tenant)) == {
            place: (letter.status, letter.attempts) for place, letter in model.letters.items()
        }
        assert self.run(world.indexed(tenant)) == sorted(model.rows)


@pytest.fixture
def world(endpoints: Endpoints, tmp_path: Path) -> Iterator[World]:
    with asyncio.Runner() as runner:
        made = World(runner, runner.run(System.create(endpoints, tmp_path)))
        made.run(made.open())
        try:
            yield made
        finally:
            made.run(made.close())


@pytest.mark.timeout(3600)
def test_whatever_happens_in_between_all_places_hold_what_the_model_says(
    world: World, say: Callable[[str], None], *, long_form: bool
) -> None:
    machine = type("StoredStateHere", (StoredState,), {"world": world})
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=60 if long_form else 6,
            stateful_step_count=40 if long_form else 20,
            deadline=None,
            suppress_health_check=list(HealthCheck),
            # Making a failure smaller takes many more runs: worth it only where there is time.
            phases=list(Phase) if long_form else [Phase.explicit, Phase.reuse, Phase.generate],
        ),
    )
    say(", ".join(f"{count} {what}" for what, count in sorted(world.did.items())))
