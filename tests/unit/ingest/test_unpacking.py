"""Compressed bodies: whole ones come out as they were, others are refused, and none takes long."""

from __future__ import annotations

import gzip
from collections.abc import Callable

import pytest
import zstandard

from app.errors import MalformedError, TooLargeError
from app.ingest.unpacking import MAX_FRAMES, gunzip, unzstd

LIMIT = 100_000
WAYS = [(gunzip, gzip.compress), (unzstd, zstandard.ZstdCompressor().compress)]

pytestmark = pytest.mark.parametrize(("unpack", "pack"), WAYS)


def test_exactly_as_much_as_is_allowed_comes_out(
    unpack: Callable[[bytes, int], bytes], pack: Callable[[bytes], bytes]
) -> None:
    whole = bytes(range(256)) * 390
    assert unpack(pack(whole[:LIMIT]), LIMIT) == whole[:LIMIT]
    with pytest.raises(TooLargeError):
        unpack(pack(b"x" * (LIMIT + 1)), LIMIT)


def test_parts_come_out_together_and_there_may_be_a_thousand(
    unpack: Callable[[bytes, int], bytes], pack: Callable[[bytes], bytes]
) -> None:
    assert unpack(pack(b"a" * 20_000) + pack(b"") + pack(b"b"), LIMIT) == b"a" * 20_000 + b"b"
    assert unpack(pack(b"x") * MAX_FRAMES, LIMIT) == b"x" * MAX_FRAMES
    with pytest.raises(MalformedError, match="more than 1000 parts"):
        unpack(pack(b"") * 500_000, LIMIT)


def test_what_is_cut_short_anywhere_is_refused(
    unpack: Callable[[bytes, int], bytes], pack: Callable[[bytes], bytes]
) -> None:
    whole = pack(b"one") + pack(b"two")
    first = len(pack(b"one"))
    for length in range(1, len(whole)):
        if length != first:
            with pytest.raises(MalformedError):
                unpack(whole[:length], LIMIT)
