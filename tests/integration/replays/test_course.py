"""A replay's course: paused, resumed, cancelled, hindered, failed, given up by a killed worker, sharing turns."""

from __future__ import annotations

import asyncio
from uuid import UUID, uuid4

import httpx
import pytest

from app.database import create_engine
from app.events.users import user_hash
from app.settings import ReplaySettings
from app.webhooks.delivery import Deliveries
from tests.integration.replays.pieces import FIRST, REPLAYS, Pieces, moved, shown, started, stored
from tests.integration.replays.receiver import Receiver
from tests.system import MadeTenant, System, until
from workers.erasure_receipt import Job, finish
from workers.replay import Replays
from workers.replay_claims import claim
from workers.replay_targets import MOST_REFUSALS


async def test_pausing_takes_effect_within_a_piece_and_waits_for_nobody(
    system: System, tenant: MadeTenant, http: httpx.AsyncClient, pieces: Pieces, receiver: Receiver
) -> None:
    sent = await stored(system, tenant, http, 250)
    replay = await started(http, "webhook", webhook_url=receiver.url)
    receiver.held.clear()
    piece = asyncio.create_task(pieces.one())

    async def asked() -> int:
        return len(receiver.got)

    await until(asked, (1).__eq__)
    paused = await moved(http, replay, "pause")
    assert not piece.done(), "pausing must not wait for a webhook that thinks"
    assert (paused.status_code, paused.json()["state"], paused.json()["sent"]) == (200, "paused", 0)
    receiver.held.set()
    assert await piece
    assert not await pieces.one()
    assert ((await shown(http, replay))["state"], (await shown(http, replay))["sent"]) == ("paused", 100)
    assert (await moved(http, replay, "pause")).status_code == 200

    assert (await moved(http, replay, "resume")).json()["state"] == "running"
    assert (await pieces.all(http, replay))["state"] == "done"
    assert receiver.events() == sent
    for how in ("pause", "resume", "cancel"):
        assert (await moved(http, replay, how)).status_code == 409


async def test_a_cancelled_replay_sends_no_more_and_says_how_far_it_came(
    system: System, tenant: MadeTenant, http: httpx.AsyncClient, pieces: Pieces, receiver: Receiver
) -> None:
    await stored(system, tenant, http, 150)
    replay = await started(http, "webhook", webhook_url=receiver.url)
    assert await pieces.one()
    ended = (await moved(http, replay, "cancel")).json()
    assert (ended["state"], ended["sent"], ended["total"]) == ("cancelled", 100, 150)
    assert ended["finished_at"] is not None
    assert not await pieces.one()
    assert (await moved(http, replay, "resume")).status_code == 409
    assert (await moved(http, replay, "cancel")).json() == ended
    assert len(receiver.got) == 1


async def test_a_paused_stream_of_ndjson_is_refused_and_goes_on_when_resumed(
    system: System, tenant: MadeTenant, http: httpx.AsyncClient
) -> None:
    await stored(system, tenant, http, 3)
    replay = await started(http, "ndjson")
    await moved(http, replay, "pause")
    path = f"{REPLAYS}/{replay['replay_id']}/events"
    assert (await http.get(path)).status_code == 409
    await moved(http, replay, "resume")
    assert len((await http.get(path)).text.splitlines()) == 3


async def test_a_stream_that_is_paused_while_it_is_read_is_cut_off_between_two_lines(
    system: System, tenant: MadeTenant, http: httpx.AsyncClient
) -> None:
    text = {"text": "x" * 60_000}
    sent = [each for _ in range(2) for each in await stored(system, tenant, http, 100, metadata=text)]
    replay = await started(http, "ndjson")
    path = f"{REPLAYS}/{replay['replay_id']}/events"
    read = b""
    with pytest.raises(httpx.RemoteProtocolError):
        async with http.stream("GET", path) as answer:
            async for some in answer.aiter_bytes():
                if not read:
                    assert (await moved(http, replay, "pause")).status_code == 200
                read += some
    assert read.endswith(b"\n")
    count = read.count(b"\n")
    assert count < len(sent)
    await moved(http, replay, "resume")
    rest = await http.get(path, params={"after": sent[count - 1]})
    assert count + len(rest.text.splitlines()) == len(sent)


async def test_what_a_killed_worker_was_sending_is_sent_again_with_the_same_id_once_its_claim_has_ended(
    system: System, tenant: MadeTenant, http: httpx.AsyncClient, pieces: Pieces, receiver: Receiver,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setattr("workers.replay_claims.LEASE_SECONDS", 2.0)
    sent = await stored(system, tenant, http, 150)
    replay = await started(http, "webhook", webhook_url=receiver.url)
    # Delivered, and then no more was heard of that worker.
    claimed = await claim(pieces.replays._jobs, ["webhook"])
    assert claimed is not None
    await pieces.replays._send(claimed)
    assert not await pieces.one(), "it is still that worker's"
    await until(pieces.one, bool)
    assert (await pieces.all(http, replay))["sent"] == 150
    ids = receiver.ids()
    assert ids[0] == ids[1] != ids[2]
    assert receiver.events() == sent[:100] + sent


async def test_a_worker_whose_claim_was_lost_moves_nothing(
    system: System, tenant: MadeTenant, http: httpx.AsyncClient, pieces: Pieces, receiver: Receiver
) -> None:
    await stored(system, tenant, http, 50)
    replay = await started(http, "webhook", webhook_url=receiver.url)
    receiver.held.clear()
    slow = asyncio.create_task(pieces.one())

    async def asked() -> int:
        return len(receiver.got)

    await until(asked, (1).__eq__)
    await pieces.at_once()
    other = await claim(pieces.replays._jobs, ["webhook"])
    receiver.held.set()
    assert await slow
    assert other is not None
    found = await shown(http, replay)
    assert (found["state"], found["sent"]) == ("running", 0)


async def test_a_worker_that_is_killed_is_followed_by_another_and_nothing_is_left_out(
    system: System, tenant: MadeTenant, http: httpx.AsyncClient, receiver: Receiver
) -> None:
    sent = await stored(system, tenant, http, 150)
    replay = await started(http, "webhook", webhook_url=receiver.url, events_per_second=50)
    await system.start("replay")

    async def asked() -> int:
        return len(receiver.got)

    await until(asked, lambda seen: seen >= 2)
    system.kill("replay")
    assert (await shown(http, replay))["state"] == "running"
    # How long a claim lasts is shown above.
    await system.fetch("update replays set leased_until = null where replay_id = $1", replay["replay_id"])
    await system.start("replay-2")
    try:
        await until(lambda: shown(http, replay), lambda seen: seen["state"] == "done", seconds=60)
        following = system.processes["replay-2"]
        following.terminate()
        assert await asyncio.to_thread(following.wait, 30) == 0
    finally:
        system.kill("replay-2")
    assert list(dict.fromkeys(receiver.events())) == sent
    assert (await shown(http, replay))["sent"] == 150


async def test_a_webhook_that_is_away_is_tried_again_with_the_same_id_and_the_job_says_why(
    system: System, tenant: MadeTenant, http: httpx.AsyncClient, pieces: Pieces, receiver: Receiver
) -> None:
    sent = await stored(system, tenant, http, 20)
    replay = await started(http, "webhook", webhook_url=receiver.url)
    receiver.refuse(503, 500, retry_after="120")
    assert await pieces.one()
    found = await shown(http, replay)
    assert (found["state"], found["sent"], found["problem"]) == ("running", 0, "The webhook answers 503.")
    assert not await pieces.one(), "not before it has waited"
    (row,) = await system.fetch(
        "select extract(epoch from due_at - now()) as s, attempts from replays where replay_id = $1",
        replay["replay_id"],
    )
    assert 60 < row["s"] <= 120, "as long as it was asked to"
    assert row["attempts"] == 1
    await moved(http, replay, "pause")
    await moved(http, replay, "resume")
    done = await pieces.all(http, replay)
    assert (done["state"], done["problem"]) == ("done", None)
    assert len(receiver.got) == 3
    assert len(set(receiver.ids())) == 1
    assert receiver.events() == sent * 3


async def test_whatever_is_wrong_with_one_replay_is_said_and_the_others_go_on(
    system: System, tenant: MadeTenant, http: httpx.AsyncClient, pieces: Pieces, receiver: Receiver,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    await stored(system, tenant, http, 5)
    bad = await started(http, "webhook", webhook_url=receiver.url)
    monkeypatch.setattr("workers.replay.WEBHOOK_EVENTS", -5)  # PostgreSQL refuses such a limit
    good = await started(http, "kafka")
    assert await pieces.one()
    assert await pieces.one()
    assert ((await shown(http, bad))["state"], (await shown(http, good))["state"]) == ("running", "done")
    assert (await shown(http, bad))["problem"] == "The database does not answer."
    monkeypatch.setattr("workers.replay_targets.message", None)
    monkeypatch.setattr("workers.replay.WEBHOOK_EVENTS", 100)
    await pieces.at_once()
    assert await pieces.one()
    assert (await shown(http, bad))["problem"] == "Something went wrong here; it is tried again."
    monkeypatch.undo()
    assert (await pieces.all(http, bad))["state"] == "done"


@pytest.mark.parametrize(("statuses", "reason"), [([410], "410"), ([403] * MOST_REFUSALS, "403")])
async def test_a_webhook_that_will_not_is_believed_at_once_or_after_some_tries(
    system: System, tenant: MadeTenant, http: httpx.AsyncClient, pieces: Pieces, receiver: Receiver,
    statuses: list[int], reason: str,
) -> None:  # fmt: skip
    await stored(system, tenant, http, 5)
    replay = await started(http, "webhook", webhook_url=receiver.url)
    receiver.refuse(*statuses)
    failed = await pieces.all(http, replay)
    assert failed["state"] == "failed"
    assert reason in failed["problem"]
    assert len(receiver.got) == len(statuses)
    assert (await moved(http, replay, "resume")).status_code == 409


async def test_a_redirect_is_not_followed(
    system: System, tenant: MadeTenant, http: httpx.AsyncClient, pieces: Pieces, receiver: Receiver
) -> None:
    await stored(system, tenant, http, 5)
    replay = await started(http, "webhook", webhook_url=receiver.url)
    receiver.refuse(307, location=receiver.url)
    assert await pieces.one()
    assert len(receiver.got) == 1
    assert (await shown(http, replay))["problem"] == "The webhook answers 307."


async def test_a_name_that_leads_into_a_private_network_fails_the_replay_without_a_call(
    system: System, tenant: MadeTenant, http: httpx.AsyncClient, receiver: Receiver
) -> None:
    async def resolver(_host: str, _port: int) -> list[str]:
        return ["93.184.215.14", "127.0.0.1"]

    await stored(system, tenant, http, 5)
    url = receiver.url.replace("http:", "https:").replace("127.0.0.1", "hooks.example.com")
    replay = await started(http, "webhook", webhook_url=url)
    deliveries = Deliveries((), resolver=resolver)
    async with Replays(system.settings(ReplaySettings), deliveries=deliveries) as replays:
        failed = await Pieces(system, replays).all(http, replay)
    assert failed["state"] == "failed"
    assert failed["problem"] == "The URL is refused: hooks.example.com is not on the public internet."
    assert receiver.got == []


async def test_replays_take_turns_and_one_with_a_pace_waits(
    system: System, http: httpx.AsyncClient, tenant: MadeTenant, pieces: Pieces, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("workers.replay.PAGE_EVENTS", 10)
    other = await system.tenant()
    async with system.client(other) as theirs:
        await stored(system, tenant, http, 40)
        await stored(system, other, theirs, 40)
        mine = [await started(http, "kafka"), await started(http, "kafka")]
        of_other = await started(theirs, "kafka")
        paced = await started(theirs, "kafka", events_per_second=5)
        for _ in range(4):
            assert await pieces.one("kafka")
        sent = [(await shown(http, each))["sent"] for each in mine]
        assert sent == [10, 10]
        assert (await shown(theirs, of_other))["sent"] == 10
        assert (await shown(theirs, paced))["sent"] == 5
        for _ in range(3):
            assert await pieces.one("kafka")
        assert (await shown(theirs, paced))["sent"] == 5, "not before its second is over"
        assert (await shown(theirs, paced))["problem"] is None


async def test_a_user_who_is_being_erased_does_not_come_back_into_the_index(
    system: System, tenant: MadeTenant, http: httpx.AsyncClient, pieces: Pieces
) -> None:
    await stored(system, tenant, http, 9)
    await system.fetch(
        "insert into erasures (tenant_id, user_hash, user_id) values ($1, sha256('u1'), 'u1')", tenant.tenant_id
    )
    done = await pieces.all(http, await started(http, "index"))
    assert (done["state"], done["sent"]) == ("done", 6)


async def test_an_erasure_that_ends_takes_the_replays_of_its_user_along(
    system: System, tenant: MadeTenant, http: httpx.AsyncClient
) -> None:
    kept, gone = await started(http, "ndjson", user_id="u2"), await started(http, "ndjson", user_id="ü1")
    tenant_id, erasure_id = UUID(tenant.tenant_id), uuid4()
    await system.fetch(
        "insert into erasures (tenant_id, erasure_id, user_hash, user_id, step) values ($1, $2, $3, 'ü1', 'verify')",
        tenant_id, erasure_id, user_hash(tenant_id, "ü1"),
    )  # fmt: skip
    engine = create_engine(system.settings(ReplaySettings).postgres_auth_url.get_secret_value(), pool_size=1)
    try:
        assert await finish(engine, Job(tenant_id, erasure_id, FIRST, "verify", None), None)
    finally:
        await engine.dispose()
    assert (await http.get(f"{REPLAYS}/{gone['replay_id']}")).status_code == 404
    assert (await shown(http, kept))["state"] == "running"


async def test_the_replays_of_a_suspended_tenant_stand_still(
    system: System, tenant: MadeTenant, http: httpx.AsyncClient, pieces: Pieces
) -> None:
    await stored(system, tenant, http, 5)
    replay = await started(http, "kafka")
    await system.fetch("update tenants set status = 'suspended' where tenant_id = $1", tenant.tenant_id)
    assert not await pieces.one()
    await system.fetch("update tenants set status = 'active' where tenant_id = $1", tenant.tenant_id)
    assert await pieces.one()
    (row,) = await system.fetch("select state from replays where replay_id = $1", replay["replay_id"])
    assert row["state"] == "done"
