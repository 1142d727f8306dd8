"""Many who guess at once are stopped like those who guess one after another."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import TYPE_CHECKING

from app.settings import GatewaySettings
from tests.integration.auth.conftest import credentials, running

if TYPE_CHECKING:
    import httpx

LIMIT = 5
LOOKED_UP_AT_ONCE = 3
"""Connections of the gateway's pool: so many may be on their way when the limit is reached, and as many behind them."""


async def test_guesses_that_are_sent_all_at_once_are_not_all_looked_up(settings: GatewaySettings) -> None:
    changed = GatewaySettings.model_validate(settings.model_dump() | {"failure_limit": f"{LIMIT}/hour"})
    async with running(changed) as gateway, gateway.client(timeout=30) as client:
        tenant = await gateway.tenant()

        async def guess(number: int) -> httpx.Response:
            form = {"grant_type": "client_credentials", "client_id": f"slc_{number}", "client_secret": "guess"}
            return await client.post("/oauth/token", data=form)

        statuses = Counter(answer.status_code for answer in await asyncio.gather(*map(guess, range(100))))
        assert statuses.keys() == {401, 429}
        assert LIMIT <= statuses[401] <= LIMIT + 2 * LOOKED_UP_AT_ONCE
        refused = await client.post("/oauth/token", data=credentials(tenant))
        assert refused.status_code == 429
        assert refused.json()["error"] == "temporarily_unavailable"
