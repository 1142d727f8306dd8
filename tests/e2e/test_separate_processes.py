"""The order of docker-compose.yml, without containers: migrate, then the API, then the operator's first tenant.

Each process gets the variables of its service and no other, by way of the real command.
"""

from __future__ import annotations

import asyncio
import base64
import json
import os
import secrets
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from app.settings import OperatorSettings
from deploy.local.ports import free_ports
from deploy.local.servers import Endpoints
from tests.system import MadeTenant, System, create_database, role_url, until


@pytest.fixture
async def services(repository: Path) -> dict[str, set[str]]:
    """Which variables each service of the compose file is given."""
    loaded: dict[str, dict[str, Any]] = yaml.safe_load((repository / "docker-compose.yml").read_text())["services"]
    return {name: set(service.get("environment", ())) for name, service in loaded.items()}


async def _sluice(environment: dict[str, str], home: Path, repository: Path, *arguments: str) -> str:
    running = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "app.cli.main", *arguments,
        cwd=repository, env=os.environ | environment | {"SLUICE_HOME": str(home)},
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    async with asyncio.timeout(60):
        out, err = await running.communicate()
    assert running.returncode == 0, err.decode()
    return out.decode()


async def test_an_empty_installation_takes_events_after_migrate_api_and_tenants_create(
    endpoints: Endpoints, services: dict[str, set[str]], repository: Path, tmp_path: Path
) -> None:
    name = f"t{secrets.token_hex(5)}"
    admin_url = await create_database(endpoints.postgres_url, name)
    api_port, metrics_port = free_ports(2)
    url = f"http://127.0.0.1:{api_port}"
    values = {
        "SLUICE_POSTGRES_URL": admin_url,
        **{f"SLUICE_POSTGRES_{role.upper()}_URL": role_url(admin_url, role) for role in ("app", "worker", "auth")},
        "SLUICE_REDIS_URL": endpoints.redis_url,
        "SLUICE_KAFKA_BOOTSTRAP": endpoints.kafka_bootstrap,
        "SLUICE_ELASTICSEARCH_URL": endpoints.elasticsearch_url,
        "SLUICE_KEY_ENCRYPTION_KEY": base64.b64encode(secrets.token_bytes(32)).decode(),
        "SLUICE_SECRET_HASH_KEY": base64.b64encode(secrets.token_bytes(32)).decode(),
        "SLUICE_ISSUER": url,
    }
    # Beside other systems on the same servers and ports; in containers the defaults do.
    apart = {
        "SLUICE_TOPIC_PREFIX": name,
        "SLUICE_INDEX_PREFIX": name,
        "SLUICE_REDIS_PREFIX": name,
        "SLUICE_API_PORT": str(api_port),
        "SLUICE_METRICS_PORT": str(metrics_port),
    }

    def environment(service: str) -> dict[str, str]:
        return {key: value for key, value in values.items() if key in services[service]} | apart

    await _sluice(environment("migrate"), tmp_path, repository, "migrate")
    system = System(endpoints, tmp_path, environment("api"), url, admin_url)
    try:
        await system.start("api")
        made = await _sluice(environment("api"), tmp_path, repository, "tenants", "create", "acme", "--json")
        tenant = MadeTenant(**json.loads(made))
        workers = replace(system, environment=environment("worker-store"))
        await workers.start("store", "index")
        async with system.client(tenant) as client:
            assert (await client.post("/api/v1/events", json={"event_type": "first"})).status_code == 202

            async def found() -> int:
                return int((await client.get("/api/v1/events/search?event_type=first")).json().get("total", 0))

            await until(found, (1).__eq__)
            assert (await client.get("/api/v1/events/count")).json()["count"] == 1
    finally:
        system.stop()


def test_the_operators_command_needs_nothing_that_the_api_is_not_given(services: dict[str, set[str]]) -> None:
    required = {f"SLUICE_{name.upper()}" for name, f in OperatorSettings.model_fields.items() if f.is_required()}
    assert required <= services["api"]
