"""Records of the topic events.replay, webhooks' bodies and lines of NDJSON against the schema of replayed events."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import UUID

import msgspec
import pytest
from jsonschema import Draft202012Validator

from app.events.record import RECORD_LIMIT_BYTES
from app.events.replayed import ReplayedEvent, ReplayedLine, ReplayRecord, line, message, piece, records

TENANT, REPLAY = UUID(int=7), UUID(int=9)
AT = datetime(2026, 1, 2, 3, 4, 5, 678900, tzinfo=UTC)
ROWS: list[dict[str, Any]] = [
    {
        "event_id": f'e"{number}"events":[]',
        "event_type": "类型",
        "user_id": None if number else "é" * 200,
        "client_id": "slc_1",
        "timestamp": AT.replace(microsecond=0) if number else AT,
        "received_at": AT,
        "metadata": metadata,
    }
    for number, metadata in enumerate(['{"a": [1e300, "\\n\\u0001"]}', '{"events":[], "deep": [[[{}]]]}', "{}"])
]


@pytest.fixture(scope="module")
def schema(repository: Path) -> dict[str, Any]:
    path = repository / "app" / "events" / "schemas" / "events.replay.schema.json"
    loaded: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    Draft202012Validator.check_schema(loaded)
    return loaded


def faults(schema: dict[str, Any], value: Any) -> list[str]:
    return [error.message for error in Draft202012Validator(schema).iter_errors(value)]


def test_a_record_and_a_webhooks_data_fit_and_hold_every_event_in_order(schema: dict[str, Any]) -> None:
    pieces = [piece(row) for row in ROWS]
    (record,) = (json.loads(value) for value in records(TENANT, REPLAY, pieces))
    body = json.loads(message(TENANT, REPLAY, AT, pieces))
    assert faults(schema, record) == []
    assert record == body["data"]
    assert (body["type"], body["timestamp"]) == ("events.replayed", "2026-01-02T03:04:05.678900Z")
    assert [event["event_id"] for event in record["events"]] == [row["event_id"] for row in ROWS]
    assert [event["metadata"] for event in record["events"]] == [json.loads(row["metadata"]) for row in ROWS]


def test_a_line_is_an_event_that_says_where_it_comes_from(schema: dict[str, Any]) -> None:
    event = {"$ref": "#/$defs/event", "$defs": schema["$defs"]}
    for row in ROWS:
        text = line(row, REPLAY)
        assert text.count(b"\n") == 1
        found = json.loads(text)
        assert (found.pop("replay_id"), found.pop("replayed")) == (str(REPLAY), True)
        assert faults(event, found) == []


def test_what_is_larger_than_a_record_is_split_and_loses_nothing(schema: dict[str, Any]) -> None:
    rows = [{**ROWS[0], "event_id": str(n), "metadata": json.dumps({"x": "y" * 50_000})} for n in range(20)]
    values = list(records(TENANT, REPLAY, [piece(row) for row in rows]))
    assert len(values) == 4
    assert max(map(len, values)) < RECORD_LIMIT_BYTES + 1024
    decoded = [json.loads(value) for value in values]
    assert all(faults(schema, value) == [] for value in decoded)
    assert [event["event_id"] for value in decoded for event in value["events"]] == [str(n) for n in range(20)]


@pytest.mark.parametrize(("name", "struct"), [("", ReplayRecord), ("event", ReplayedEvent)])
def test_the_schema_has_the_members_of_the_type(
    name: str, struct: type[msgspec.Struct], schema: dict[str, Any]
) -> None:
    described = schema["$defs"][name] if name else schema
    assert set(described["properties"]) == set(described["required"]) == set(struct.__struct_fields__)
    assert described["additionalProperties"] is False
    assert set(ReplayedLine.__struct_fields__) == {*ReplayedEvent.__struct_fields__, "replay_id", "replayed"}


@pytest.mark.parametrize(
    "change", [{"version": 2}, {"replayed": False}, {"tenant_id": "x"}, {"events": []}, {"events": [{}]}, {"more": 1}]
)
def test_the_schema_refuses_what_is_no_record(change: dict[str, Any], schema: dict[str, Any]) -> None:
    (value,) = records(TENANT, REPLAY, [piece(ROWS[0])])
    assert faults(schema, json.loads(value) | change) != []
