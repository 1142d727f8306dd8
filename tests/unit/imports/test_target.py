"""Where to and as whom: which source of credentials wins, and where the demo tenant's never go."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from app.imports.failures import TargetError
from app.imports.target import Target, find_target

ENVIRON = {"SLUICE_CLIENT_ID": "of-env", "SLUICE_CLIENT_SECRET": "env-secret"}


@pytest.fixture
def stack(tmp_path: Path) -> Path:
    path = tmp_path / "stack.json"
    demo = {"tenant_id": "t", "client_id": "of-demo", "client_secret": "demo-secret"}
    path.write_text(json.dumps({"api": "http://127.0.0.1:8000", "demo": demo}))
    return path


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "credentials.json"
    path.write_text(json.dumps({"tenant_id": "t", "client_id": "of-file", "client_secret": "file-secret"}))
    return path


def test_the_local_stack_needs_no_option(stack: Path) -> None:
    assert find_target(None, None, {}, stack) == Target("http://127.0.0.1:8000", "of-demo", "demo-secret")


def test_the_environment_wins_over_the_stack_and_the_file_over_both(stack: Path, file: Path) -> None:
    assert find_target(None, None, ENVIRON, stack).client_id == "of-env"
    assert find_target(None, file, ENVIRON, stack).client_id == "of-file"


def test_the_demo_tenants_secret_goes_to_no_other_api(stack: Path) -> None:
    with pytest.raises(TargetError, match=r"no credentials for https://events\.example\.com"):
        find_target("https://events.example.com/", None, {}, stack)
    assert find_target("http://127.0.0.1:8000/", None, {}, stack).client_id == "of-demo"


def test_half_of_the_credentials_is_an_error_and_not_another_tenant(stack: Path) -> None:
    for name, value in ENVIRON.items():
        with pytest.raises(TargetError, match="must be set together"):
            find_target(None, None, {name: value}, stack)


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"client_id": "a"}', '{"client_id": 1, "client_secret": 2}'])
def test_a_file_without_credentials_is_named(tmp_path: Path, stack: Path, content: str) -> None:
    path = tmp_path / "wrong.json"
    path.write_text(content)
    with pytest.raises(TargetError, match=r"wrong\.json"):
        find_target(None, path, ENVIRON, stack)


@pytest.mark.parametrize(
    "url", ["127.0.0.1:8000", "ftp://host", "http://", "http://h:99999", "http://u:p@host", "h?a=1"]
)
def test_what_is_no_url_of_an_api_is_refused(stack: Path, url: str) -> None:
    with pytest.raises(TargetError, match="is not the URL of an API"):
        find_target(url, None, ENVIRON, stack)


def test_without_a_stack_the_api_has_to_be_given(tmp_path: Path) -> None:
    with pytest.raises(TargetError, match="no API"):
        find_target(None, None, ENVIRON, tmp_path / "absent")


def test_a_secret_is_not_shown_by_mistake() -> None:
    assert "secret-text" not in repr(Target("http://h", "id", "secret-text"))
