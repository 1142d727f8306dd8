"""`sluice events import` against the running system: what it counts, what it says, how it ends."""

from __future__ import annotations

import asyncio
import gzip
import json
import os
import subprocess
from pathlib import Path

import pytest

from tests.integration.imports.command import Importer, written
from tests.system import System, until

EVENTS = 3_000


async def test_a_file_counts_once_however_often_and_in_whatever_form_it_is_imported(
    system: System, tmp_path: Path
) -> None:
    tenant = await system.tenant()
    importer = Importer(system, tenant)
    plain = written(tmp_path / "a.jsonl", EVENTS)
    packed = tmp_path / "other-name"
    packed.write_bytes(gzip.compress(plain.read_bytes()))

    first = await asyncio.to_thread(importer.run, plain, "--json")
    assert (first.status, first.err) == (0, "")
    assert {"read": EVENTS, "accepted": EVENTS, "rejected": 0, "rejections": []}.items() <= first.result.items()
    assert (first.result["interrupted"], first.result["failure"]) == (False, None)
    assert first.result["events_per_second"] == pytest.approx(EVENTS / first.result["seconds"], rel=0.01)
    await until(lambda: system.counted(tenant), lambda count: count == EVENTS)

    assert (await asyncio.to_thread(importer.run, packed, plain)).status == 0
    assert (await asyncio.to_thread(importer.run, "-", given=plain.read_text())).status == 0
    # One event behind all of them, from the same tenant and so in the same partition, shows that they are worked off.
    assert (await asyncio.to_thread(importer.run, "-", given='{"event_type":"last"}\n')).status == 0
    await until(lambda: system.counted(tenant), lambda count: count == EVENTS + 1)


async def test_a_git_history_can_be_asked_for_and_grows(system: System, tmp_path: Path) -> None:
    tenant = await system.tenant()
    importer = Importer(system, tenant)
    environ = os.environ | {
        "GIT_CONFIG_GLOBAL": os.devnull,
        **{f"GIT_{who}_{what}": "a@b.c" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")},
    }

    def git(*arguments: str) -> None:
        subprocess.run(["git", *arguments], cwd=tmp_path, env=environ, check=True, capture_output=True)

    git("init")
    for subject in ("feat: one", "fix: two", "three"):
        git("commit", "--allow-empty", "-m", subject)
    assert (await asyncio.to_thread(importer.run, "--git", tmp_path)).out.startswith("3 events read, 3 accepted, 0 rej")
    git("commit", "--allow-empty", "-m", "feat: four")
    assert (await asyncio.to_thread(importer.run, "--git", tmp_path)).status == 0
    await until(lambda: system.counted(tenant), lambda count: count == 4)
    rows = await system.fetch(
        "select event_type, count(*) from events where tenant_id = $1 group by 1 order by 1", tenant.tenant_id
    )
    assert [tuple(row) for row in rows] == [("commit.feat", 2), ("commit.fix", 1), ("commit.other", 1)]


async def test_rejected_lines_are_named_with_file_line_pointer_and_reason(system: System, tmp_path: Path) -> None:
    tenant = await system.tenant()
    path = tmp_path / "mixed.jsonl"
    good = '{"event_type": "a"}'
    early = '{"event_id": "x", "event_type": "a", "timestamp": "1969-12-31T23:59:59Z"}'
    path.write_text(f'{good}\n{{"event_type": ""}}\n\nno json\n{good}\n{early}')
    # Batches of two: verdicts have to find their lines in each.
    done = await asyncio.to_thread(Importer(system, tenant).run, path, "--batch", "2")
    assert done.status == 1
    summary, *named = done.out.splitlines()
    assert summary.startswith("5 events read, 2 accepted, 3 rejected in ")
    assert named == [
        f"  {path}:2 /event_type must have 1 to 200 characters, has 0",
        f"  {path}:4 is not JSON: invalid character (byte 4)",
        f"  {path}:6 /timestamp is before 1970-01-01",
    ]
    result = (await asyncio.to_thread(Importer(system, tenant).run, path, "--json")).result
    assert result["rejections"][2] == {
        "source": str(path),
        "line": 6,
        "event_id": "x",
        "errors": [{"pointer": "/timestamp", "detail": "is before 1970-01-01"}],
    }
    await until(lambda: system.counted(tenant), lambda count: count == 2)


async def test_ten_rejected_lines_are_shown_and_a_thousand_listed(system: System, tmp_path: Path) -> None:
    importer = Importer(system, await system.tenant())
    path = tmp_path / "bad"
    path.write_text('{"event_type": 1}\n' * 1200)
    done = await asyncio.to_thread(importer.run, path)
    assert done.status == 1
    assert len(done.out.splitlines()) == 12
    assert done.out.endswith("and 1,190 more; --json names up to 1,000\n")
    result = (await asyncio.to_thread(importer.run, path, "--json")).result
    assert (result["rejected"], len(result["rejections"])) == (1200, 1000)


async def test_a_slow_tenant_is_waited_for_and_its_small_bucket_respected(system: System, tmp_path: Path) -> None:
    tenant = await system.tenant(rate=200, burst=200)
    path = written(tmp_path / "a", 900)
    done = await asyncio.to_thread(Importer(system, tenant).run, path, "--json")
    assert done.status == 0, done.err
    assert (done.result["accepted"], done.result["rejected"]) == (900, 0)
    # 200 at once and the rest at 200 a second: faster would mean that the limit does not hold.
    assert 3.4 < done.result["seconds"] < 60
    await until(lambda: system.counted(tenant), lambda count: count == 900)


async def test_events_near_the_largest_are_sent_in_batches_that_fit(system: System, tmp_path: Path) -> None:
    tenant = await system.tenant()
    path = written(tmp_path / "a", 300, metadata={"text": "x" * 60_000})
    done = await asyncio.to_thread(Importer(system, tenant).run, path, "--batch", "2000", "--json")
    assert (done.status, done.result["accepted"]) == (0, 300)


async def test_more_events_than_a_batch_may_have_is_wrong_use(system: System, tmp_path: Path) -> None:
    path = written(tmp_path / "a", 1)
    done = await asyncio.to_thread(Importer(system, await system.tenant()).run, path, "--batch", "2001")
    assert done.status == 2


async def test_wrong_use_is_status_2_and_says_what_to_do(system: System, tmp_path: Path) -> None:
    importer = Importer(system, await system.tenant())
    path = written(tmp_path / "a", 1)
    missing = await asyncio.to_thread(importer.run, tmp_path / "absent.jsonl")
    assert (missing.status, missing.out) == (2, "")
    assert "absent.jsonl" in missing.err
    nothing = await asyncio.to_thread(importer.run)
    assert (nothing.status, "at least one FILE" in nothing.err) == (2, True)
    nobody = await asyncio.to_thread(lambda: importer.run(path, SLUICE_CLIENT_ID="", SLUICE_CLIENT_SECRET=""))
    assert (nobody.status, "--credentials" in nobody.err) == (2, True)


async def test_refused_credentials_are_one_line_and_status_1(system: System, tmp_path: Path) -> None:
    importer = Importer(system, await system.tenant())
    path = written(tmp_path / "a", 1)
    done = await asyncio.to_thread(lambda: importer.run(path, SLUICE_CLIENT_SECRET="wrong"))
    assert done.status == 1
    assert "invalid_client" in done.err
    assert len(done.err.splitlines()) == 1


async def test_credentials_come_from_the_file_that_tenants_create_prints(system: System, tmp_path: Path) -> None:
    tenant = await system.tenant()
    file = tmp_path / "tenant.json"
    file.write_text(json.dumps({"client_id": tenant.client_id, "client_secret": tenant.client_secret}))
    path = written(tmp_path / "a", 5)
    importer = Importer(system, await system.tenant())
    assert (await asyncio.to_thread(importer.run, path, "--credentials", file)).status == 0
    await until(lambda: system.counted(tenant), lambda count: count == 5)


async def test_what_is_no_api_is_one_line(system: System, tmp_path: Path) -> None:
    importer = Importer(system, await system.tenant())
    done = await asyncio.to_thread(importer.run, written(tmp_path / "a", 1), "--api", f"{system.url}/elsewhere")
    assert (done.status, len(done.err.splitlines())) == (1, 1)
    assert "is the URL right?" in done.err


async def test_what_was_readable_of_a_damaged_file_is_imported_and_the_damage_said(
    system: System, tmp_path: Path
) -> None:
    tenant = await system.tenant()
    path = tmp_path / "a.gz"
    lines = b"".join(b'{"event_id":"%d","event_type":"a"}\n' % number for number in range(20_000))
    path.write_bytes(gzip.compress(lines)[:-1000])
    done = await asyncio.to_thread(Importer(system, tenant).run, path, "--json")
    assert done.status == 1
    assert "damaged or ends too early" in done.err
    accepted = done.result["accepted"]
    assert 0 < accepted < 20_000
    await until(lambda: system.counted(tenant), lambda count: count == accepted)
