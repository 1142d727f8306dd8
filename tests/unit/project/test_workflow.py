"""The workflow file: valid, and only a caller of .ci/run."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml
from jsonschema import Draft7Validator


@pytest.fixture(scope="module")
def workflow(repository: Path) -> dict[str, Any]:
    # YAML 1.1 reads the key `on` as true.
    loaded = yaml.safe_load((repository / ".github" / "workflows" / "ci.yml").read_text(encoding="utf-8"))
    return {"on" if key is True else key: value for key, value in loaded.items()}


def test_the_workflow_is_valid(workflow: dict[str, Any]) -> None:
    # From check-jsonschema 0.39.0, which carries it from SchemaStore; its licence lies beside it.
    schema = json.loads((Path(__file__).parent / "schemas" / "github-workflow.json").read_text(encoding="utf-8"))
    assert [error.message for error in Draft7Validator(schema).iter_errors(workflow)] == []


def test_its_one_command_is_the_same_that_anybody_runs(workflow: dict[str, Any]) -> None:
    commands = [step["run"] for job in workflow["jobs"].values() for step in job["steps"] if "run" in step]
    assert commands == [".ci/run"]


def test_it_may_only_read(workflow: dict[str, Any]) -> None:
    assert workflow["permissions"] == {"contents": "read"}


def test_it_tries_the_oldest_python_that_the_project_allows(workflow: dict[str, Any], repository: Path) -> None:
    project = tomllib.loads((repository / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    tried = {entry["python"] for entry in workflow["jobs"]["test"]["strategy"]["matrix"]["include"]}
    assert project["requires-python"].removeprefix(">=") in tried
