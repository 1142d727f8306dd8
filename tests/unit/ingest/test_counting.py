"""Batches of millions of parts are refused before anything is made for each; others are counted as they are decoded."""

from __future__ import annotations

import pytest

from app.errors import AppError
from app.events.model import Receipt
from app.ingest.content import decode_batch
from app.ingest.counting import check_elements, lines_of

MANY = 2_000_000
EVENT = b'{"event_type":"a","metadata":{"n":[' + b"1," * 30_000 + b"1]}}"


def refusal(body: bytes, kind: str = "application/json") -> int:
    with pytest.raises(AppError) as raised:
        decode_batch(body, kind, Receipt.now())
    return raised.value.status


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"[" + b"1," * MANY + b"1]", 413),
        (b"[" + b"{}," * MANY + b"{}]", 413),
        (b'{"events":[' + b"{}," * MANY + b"{}]}", 413),
        (b'{"events":[],"events":[' + b"{}," * MANY + b"{}]}", 400),
        (b'{"events":[{}],"events":[' + b"{}," * MANY + b"{}]}", 422),
        (b'{"other":[' + b"{}," * MANY + b"{}]}", 422),
        (b"[" + b"," * MANY + b"]", 400),
        (b"[" + b"[" * 100_000 + b"1," * MANY, 400),
    ],
)
def test_a_body_of_millions_of_parts_is_refused(body: bytes, status: int) -> None:
    assert refusal(body) == status


def test_a_few_large_events_of_many_values_are_counted_as_few() -> None:
    for body in (b"[" + b",".join([EVENT] * 8) + b"]", b' {"events" : [' + b" , ".join([EVENT] * 8) + b"] } "):
        check_elements(body)
        assert len(decode_batch(body, "application/json", Receipt.now()).accepted) == 8


def test_lines_are_taken_up_to_the_bound_and_blank_ones_are_none() -> None:
    assert lines_of(b"\n\n1\n \t\r\n" * 2000) == [b"1"] * 2000
    assert refusal(b"1\n" * 2001, "application/x-ndjson") == 413
    assert refusal(b"\n" * MANY, "application/x-ndjson") == 422
