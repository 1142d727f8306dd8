"""Tables in the documentation against the code, and links against what they point at."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from prometheus_client import Counter, Gauge, Histogram
from pydantic import SecretStr

from app import metrics
from app.ingest.content import MAX_BATCH_BYTES
from app.ingest.counting import MAX_BATCH_EVENTS
from app.ingest.openapi import PATHS
from app.main import create_app
from app.redirects import OLD_PATHS
from app.settings import (
    GatewaySettings,
    MaintainSettings,
    MigrationSettings,
    OperatorSettings,
    ReplayCommandSettings,
    ReplaySettings,
    Settings,
    VerifySettings,
    WorkerSettings,
)
from deploy.local.ports import Ports
from deploy.local.stack import ApplicationPorts

COLUMNS: tuple[type[Settings], ...] = (GatewaySettings, WorkerSettings, MigrationSettings, OperatorSettings)
KINDS: tuple[type[Settings], ...] = (
    *COLUMNS, MaintainSettings, ReplaySettings, VerifySettings, ReplayCommandSettings
)  # fmt: skip
# Who shares a column with others and reads more than they do is named in it.
MORE: dict[type[Settings], dict[str, type[Settings]]] = {
    WorkerSettings: {"maintain": MaintainSettings, "replay": ReplaySettings},
    OperatorSettings: {"verify": VerifySettings, "replay": ReplayCommandSettings},
}
LINK = re.compile(r"\[[^\]]*\]\((?!https?:)([^)#\s]*)(?:#([^)\s]+))?\)")


def _documents(repository: Path) -> list[Path]:
    return sorted([*repository.glob("*.md"), *repository.glob("docs/**/*.md")])


def _table(repository: Path, marker: str) -> list[list[str]]:
    """The cells of the marked table in docs/operations.md, head and rule left out."""
    text = (repository / "docs" / "operations.md").read_text(encoding="utf-8")
    _, _, after = text.partition(f"<!-- {marker}: ")
    lines = after.split("\n\n")[0].splitlines()[1:]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[2:]]


def _need(settings: type[Settings], name: str) -> str:
    field = settings.model_fields.get(name)
    if field is not None:
        return "required" if field.is_required() else "optional"
    return ", ".join(who for who, kind in MORE.get(settings, {}).items() if name in kind.model_fields)


def test_every_setting_is_described_for_every_process(repository: Path) -> None:
    described = {row[0].strip("`"): row[1:] for row in _table(repository, "settings")}
    fields = {name: field for kind in KINDS for name, field in kind.model_fields.items()}
    assert set(described) == {f"SLUICE_{name.upper()}" for name in fields}
    for name, field in fields.items():
        *needs, default, meaning = described[f"SLUICE_{name.upper()}"]
        assert needs == [_need(kind, name) for kind in COLUMNS], name
        assert default == ("" if field.is_required() or field.default == "" else f"`{field.default}`"), name
        assert meaning, name


def test_secrets_have_no_default() -> None:
    for kind in KINDS:
        for name, field in kind.model_fields.items():
            assert field.annotation is not SecretStr or field.is_required(), name


def test_every_metric_is_described_with_its_labels(repository: Path) -> None:
    kinds = {Counter: "counter", Gauge: "gauge", Histogram: "histogram"}
    defined = {}
    for metric in vars(metrics).values():
        # A labelled child has the same type but no label names of its own left.
        if isinstance(metric, Counter | Gauge | Histogram) and not metric._labelvalues:
            (family,) = metric.describe()
            name = f"{family.name}_total" if isinstance(metric, Counter) else family.name
            defined[name] = (kinds[type(metric)], ", ".join(metric._labelnames), family.documentation)
    rows = {row[0].strip("`"): row[1:] for row in _table(repository, "metrics")}
    assert set(rows) == set(defined)
    for name, (kind, labels, documentation) in defined.items():
        assert rows[name][:2] == [kind, labels], name
        assert rows[name][2].startswith(documentation.rstrip(".")), name


def test_the_ports_are_the_defaults(repository: Path) -> None:
    described = {row[2].strip("`"): int(row[1]) for row in _table(repository, "ports")}
    ports, application = Ports(), ApplicationPorts()
    assert described == {
        "SLUICE_API_PORT": application.api,
        "SLUICE_POSTGRES_PORT": ports.postgres,
        "SLUICE_REDIS_PORT": ports.redis,
        "SLUICE_KAFKA_PORT": ports.kafka,
        "SLUICE_ELASTICSEARCH_PORT": ports.elasticsearch,
        "SLUICE_METRICS_PORT": application.metrics,
    }


def test_the_api_page_names_every_route_and_every_limit(repository: Path) -> None:
    text = (repository / "docs" / "api.md").read_text(encoding="utf-8")
    settings = GatewaySettings.model_construct()
    routes = set(create_app(settings).openapi()["paths"]) | set(PATHS)
    assert {path for path in routes if path not in text} == set()
    assert all(f"`{path}`" in text for path in OLD_PATHS)
    assert f"{MAX_BATCH_EVENTS:,} events and {MAX_BATCH_BYTES // 2**20} MiB" in text


def test_every_link_points_at_something(repository: Path) -> None:
    broken = []
    for document in _documents(repository):
        for path, anchor in LINK.findall(document.read_text(encoding="utf-8")):
            target = (document.parent / path).resolve() if path else document
            if not target.exists():
                broken.append(f"{document.name}: {path}")
            elif anchor and anchor not in _anchors(target):
                broken.append(f"{document.name}: {path}#{anchor}")
    assert broken == []


def _anchors(document: Path) -> set[str]:
    headings = re.findall(r"^#+ (.+)$", document.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_every_decision_is_listed_and_has_its_four_parts(repository: Path) -> None:
    folder = repository / "docs" / "adr"
    records = sorted(folder.glob("0*.md"))
    listed = re.findall(r"\]\((0[^)]+)\)", (folder / "README.md").read_text(encoding="utf-8"))
    assert listed == [record.name for record in records]
    for record in records:
        text = record.read_text(encoding="utf-8")
        assert text.startswith(f"# {record.name[:4]} ")
        parts = re.findall(r"^\*\*([^*]+)\.\*\*", text, re.MULTILINE)
        assert parts == ["Context", "Decision", "Alternatives considered", "Consequences"], record.name


@pytest.mark.parametrize("command", ["run", "test", "lint", "types", "bench", "loadtest", "faults"])
def test_contributors_are_told_every_command(repository: Path, command: str) -> None:
    assert f"`make {command}`" in (repository / "CONTRIBUTING.md").read_text(encoding="utf-8")


def test_the_changelog_has_the_form_that_it_says(repository: Path) -> None:
    text = (repository / "CHANGELOG.md").read_text(encoding="utf-8")
    headings = re.findall(r"^## (.+)$", text, re.MULTILINE)
    assert headings[0] == "[Unreleased]"
    kinds = set(re.findall(r"^### (.+)$", text, re.MULTILINE))
    assert kinds <= {"Added", "Changed", "Deprecated", "Removed", "Fixed", "Security"}
