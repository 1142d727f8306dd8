"""A running Sluice for tests: own database, topics and index on the shared servers, real processes, fresh tenants."""

from __future__ import annotations

import asyncio
import base64
import functools
import os
import secrets
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit, urlunsplit

import asyncpg
import httpx

from app.database import create_engine
from app.settings import GatewaySettings, MigrationSettings, OperatorSettings, WorkerSettings
from deploy.local.ports import free_ports
from deploy.local.servers import Endpoints
from migrations.run import migrate_all
from tenants.bootstrap import ensure_platform
from tenants.lifecycle import create_tenant

ROOT = Path(__file__).parent.parent
# The runtime roles belong to the server, so every database of a test run shares their passwords.
ROLE_PASSWORD = "of-the-test-run"
TOP_BURST = 1_000_000
# Made once: each client would otherwise read all authorities' certificates, which takes longer than what it is for.
TLS = httpx.create_ssl_context()

T = TypeVar("T")
Say = Callable[[str], None]
"""The fixture `say`: shows a text at the end of the run."""


@dataclass(frozen=True)
class MadeTenant:
    """A tenant made for a test, with its first client."""

    tenant_id: str
    client_id: str
    client_secret: str


async def until(look: Callable[[], Awaitable[T]], wanted: Callable[[T], bool], *, seconds: float = 30.0) -> T:
    """Look again and again until what is seen is wanted; fails with the last thing seen."""
    deadline = time.monotonic() + seconds
    while True:
        seen = await look()
        if wanted(seen):
            return seen
        assert time.monotonic() < deadline, f"not as wanted after {seconds} s; last seen: {seen!r}"
        await asyncio.sleep(0.05)


@dataclass
class System:
    """One Sluice. `environment` is what its processes are told; `start` and `kill` act on them by name.

    `urls` says where each API process listens that was started; `url`, the issuer, is the one named `api`.
    """

    endpoints: Endpoints
    folder: Path
    environment: dict[str, str]
    url: str
    admin_url: str
    processes: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)
    urls: dict[str, str] = field(default_factory=dict)

    @classmethod
    async def create(cls, endpoints: Endpoints, folder: Path, **settings: str) -> System:
        """A migrated system of which no process runs yet. `settings` are SLUICE_ variables without the prefix."""
        name = f"t{secrets.token_hex(5)}"
        admin_url = await create_database(endpoints.postgres_url, name)
        api_port, metrics = free_ports(2)
        url = f"http://127.0.0.1:{api_port}"
        environment = {
            "POSTGRES_URL": admin_url,
            **{f"POSTGRES_{role.upper()}_URL": role_url(admin_url, role) for role in ("app", "worker", "auth")},
            "REDIS_URL": endpoints.redis_url,
            "REDIS_PREFIX": name,
            "KAFKA_BOOTSTRAP": endpoints.kafka_bootstrap,
            "ELASTICSEARCH_URL": endpoints.elasticsearch_url,
            "TOPIC_PREFIX": name,
            "TOPIC_PARTITIONS": "4",
            "INDEX_PREFIX": name,
            "KEY_ENCRYPTION_KEY": base64.b64encode(secrets.token_bytes(32)).decode(),
            "SECRET_HASH_KEY": base64.b64encode(secrets.token_bytes(32)).decode(),
            "ISSUER": url,
            "WEBHOOK_NETWORKS": "127.0.0.0/8",
            "API_PORT": str(api_port),
            "METRICS_PORT": str(metrics),
            # Tests send from one address what many would; those of the limits set their own.
            **{f"{limit}_LIMIT": "1000000/minute" for limit in ("TOKEN", "ADMIN", "QUERY", "FAILURE")},
            **settings,
        }
        system = cls(endpoints, folder, {f"SLUICE_{k}": v for k, v in environment.items()}, url, admin_url)
        await migrate_all(system.settings(MigrationSettings))
        await ensure_platform(system.settings(OperatorSettings), None)
        return system

    @property
    def topic(self) -> str:
        """The topic of this system's events."""
        return self.settings(WorkerSettings).raw_topic

    def settings(self, kind: type[T]) -> T:
        """The settings that a process of this system would read."""
        values = {name.removeprefix("SLUICE_").lower(): value for name, value in self.environment.items()}
        return kind(_env_file=None, **{k: v for k, v in values.items() if k in kind.model_fields})  # type: ignore[attr-defined,call-arg]

    async def start(self, *names: str) -> None:
        """Start `api` or workers; a name may carry a suffix (`store-2`). Waits until each API is ready.

        `api` has the port of the settings; another one (`api-2`) gets one of its own, see `urls`.
        """
        for name in names:
            kind = name.partition("-")[0]
            arguments = ["api"] if kind == "api" else ["worker", kind]
            environment = os.environ | self.environment | {"SLUICE_HOME": str(self.folder / "none")}
            if name != "api":
                metrics, port = free_ports(2)
                environment["SLUICE_METRICS_PORT"] = str(metrics)
                if kind == "api":
                    environment["SLUICE_API_PORT"] = str(port)
            if kind == "api":
                self.urls[name] = f"http://127.0.0.1:{environment['SLUICE_API_PORT']}"
            log = (self.folder / f"{name}.log").open("ab")
            self.processes[name] = subprocess.Popen(
                [sys.executable, "-m", "app.cli.main", *arguments], cwd=ROOT, env=environment, stdout=log, stderr=log
            )
            log.close()
        for name in names:
            if name in self.urls:
                await until(functools.partial(self._is_ready, self.urls[name]), bool, seconds=60)

    async def _is_ready(self, url: str) -> bool:
        for name, process in self.processes.items():
            assert process.poll() is None, f"{name} ended: {self.log(name)[-2000:]}"
        async with httpx.AsyncClient(verify=TLS) as client:
            try:
                return (await client.get(f"{url}/api/v1/ready", timeout=2)).status_code == 200
            except httpx.TransportError:
                return False

    def log(self, name: str) -> str:
        return (self.folder / f"{name}.log").read_text()

    def kill(self, name: str) -> None:
        """`kill -9`, and wait for the end."""
        process = self.processes.pop(name)
        process.kill()
        process.wait()

    def stop(self) -> None:
        """SIGTERM to all, SIGKILL to those that don't end."""
        for process in self.processes.values():
            process.send_signal(signal.SIGTERM)
        for process in self.processes.values():
            try:
                process.wait(timeout=15)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        self.processes.clear()

    async def tenant(self, name: str = "", *, rate: float = TOP_BURST, burst: int = TOP_BURST) -> MadeTenant:
        """A fresh tenant, unlimited for practical purposes unless told otherwise."""
        settings = self.settings(OperatorSettings)
        engine = create_engine(settings.postgres_auth_url.get_secret_value(), pool_size=1)
        try:
            made = await create_tenant(engine, settings, name or secrets.token_hex(4), "standard", rate, burst)
        finally:
            await engine.dispose()
        return MadeTenant(str(made.tenant_id), made.client_id, made.client_secret)

    async def token(self, tenant: MadeTenant, scope: str | None = None) -> str:
        """An access token over HTTP, as the tenant's machine would get it."""
        async with httpx.AsyncClient(verify=TLS) as client:
            form = {"grant_type": "client_credentials"} | ({"scope": scope} if scope else {})
            answer = await client.post(
                f"{self.url}/oauth/token", data=form, auth=(tenant.client_id, tenant.client_secret), timeout=30
            )
        assert answer.status_code == 200, answer.text
        return str(answer.json()["access_token"])

    @asynccontextmanager
    async def client(
        self, tenant: MadeTenant | None = None, scope: str | None = None, *, of: str = "api"
    ) -> AsyncIterator[httpx.AsyncClient]:
        """An HTTP client that speaks for `tenant` (nobody if None) to the API process `of` this name."""
        headers = {"Authorization": f"Bearer {await self.token(tenant, scope)}"} if tenant is not None else {}
        async with httpx.AsyncClient(base_url=self.urls[of], headers=headers, timeout=60, verify=TLS) as client:
            yield client

    async def fetch(self, sql: str, *arguments: Any) -> list[asyncpg.Record]:
        """Rows as the superuser sees them, past row security: for looking at what is really there."""
        connection = await asyncpg.connect(self.admin_url)
        try:
            rows: list[asyncpg.Record] = await connection.fetch(sql, *arguments)
            return rows
        finally:
            await connection.close()

    async def counted(self, tenant: MadeTenant) -> int:
        """How many events of `tenant` are stored."""
        return int((await self.fetch("select count(*) from events where tenant_id = $1", tenant.tenant_id))[0][0])


async def create_database(server_url: str, name: str) -> str:
    """An empty database on the server; returns its administrator's URL."""
    connection = await asyncpg.connect(server_url)
    try:
        await connection.execute(f'create database "{name}"')
    finally:
        await connection.close()
    return urlunsplit(urlsplit(server_url)._replace(path=f"/{name}"))


def role_url(admin_url: str, role: str) -> str:
    """The URL of a runtime role in the database of `admin_url`."""
    parts = urlsplit(admin_url)
    return urlunsplit(parts._replace(netloc=f"sluice_{role}:{ROLE_PASSWORD}@{parts.hostname}:{parts.port}"))


__all__ = ["GatewaySettings", "MadeTenant", "System", "WorkerSettings", "create_database", "role_url", "until"]
