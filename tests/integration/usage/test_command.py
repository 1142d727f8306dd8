"""`sluice tenants usage` as people and programs use it."""

from __future__ import annotations

import asyncio
import json
import os
import sys
import uuid
from datetime import UTC, datetime, timedelta

from tests.integration.usage.plans import on_plan
from tests.system import System


async def sluice(system: System, *arguments: str) -> tuple[int, str, str]:
    """Exit status, output and errors of the command."""
    environment = os.environ | system.environment | {"SLUICE_HOME": str(system.folder / "none"), "COLUMNS": "160"}
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "app.cli.main", "tenants", "usage", *arguments,
        env=environment, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    out, err = await process.communicate()
    return process.returncode or 0, out.decode(), err.decode()


async def test_usage_is_shown_with_its_quota_and_a_bar_for_each_of_the_last_days(system: System) -> None:
    tenant = await system.tenant()
    await on_plan(system, tenant, monthly_quota=4000, at_quota="refuse")
    today = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    for days, client_id, count in ((0, "slc_a", 3000), (0, "slc_b", 500), (1, "slc_b", 1750), (20, "slc_b", 9)):
        await system.fetch(
            "insert into usage (tenant_id, hour, client_id, stored, duplicates, bytes) values ($1, $2, $3, $4, 1, 2)",
            tenant.tenant_id, today - timedelta(days=days), client_id, count,
        )  # fmt: skip
    month = today.date().replace(day=1)
    await system.fetch(
        "insert into monthly_usage (tenant_id, month, stored) values ($1, $2, 3500)", tenant.tenant_id, month
    )
    await system.fetch(
        "insert into quota_notices (tenant_id, month, percent, quota) values ($1, $2, 80, 4000)",
        tenant.tenant_id, month,
    )  # fmt: skip
    window = ("--from", f"{today - timedelta(days=30):%Y-%m-%d}", "--to", f"{today + timedelta(days=1):%Y-%m-%d}")
    status, out, err = await sluice(system, tenant.tenant_id, *window)
    assert (status, err) == (0, "")
    lines = out.splitlines()
    assert any("slc_a" in line and "3,000" in line for line in lines)
    assert any("all" in line and "5,259" in line for line in lines)
    assert "This month: 3,500 of 4,000 events (87.5 %); at 100 % the plan refuses more" in out
    assert "80 % of 4,000 reached" in out
    chart = lines[-14:]
    assert chart[-1].split() == [f"{today:%m-%d}", "━" * 40, "3,500"]
    assert chart[-2].split() == [f"{today - timedelta(days=1):%m-%d}", "━" * 20, "1,750"]
    assert chart[0].split() == [f"{today - timedelta(days=13):%m-%d}", "0"]

    status, out, err = await sluice(
        system, tenant.tenant_id, *window, "--client", "slc_b", "--interval", "day", "--json"
    )
    assert status == 0, err
    told = json.loads(out)
    assert [point["stored"] for point in told["series"]] == [9, 1750, 500]
    assert told["quota"]["used"] == 3500


async def test_a_tenant_that_is_not_there_and_times_that_can_not_be_are_wrong_use(system: System) -> None:
    status, _, err = await sluice(system, str(uuid.uuid4()))
    assert (status, len(err.splitlines())) == (2, 1)
    assert "There is no tenant" in err
    tenant = await system.tenant()
    for wrong in (("--from", "yesterday"), ("--from", "2026-02-01", "--to", "2026-01-01"), ("--interval", "week")):
        status, _, err = await sluice(system, tenant.tenant_id, *wrong)
        assert (status, len(err.splitlines())) == (2, 1), err
