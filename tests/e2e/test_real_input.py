"""Three tenants' histories through the import command, asked back and compared with an independent reading.

Runs on the shared data where it lies beside the checkout (a part of it, or all with SLUICE_TEST_FULL_DATA=1), and on
a generated set of the same form otherwise; each test's id says which.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import time
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import pytest
import pytest_asyncio

from tests.e2e.reading import Reading, generate
from tests.system import ROOT, MadeTenant, Say, System, until

SHARED = ROOT.parent / "shared" / "data"
FULL = os.environ.get("SLUICE_TEST_FULL_DATA") == "1"
PART = None if FULL else 2_000
SET = "shared-data" if SHARED.is_dir() else "generated-data"
NAMES = ("antdesign", "openmeter", "warehouse")
WORDS = {
    "shared-data": ("fix", "feat", "Merge", "docs:", "修复", "文档", "组件", "refactor: "),
    "generated-data": ("fix", "fixes", "docs:", "test(ci)", "user's", "snake_case", "修复", "组件", "组件库"),
}[SET]

pytestmark = [pytest.mark.parametrize("data", [SET], indirect=True, scope="session"), pytest.mark.timeout(900)]


@dataclass
class Loaded:
    """A tenant, its file, what the file says, and how it was imported with the others."""

    tenant: MadeTenant
    path: Path
    reading: Reading
    how: str = ""


async def import_file(system: System, loaded: Loaded, folder: Path) -> dict[str, Any]:
    """`sluice events import FILE` as its own process; answers its JSON."""
    credentials = folder / f"{loaded.tenant.tenant_id}.json"
    credentials.write_text(
        json.dumps({"client_id": loaded.tenant.client_id, "client_secret": loaded.tenant.client_secret})
    )
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "app.cli.main", "events", "import", str(loaded.path), "--json",
        "--api", system.url, "--credentials", str(credentials),
        cwd=ROOT, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    out, err = await process.communicate()
    assert process.returncode == 0, err.decode()
    found: dict[str, Any] = json.loads(out)
    return found


@pytest_asyncio.fixture(scope="session")
async def data(
    request: pytest.FixtureRequest, system: System, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Loaded]:
    """All three imported at the same time, and stored."""
    folder = tmp_path_factory.mktemp("data")
    loaded = {}
    for seed, name in enumerate(NAMES):
        path = folder / f"{name}.jsonl.gz"
        if request.param == "generated-data":
            generate(path, PART or 15_000, seed)
        elif PART is None:
            path.write_bytes((SHARED / path.name).read_bytes())
        else:
            _cut(SHARED / path.name, path, PART)
        loaded[name] = Loaded(await system.tenant(name), path, Reading.of(path))
    started = time.perf_counter()
    for found in await asyncio.gather(*(import_file(system, each, folder) for each in loaded.values())):
        assert found["rejected"] == 0
    total = sum(len(each.reading.events) for each in loaded.values())
    imported = time.perf_counter()
    for each in loaded.values():
        await _all_stored(system, each)
    for each in loaded.values():
        each.how = (
            f"{request.param}: {total} events imported in {imported - started:.1f} s "
            f"({total / (imported - started):.0f}/s), all stored {time.perf_counter() - started:.1f} s after the start"
        )
    return loaded


async def _all_stored(system: System, loaded: Loaded) -> None:
    await until(lambda: system.counted(loaded.tenant), lambda found: found == len(loaded.reading.events), seconds=300)


def _cut(source: Path, path: Path, lines: int) -> None:
    import gzip  # noqa: PLC0415

    with gzip.open(source, "rb") as whole, gzip.open(path, "wb") as part:
        for _, line in zip(range(lines), whole, strict=False):
            part.write(line)


async def get(client: httpx.AsyncClient, path: str, **parameters: Any) -> Any:
    answer = await client.get(f"/api/v1/events/{path}", params=parameters)
    assert answer.status_code == 200, answer.text
    return answer.json()


@pytest.mark.parametrize("name", NAMES)
async def test_the_total_and_the_count_of_each_type_are_the_file_s(
    system: System, data: dict[str, Loaded], name: str, say: Say
) -> None:
    say(data[name].how)
    reading = data[name].reading
    async with system.client(data[name].tenant) as client:
        assert (await get(client, "count"))["count"] == len(reading.events)
        stats = await get(client, "stats", top=1000)
        assert {entry["event_type"]: entry["count"] for entry in stats["by_type"]} == reading.by_type()
        for event_type, expected in reading.by_type().items():
            assert (await get(client, "count", event_type=event_type))["count"] == expected
        assert stats["unique_users"] == len({event["user_id"] for event in reading.events})


@pytest.mark.parametrize("zone", ["UTC", "Asia/Shanghai"])
@pytest.mark.parametrize("name", NAMES)
async def test_the_counts_per_day_are_the_file_s_in_each_zone(
    system: System, data: dict[str, Loaded], name: str, zone: str
) -> None:
    from zoneinfo import ZoneInfo  # noqa: PLC0415

    reading = data[name].reading
    start, end = reading.span()
    days: dict[str, int] = {}
    async with system.client(data[name].tenant) as client:
        for year in range(start.year - 1, end.year + 2):
            page = await get(
                client,
                "trend",
                interval="daily",
                timezone=zone,
                started_at=f"{year}-01-01",
                ended_at=f"{year + 1}-01-01",
            )
            for point in page["series"]:
                day = datetime.fromisoformat(point["bucket"]).astimezone(ZoneInfo(zone)).date().isoformat()
                days[day] = days.get(day, 0) + point["count"]
    assert {day: count for day, count in days.items() if count} == reading.by_day(zone)


@pytest.mark.parametrize("name", NAMES)
async def test_a_user_s_timeline_is_the_file_s_page_by_page(system: System, data: dict[str, Loaded], name: str) -> None:
    reading = data[name].reading
    user = reading.busiest_user()
    start, end = reading.span()
    found: list[tuple[datetime, str]] = []
    cursor: dict[str, str] = {}
    async with system.client(data[name].tenant) as client:
        while True:
            page = await get(
                client, f"user/{user}", started_at=start.isoformat(), ended_at=end.isoformat(), limit=97, **cursor
            )
            found += [(datetime.fromisoformat(event["timestamp"]), event["event_id"]) for event in page["events"]]
            if page["next_cursor"] is None:
                break
            cursor = {"cursor": page["next_cursor"]}
    assert found == reading.timeline(user)


@pytest.mark.parametrize("word", WORDS)
@pytest.mark.parametrize("name", NAMES)
async def test_quoted_words_are_found_as_often_as_the_file_has_them(
    system: System, data: dict[str, Loaded], name: str, word: str
) -> None:
    expected = data[name].reading.with_word(word)
    async with system.client(data[name].tenant) as client:

        async def total() -> int:
            answer = await client.get("/api/v1/events/search", params={"q": f'"{word}"', "limit": 1})
            return int(answer.json().get("total", -1))

        await until(total, lambda found: found == expected, seconds=60)


async def test_verify_finds_all_three_places_equal_and_importing_again_changes_nothing(
    system: System, data: dict[str, Loaded], tmp_path: Path
) -> None:
    tenants = [each.tenant.tenant_id for each in data.values()]
    counted = (
        "select sum(count), count(*) from aggregated_events "
        "where tenant_id = any($1::uuid[]) and event_type <> 'marker'"
    )
    before = await system.fetch(counted, tenants)

    async def waiting() -> list[dict[str, Any]]:
        status, reports = await verify(system, data)
        assert status == 0, reports
        return reports

    first = await until(waiting, lambda reports: all(report["waiting"] == 0 for report in reports), seconds=120)
    for each in data.values():
        await import_file(system, each, tmp_path)
    for each in data.values():
        # The tenant's last event: its partition keeps the order, so once it is stored, the repeated ones were seen.
        async with system.client(each.tenant) as own:
            await own.post("/api/v1/events", json={"event_type": "marker", "event_id": "marker"})
            await until(partial(get, own, "count", event_type="marker"), lambda found: bool(found["count"] == 1))
    after = await system.fetch(counted, tenants)
    assert [tuple(row) for row in after] == [tuple(row) for row in before]
    second = await until(waiting, lambda reports: all(report["waiting"] == 0 for report in reports), seconds=120)
    assert [report["events"] for report in second] == [report["events"] + 1 for report in first]


async def verify(system: System, data: dict[str, Loaded]) -> tuple[int, list[dict[str, Any]]]:
    """`sluice verify --json` for the three tenants: the worst exit status and the reports."""
    reports, worst = [], 0
    for each in data.values():
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "app.cli.main", "verify", "--json", "--tenant", each.tenant.tenant_id,
            cwd=ROOT, env=os.environ | system.environment,
            stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
        )  # fmt: skip
        out, err = await process.communicate()
        assert out, err.decode()
        worst = max(worst, process.returncode or 0)
        reports += json.loads(out)
    return worst, reports
