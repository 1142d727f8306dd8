"""The JSON Schema of the topic events.dead-letter against the type that is written; real records are held to it in
tests/integration/workers/test_letter_copies.py.
"""

from __future__ import annotations

import json
import types
from pathlib import Path
from typing import Any, get_args, get_type_hints

import pytest
from jsonschema import Draft202012Validator

from app.events.dead_letters import DeadLetterRecord
from app.recovery.letter_answers import Reason, Worker
from app.recovery.letters import REASONS

RECORD: dict[str, Any] = {
    "tenant_id": "00000000-0000-0000-0000-000000000000",
    "dead_letter_id": "1c7f3d52-9d0e-4f3b-8b1a-0e6f3f0c9a11",
    "worker": "store",
    "reason": "not a record",
    "detail": "DecodeError: JSON is malformed",
    "attempts": 1,
    "topic": "events.raw",
    "partition": 0,
    "offset": 7,
    "index": None,
    "event_id": None,
    "event_type": None,
    "user_id": None,
    "client_id": None,
    "received_at": None,
    "created_at": "2026-01-02T03:04:05.000006Z",
    "payload_bytes": 2,
    "payload": "e30=",
    "version": 1,
}


@pytest.fixture(scope="module")
def schema(repository: Path) -> dict[str, Any]:
    path = repository / "app" / "events" / "schemas" / "events.dead-letter.schema.json"
    loaded: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    Draft202012Validator.check_schema(loaded)
    return loaded


def test_the_schema_has_the_members_of_the_type(schema: dict[str, Any]) -> None:
    fields = set(DeadLetterRecord.__struct_fields__)
    assert set(schema["properties"]) == set(schema["required"]) == fields == set(RECORD)
    assert schema["additionalProperties"] is False


def test_what_may_be_null_in_the_schema_is_what_may_be_none_in_the_type(schema: dict[str, Any]) -> None:
    hints = get_type_hints(DeadLetterRecord)
    may_be_none = {name for name, hint in hints.items() if types.NoneType in get_args(hint)}
    validator = Draft202012Validator(schema)
    assert {name for name in RECORD if validator.is_valid(RECORD | {name: None})} == may_be_none


def test_the_reasons_and_workers_are_those_of_the_api(schema: dict[str, Any]) -> None:
    assert schema["properties"]["reason"]["enum"] == [*REASONS] == [*get_args(Reason)]
    assert schema["properties"]["worker"]["enum"] == [*get_args(Worker)]


@pytest.mark.parametrize(
    "change",
    [
        {"version": 2},
        {"tenant_id": "x"},
        {"worker": "detect"},
        {"reason": "unlucky"},
        {"attempts": 0},
        {"offset": -1},
        {"index": -1},
        {"created_at": "yesterday"},
        {"trace": "x"},
    ],
)
def test_the_schema_refuses_what_is_no_record(change: dict[str, Any], schema: dict[str, Any]) -> None:
    validator = Draft202012Validator(schema)
    assert validator.is_valid(RECORD)
    assert not validator.is_valid(RECORD | change)
