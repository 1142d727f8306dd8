"""A cursor's digest has no secret in it: whoever knows how may make one. It is then a bad parameter, and no more."""

from __future__ import annotations

from datetime import UTC, datetime

import msgspec
import pytest

from tenants.pages import Place, encode
from tests.integration.tenants.managing import administrator_of, pointers
from tests.system import System

NOW = datetime(2026, 1, 2, tzinfo=UTC)


def forged(place: Place, *question: str | None) -> str:
    return encode(place, msgspec.json.encode(question))


@pytest.mark.parametrize("entry_id", ["", "\0", "nobody\0", "é" * 200, "x" * 600, "' or true --"])
async def test_a_cursor_with_an_id_that_can_not_be_is_refused_by_each_list(system: System, entry_id: str) -> None:
    tenant, administrator = await system.tenant(), await administrator_of(system)
    place = Place(NOW, entry_id)
    lists = (
        (tenant, "/api/v1/audit", forged(place, "audit", tenant.tenant_id, None, None, None)),
        (tenant, "/api/v1/clients", forged(place, "clients", tenant.tenant_id)),
        (tenant, "/api/v1/dead-letters", forged(place, "dead letters", tenant.tenant_id, None, None, None, None)),
        (administrator, "/api/v1/admin/tenants", forged(place, "tenants", "")),
        (administrator, "/api/v1/admin/audit", forged(place, "audit", "platform None", None, None, None)),
    )
    for whose, path, cursor in lists:
        async with system.client(whose) as client:
            answer = await client.get(path, params={"cursor": cursor})
        assert pointers(answer) == {"/query/cursor"}, path


@pytest.mark.parametrize("moment", [datetime.min.replace(tzinfo=UTC), datetime.max.replace(tzinfo=UTC)])
async def test_a_cursor_with_any_moment_is_answered(system: System, moment: datetime) -> None:
    tenant = await system.tenant()
    lists = (
        ("/api/v1/audit", tenant.tenant_id, ("audit", tenant.tenant_id, None, None, None)),
        ("/api/v1/clients", tenant.client_id, ("clients", tenant.tenant_id)),
        ("/api/v1/dead-letters", tenant.tenant_id, ("dead letters", tenant.tenant_id, None, None, None, None)),
    )
    async with system.client(tenant) as client:
        for path, entry_id, question in lists:
            answer = await client.get(path, params={"cursor": forged(Place(moment, entry_id), *question)})
            assert answer.status_code == 200, answer.text
