from __future__ import annotations

import base64
from pathlib import Path

import pytest

from app.settings import (
    EveryWorkerSettings,
    GatewaySettings,
    MigrationSettings,
    OperatorSettings,
    ReplayCommandSettings,
    WorkerSettings,
)
from deploy.local.errors import LocalError
from deploy.local.ports import Ports
from deploy.local.servers import Endpoints, Given
from deploy.local.settings import child_environ, env_file, given_from, role_url, variables
from deploy.local.stack import COMPONENTS, ApplicationPorts, Stack, described, read_stack

ENDPOINTS = Endpoints(
    "postgresql://postgres:s3cret@127.0.0.1:15432/sluice",
    "redis://:other@127.0.0.1:16379/0",
    "127.0.0.1:19092",
    "http://127.0.0.1:19200",
)
CREDENTIALS = {
    "admin": {"client_id": "a", "client_secret": "b"},
    "demo": {"tenant_id": "t", "client_id": "c", "client_secret": "d"},
}


def test_stack_json_has_the_documented_shape() -> None:
    found = described(ENDPOINTS, CREDENTIALS, ApplicationPorts())

    assert list(found) == [
        "api",
        "grpc",
        "postgres",
        "redis",
        "kafka",
        "elasticsearch",
        "metrics",
        "admin",
        "demo",
    ]
    assert found["api"] == "http://127.0.0.1:8000"
    assert found["grpc"] is None
    assert set(found["admin"]) == {"client_id", "client_secret"}
    assert set(found["demo"]) == {"tenant_id", "client_id", "client_secret"}


@pytest.mark.parametrize(
    "kind",
    [
        MigrationSettings,
        GatewaySettings,
        WorkerSettings,
        EveryWorkerSettings,
        OperatorSettings,
        ReplayCommandSettings,
    ],
)
def test_every_process_finds_its_settings_complete(
    kind: type[OperatorSettings], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    values = variables(tmp_path, {}, ENDPOINTS, api_port=8000, metrics_port=9464)
    (tmp_path / "env").write_text(env_file(values))
    for name in values:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("SLUICE_HOME", str(tmp_path))

    assert kind.load().metrics_port == 9464


def test_keys_are_32_bytes_and_what_the_person_sets_wins(tmp_path: Path) -> None:
    values = variables(tmp_path, {"SLUICE_ISSUER": "https://issuer"}, ENDPOINTS, api_port=8000, metrics_port=9464)

    assert len(base64.b64decode(values["SLUICE_KEY_ENCRYPTION_KEY"])) == 32
    assert values["SLUICE_KEY_ENCRYPTION_KEY"] != values["SLUICE_SECRET_HASH_KEY"]
    assert values["SLUICE_ISSUER"] == "https://issuer"


def test_a_role_logs_in_at_the_administrator_s_server_database_and_options() -> None:
    assert role_url("postgresql://admin:x@db:5433/events?sslmode=require", "sluice_app", "p/w") == (
        "postgresql://sluice_app:p%2Fw@db:5433/events?sslmode=require"
    )


def test_only_the_migration_holds_the_administrator_s_url(tmp_path: Path) -> None:
    values = variables(tmp_path, {}, ENDPOINTS, api_port=8000, metrics_port=9464)

    assert "SLUICE_POSTGRES_URL" in child_environ({}, values, tmp_path, "migrate")
    for name in ("api", "worker-store", "worker-index"):
        told = child_environ({"SLUICE_POSTGRES_URL": ENDPOINTS.postgres_url}, values, tmp_path, name)
        assert "SLUICE_POSTGRES_URL" not in told
        assert told["SLUICE_HOME"] == str(tmp_path)


def test_urls_in_the_environment_are_servers_that_are_given() -> None:
    given = given_from({"SLUICE_REDIS_URL": "redis://elsewhere", "SLUICE_POSTGRES_URL": ""})

    assert given == Given(redis_url="redis://elsewhere")
    assert given.names() == {"redis"}


def test_each_process_has_metrics_of_its_own() -> None:
    ports = ApplicationPorts(metrics=9464).of()

    assert ports == {
        "api": 9464,
        "worker-store": 9465,
        "worker-index": 9466,
        "worker-maintain": 9467,
        "worker-replay": 9468,
    }
    assert set(ports) < set(COMPONENTS)


async def test_a_wrong_port_is_refused_before_anything_starts(tmp_path: Path) -> None:
    with pytest.raises(LocalError, match="SLUICE_API_PORT=no"):
        Stack(tmp_path / "home", {"SLUICE_API_PORT": "no"}, print)
    assert not (tmp_path / "home").exists()


def test_a_stack_json_that_can_t_be_read_is_one_line(tmp_path: Path) -> None:
    assert read_stack(tmp_path) is None
    (tmp_path / "stack.json").write_text("{half")
    with pytest.raises(LocalError, match=r"stack\.json"):
        read_stack(tmp_path)


async def test_servers_that_are_all_given_need_no_start(tmp_path: Path) -> None:
    from deploy.local.servers import LocalServers  # noqa: PLC0415

    given = Given(**vars(ENDPOINTS))
    servers = LocalServers(tmp_path / "home", ports=Ports.free(), given=given, report=print)
    try:
        assert await servers.start() == ENDPOINTS
    finally:
        await servers.discard()
