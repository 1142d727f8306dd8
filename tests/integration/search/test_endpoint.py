"""`/api/v1/events/search` over HTTP: who may ask, what is refused, and that nobody sees another tenant's events."""

from __future__ import annotations

import json
import secrets
from contextlib import asynccontextmanager
from dataclasses import dataclass
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any
from uuid import UUID

import httpx
import pytest
from fastapi import FastAPI
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from app.database import create_engine
from app.http_errors import install as install_error_handlers
from app.throttling.throttle import Throttle
from auth.endpoints import router as oauth
from auth.keys import KeyRing, ensure_signing_key
from auth.tokens import TokenVerifier
from deploy.local.ports import free_ports
from search.client import make_client
from search.endpoints import LARGEST_BODY, router
from tenants.directory import Directory
from tenants.lifecycle import create_tenant
from tests.integration.conftest import Database, migrated
from tests.integration.search.conftest import Index, row

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from sqlalchemy.ext.asyncio import AsyncEngine

    from app.settings import GatewaySettings
    from deploy.local.servers import Endpoints

PATH = "/api/v1/events/search"


@dataclass(frozen=True)
class Site:
    """The search routes behind real authentication."""

    app: FastAPI
    engine: AsyncEngine
    settings: GatewaySettings

    async def tenant(self, *scopes: str) -> tuple[UUID, httpx.AsyncClient]:
        """A fresh tenant and an HTTP client that sends its token."""
        made = await create_tenant(self.engine, self.settings, secrets.token_hex(4), "free", scopes=scopes)
        form = {"grant_type": "client_credentials"}
        async with self.anyone() as client:
            answer = await client.post("/oauth/token", data=form, auth=(made.client_id, made.client_secret))
        client = self.anyone()
        client.headers["authorization"] = f"Bearer {answer.json()['access_token']}"
        return made.tenant_id, client

    def over(self, index: Index) -> Site:
        """The same routes and tenants over another index."""
        settings = self.settings.model_copy(update={"index_prefix": index.prefix})
        held = vars(self.app.state.sluice) | {"settings": settings, "search_client": index.client}
        return Site(application(**held), self.engine, settings)

    def anyone(self) -> httpx.AsyncClient:
        return httpx.AsyncClient(transport=httpx.ASGITransport(self.app), base_url=self.settings.issuer)


def application(**held: Any) -> FastAPI:
    app = FastAPI()
    app.state.sluice = SimpleNamespace(**held)
    app.include_router(oauth)
    app.include_router(router)
    install_error_handlers(app)
    return app


@asynccontextmanager
async def site_over(database: Database, index: Index) -> AsyncIterator[Site]:
    settings = database.settings(index_prefix=index.prefix)
    engine = create_engine(database.auth_url, pool_size=2)
    try:
        await ensure_signing_key(engine, settings)
        keys, directory = await KeyRing.load(engine, settings), await Directory.load(engine)
        verifier = TokenVerifier(keys, directory, issuer=settings.issuer, audience=settings.issuer)
        app = application(
            settings=settings, auth_engine=engine, keys=keys, directory=directory, verifier=verifier,
            search_client=index.client, throttle=Throttle(settings),
        )  # fmt: skip
        yield Site(app, engine, settings)
    finally:
        await engine.dispose()


@pytest.fixture(scope="session")
async def site(endpoints: Endpoints, index: Index) -> AsyncIterator[Site]:
    async with migrated(endpoints.postgres_url) as database, site_over(database, index) as made:
        yield made


@pytest.fixture(scope="session")
async def victim(site: Site, index: Index) -> UUID:
    """A tenant whose every event says so."""
    tenant_id, _ = await site.tenant("events:read")
    rows = [row(tenant_id, {"s": "victim's secret 机密"}, event_id=f"e{n}", user_id="victim") for n in range(5)]
    await index.write(rows)
    return tenant_id


@pytest.fixture(scope="session")
async def attacker(site: Site, index: Index) -> AsyncIterator[httpx.AsyncClient]:
    """A tenant with events of the same ids and words as the victim's."""
    tenant_id, client = await site.tenant("events:read")
    await index.write([row(tenant_id, {"s": "my own secret 机密"}, event_id=f"e{n}", user_id="me") for n in range(5)])
    async with client:
        yield client


async def test_without_a_token_it_is_401(site: Site) -> None:
    async with site.anyone() as client:
        for answer in (await client.get(PATH), await client.post(PATH, json={})):
            assert answer.status_code == 401
            assert answer.headers["www-authenticate"].startswith("Bearer")


async def test_without_the_scope_it_is_403(site: Site) -> None:
    _, client = await site.tenant("events:write")
    async with client:
        for answer in (await client.get(PATH), await client.post(PATH, json={})):
            assert answer.status_code == 403
            assert 'scope="events:read"' in answer.headers["www-authenticate"]


async def test_get_and_post_find_the_same(site: Site, index: Index) -> None:
    tenant_id, client = await site.tenant("events:read")
    text = '{"s": "修复组件错误 now", "n": 0.10000000000000000001}'
    await index.write([row(tenant_id, text, event_id="e1"), row(tenant_id, {"s": "other"})])
    async with client:
        by_get = await client.get(PATH, params={"q": '"组件错误"', "limit": "5", "eventType": "order.paid"})
        by_post = await client.post(PATH, json={"q": '"组件错误"', "limit": 5, "event_type": "order.paid"})
    one, other = by_get.json(), by_post.json()
    assert one.pop("took_ms") >= 0
    assert other.pop("took_ms") >= 0
    assert one == other
    (hit,) = one["hits"]
    assert one["total"] == 1
    assert hit.pop("score") > 0
    assert hit == {
        "event_id": "e1",
        "event_type": "order.paid",
        "user_id": "u1",
        "client_id": "c1",
        "timestamp": "2025-03-15T09:30:00Z",
        "received_at": "2025-03-15T09:30:00Z",
        "metadata": json.loads(text),
        "highlights": ["修复<em>组件错误</em> now"],
    }
    assert b"0.10000000000000000001" in by_get.content


@pytest.mark.parametrize(
    ("query", "status", "pointer"),
    [
        ("q=%22open", 400, "/query/q"),
        ("q=%", 400, None),
        ("q=%ff", 400, None),
        ("limit=1000", 422, "/query/limit"),
        ("tenant_id=x", 422, "/query/tenant_id"),
        ("routing=x", 422, "/query/routing"),
        ("index=_all", 422, "/query/index"),
        ("cursor=AAAA", 422, "/query/cursor"),
        ("event_type=a&eventType=a", 422, "/query/eventType"),
    ],
)
async def test_a_query_that_is_wrong_is_told_where(
    attacker: httpx.AsyncClient, query: str, status: int, pointer: str | None
) -> None:
    answer = await attacker.get(f"{PATH}?{query}")
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    assert [each["pointer"] for each in answer.json().get("errors", [])] == ([pointer] if pointer else [])


@pytest.mark.parametrize(
    ("body", "content_type", "status"),
    [
        (b"{", "application/json", 400),
        (b'{"q": "\\""}', "application/json", 400),
        (b"{}", "text/plain", 415),
        (b"{}", "", 415),
        (b"[]", "application/json", 422),
        (b'{"q": {"match_all": {}}}', "application/json", 422),
        (b'{"query": {"match_all": {}}}', "application/json", 422),
        (b'{"q": "' + b"x" * LARGEST_BODY + b'"}', "application/json", 413),
    ],
)
async def test_a_body_that_is_wrong_is_refused(
    attacker: httpx.AsyncClient, body: bytes, content_type: str, status: int
) -> None:
    answer = await attacker.post(PATH, content=body, headers={"content-type": content_type})
    assert answer.status_code == status, answer.text


def only_own(answer: httpx.Response) -> Any:
    """The answer, after looking that nothing in it is the victim's."""
    assert answer.status_code in (200, 400, 422), answer.text
    if answer.status_code == 200:
        found = answer.json()
        assert found["total"] <= 5
        assert {hit["user_id"] for hit in found["hits"]} <= {"me"}
        assert {each["value"] for each in found["facets"]["user_id"]} <= {"me"}
        return found
    return None


HOSTILE = [
    "", "*", "*:*", "secret", '"secret"', '"机密"', "机密", "victim", "tenant_id:*", "user_id:victim",
    "_exists_:tenant_id", '"} } ], "query": {"match_all": {}} //', "') OR 1=1 --", "/.*/", "secret OR secret",
    "{!all}", "${jndi:x}", "\u202esecret",
]  # fmt: skip


@pytest.mark.parametrize("q", HOSTILE)
async def test_no_query_text_finds_another_tenants_events(victim: UUID, attacker: httpx.AsyncClient, q: str) -> None:
    for text in (q, q.replace("victim", str(victim))):
        only_own(await attacker.get(PATH, params={"q": text, "limit": "100"}))
        only_own(await attacker.post(PATH, json={"q": text, "sort": "oldest"}))


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    st.dictionaries(
        st.sampled_from(["q", "event_type", "user_id", "client_id", "started_at", "ended_at", "sort", "timezone"]),
        st.sampled_from(["secret", "*", "victim", "e1", "newest", "2025-01-01", "Asia/Shanghai"])
        | st.text(max_size=20),
    )
)
async def test_no_combination_of_parameters_finds_another_tenants_events_or_fails(
    victim: UUID, attacker: httpx.AsyncClient, parameters: dict[str, str]
) -> None:
    assert victim
    only_own(await attacker.get(PATH, params=httpx.QueryParams(_encodable(parameters))))


def _encodable(parameters: dict[str, str]) -> dict[str, str]:
    return {name: text.encode("utf-8", "replace").decode() for name, text in parameters.items()}


async def test_another_tenants_cursor_is_refused(site: Site, index: Index, attacker: httpx.AsyncClient) -> None:
    tenant_id, client = await site.tenant("events:read")
    await index.write([row(tenant_id, {"s": "secret"}) for _ in range(3)])
    async with client:
        cursor = (await client.get(PATH, params={"q": "secret", "limit": "1"})).json()["next_cursor"]
        assert (await client.get(PATH, params={"q": "secret", "cursor": cursor})).status_code == 200
    answer = await attacker.get(PATH, params={"q": "secret", "cursor": cursor})
    assert answer.status_code == 422


async def test_without_elasticsearch_it_is_503_with_retry_after(site: Site) -> None:
    (port,) = free_ports(1)
    async with make_client(f"http://127.0.0.1:{port}", timeout=1) as nobody:
        _, client = await site.over(Index(nobody, "none")).tenant("events:read")
        async with client:
            answer = await client.get(PATH, params={"q": "x"})
    assert answer.status_code == 503
    assert int(answer.headers["retry-after"]) >= 1
    assert str(port) not in answer.text


async def test_a_slice_whose_shard_is_lost_is_503_and_not_half_an_answer(site: Site, own_index: Index) -> None:
    tenant_id, client = await site.over(own_index).tenant("events:read")
    await own_index.write([row(tenant_id)])
    nowhere = {"index.routing.allocation.require._name": "nowhere"}
    await own_index.client.indices.create(
        index=f"{own_index.prefix}-202505", settings=nowhere, wait_for_active_shards="0"
    )
    async with client:
        assert (await client.get(PATH)).status_code == 503


async def test_the_description_lists_every_parameter_and_error(site: Site) -> None:
    described = site.app.openapi()["paths"][PATH]
    names = {each["name"] for each in described["get"]["parameters"]}
    members = described["post"]["requestBody"]["content"]["application/json"]["schema"]["properties"]
    assert names == set(members)
    assert names >= {"q", "user_id", "sort", "limit", "cursor", "event_type", "client_id", "started_at", "ended_at"}
    assert set(described["get"]["responses"]) == {"200", "400", "401", "403", "422", "503"}
    assert set(described["post"]["responses"]) == {"200", "400", "401", "403", "413", "415", "422", "503"}
    assert described["get"]["security"] == [{"ClientCredentials": ["events:read"]}]
