"""docker-compose.yml against the compose schema and against what each process reads."""

from __future__ import annotations

import json
import re
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from jsonschema import Draft202012Validator

from app.settings import GatewaySettings, MigrationSettings, OperatorSettings, Settings
from deploy import compose_env
from workers.main import WORKERS, settings_for

PROCESSES: dict[str, type[Settings]] = {
    "api": GatewaySettings,
    "migrate": MigrationSettings,
    **{f"worker-{name}": settings_for([name]) for name in WORKERS},
}
SERVERS = ("postgres", "redis", "kafka", "elasticsearch")
VARIABLE = re.compile(r"\$\{(?P<name>[A-Z_]+)(?::(?P<kind>[?-])(?P<rest>[^}]*))?\}")


@pytest.fixture(scope="module")
def text(repository: Path) -> str:
    return (repository / "docker-compose.yml").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def services(text: str) -> dict[str, dict[str, Any]]:
    loaded: dict[str, dict[str, Any]] = yaml.safe_load(text)["services"]
    return loaded


def _filled(text: str, values: dict[str, str]) -> dict[str, dict[str, Any]]:
    """The services with their variables replaced, as compose does it."""
    replaced = VARIABLE.sub(lambda found: values.get(found["name"]) or found["rest"], text.replace("$$", "$"))
    loaded: dict[str, dict[str, Any]] = yaml.safe_load(replaced)["services"]
    return loaded


def test_the_file_is_valid(text: str) -> None:
    # From check-jsonschema 0.39.0, which carries it from the Compose Specification; its licence lies beside it.
    schema = json.loads((Path(__file__).parent / "schemas" / "compose-spec.json").read_text(encoding="utf-8"))
    assert [error.message for error in Draft202012Validator(schema).iter_errors(yaml.safe_load(text))] == []


def test_it_has_every_server_and_every_process(services: dict[str, dict[str, Any]]) -> None:
    assert set(services) == {*SERVERS, *PROCESSES}
    assert services["api"]["command"] == ["api"]
    assert services["migrate"]["command"] == ["migrate"]
    for name in WORKERS:
        assert services[f"worker-{name}"]["command"] == ["worker", name]


@pytest.mark.parametrize("process", PROCESSES)
def test_a_process_is_given_what_it_reads_and_nothing_else(process: str, services: dict[str, dict[str, Any]]) -> None:
    fields = PROCESSES[process].model_fields
    given = {name.removeprefix("SLUICE_").lower() for name in services[process]["environment"]}
    assert given <= set(fields)
    assert {name for name, field in fields.items() if field.is_required()} <= given


@pytest.mark.parametrize("process", PROCESSES)
def test_a_process_starts_with_the_values_that_it_gets(
    process: str, text: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    secrets = dict(line.split("=", 1) for line in compose_env.environment(compose_env.required(text)).splitlines())
    for name, value in _filled(text, secrets)[process]["environment"].items():
        monkeypatch.setenv(name, value)
    # All but the one-shot are asked for their metrics from other containers.
    assert (PROCESSES[process].load().metrics_host == Settings.model_fields["metrics_host"].default) == (
        process == "migrate"
    )


def test_only_the_migration_holds_the_administrators_url(services: dict[str, dict[str, Any]]) -> None:
    holders = {name for name, service in services.items() if "POSTGRES_PASSWORD" in str(service.get("environment"))}
    assert holders == {"migrate", "postgres"}


def test_the_api_can_run_the_operators_commands(services: dict[str, dict[str, Any]]) -> None:
    given = {name.removeprefix("SLUICE_").lower() for name in services["api"]["environment"]}
    assert {name for name, field in OperatorSettings.model_fields.items() if field.is_required()} <= given


def test_images_are_pinned_and_name_no_registry(services: dict[str, dict[str, Any]]) -> None:
    for name in SERVERS:
        assert re.fullmatch(r"([a-z]+/)?[a-z]+:\d[\w.-]*", services[name]["image"]), name
    assert {services[name]["image"] for name in PROCESSES} == {"sluice-events"}


def test_no_secret_has_a_default(text: str) -> None:
    kinds = {found["name"]: (found["kind"], found["rest"]) for found in VARIABLE.finditer(text)}
    assert kinds.pop("SLUICE_ISSUER") == ("-", "http://127.0.0.1:8000")
    assert set(kinds.values()) == {("?", "")}
    for line in text.splitlines():
        if re.search(r"(PASSWORD|_KEY|AUTH)[A-Z_]*:", line):
            assert "${" in line, line


def test_ports_are_the_defaults_and_open_to_this_machine_only(services: dict[str, dict[str, Any]]) -> None:
    port = GatewaySettings.model_fields["api_port"].default
    assert {name: service["ports"] for name, service in services.items() if "ports" in service} == {
        "api": [f"127.0.0.1:{port}:{port}"]
    }
    assert f"127.0.0.1:{port}/api/v1/ready" in services["api"]["healthcheck"]["test"][-1]
    metrics = Settings.model_fields["metrics_port"].default
    for name in WORKERS:
        assert f"127.0.0.1:{metrics}/metrics" in services[f"worker-{name}"]["healthcheck"]["test"][-1]


def test_everything_that_stays_has_a_health_check_and_everything_a_memory_bound(
    services: dict[str, dict[str, Any]],
) -> None:
    assert {name for name, service in services.items() if "healthcheck" not in service} == {"migrate"}
    assert all("mem_limit" in service for service in services.values())


def test_each_waits_for_what_it_needs(services: dict[str, dict[str, Any]]) -> None:
    waits = {
        name: {other: how["condition"] for other, how in service.get("depends_on", {}).items()}
        for name, service in services.items()
    }
    healthy, done = "service_healthy", "service_completed_successfully"
    assert waits["migrate"] == {"postgres": healthy, "kafka": healthy, "elasticsearch": healthy}
    assert waits["api"] == {"migrate": done, "redis": healthy}
    assert all(waits[f"worker-{name}"] == {"migrate": done} for name in WORKERS)


def test_what_must_survive_is_in_named_volumes(text: str, services: dict[str, dict[str, Any]]) -> None:
    used = {volume.split(":")[0] for service in services.values() for volume in service.get("volumes", ())}
    assert used == set(yaml.safe_load(text)["volumes"]) == {"postgres", "kafka", "elasticsearch"}


def test_our_processes_may_do_nothing_to_their_container(services: dict[str, dict[str, Any]]) -> None:
    for name in PROCESSES:
        assert (services[name]["read_only"], services[name]["cap_drop"]) == (True, ["ALL"])


def test_the_elasticsearch_and_kafka_are_those_of_the_local_stack(services: dict[str, dict[str, Any]]) -> None:
    from deploy.local import catalogue  # noqa: PLC0415  only here

    assert services["elasticsearch"]["image"].endswith(f":{catalogue.ELASTICSEARCH.version}")
    assert services["kafka"]["image"].endswith(f":{catalogue.KAFKA.version}")


def test_the_command_writes_every_secret_once_and_for_the_owner_only(tmp_path: Path, repository: Path) -> None:
    (tmp_path / "deploy").mkdir()
    for name in ("docker-compose.yml", "deploy/compose_env.py"):
        (tmp_path / name).write_bytes((repository / name).read_bytes())
    command = [sys.executable, str(tmp_path / "deploy" / "compose_env.py")]
    first = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    written = (tmp_path / ".env").read_text()
    second = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert (first.returncode, second.returncode) == (0, 1)
    assert (tmp_path / ".env").read_text() == written
    assert stat.S_IMODE((tmp_path / ".env").stat().st_mode) == 0o600
    names = [line.split("=")[0] for line in written.splitlines()]
    assert names == compose_env.required((repository / "docker-compose.yml").read_text(encoding="utf-8"))
    assert len({line.split("=", 1)[1] for line in written.splitlines()}) == len(names) == 8
