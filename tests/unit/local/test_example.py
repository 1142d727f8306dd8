"""What `sluice up` prints last is what a newcomer can type."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from app.cli.stack import example


def test_the_command_is_named_as_it_is_reached(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SLUICE_HOME", raising=False)
    monkeypatch.setenv("PATH", "/nowhere")
    beside = os.path.relpath(Path(sys.executable).with_name("sluice"))
    assert f"Ctrl-C, or: {beside} down\n" in example("http://127.0.0.1:1", Path("/home/of/it"))


def test_a_moved_home_is_part_of_what_is_to_be_typed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLUICE_HOME", "/elsewhere")
    text = example("http://127.0.0.1:1", Path("/elsewhere"))
    assert "SLUICE_HOME=/elsewhere " in text
    assert 'STACK="/elsewhere/stack.json"' in text
