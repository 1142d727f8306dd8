"""Requests to the ingest routes, drawn by number from a seed: good, with a known fault, mutated, packed, garbage."""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Callable
from dataclasses import dataclass, field
from random import Random

import zstandard

from tests.fuzz.events import good, members, metadata
from tests.fuzz.faults import faulty

JSON = "application/json"
NDJSON = "application/x-ndjson"
ANY = frozenset({202, 400, 413, 415, 422})
"""What may be answered where nothing is known of the input: never a 5xx, never nothing."""

_pack = zstandard.ZstdCompressor().compress
_BOMB = 11 * 2**20


@dataclass(frozen=True)
class Case:
    """A request. `pointers`: what is wrong, by the event's place, if that is known; `taken`: how many are accepted."""

    is_batch: bool
    content: bytes
    headers: dict[str, str]
    statuses: frozenset[int]
    pointers: dict[int, str] | None = None
    taken: int | None = None
    seed: str = field(default="", compare=False)

    def __str__(self) -> str:
        shown = self.content[:2000].hex() + ("…" if len(self.content) > 2000 else "")
        return f"case {self.seed}: {self.headers} {len(self.content)} bytes, hex {shown}"


def case(seed: int, number: int) -> Case:
    """The case of this number; always the same one."""
    named = f"{seed}:{number}"
    rng = Random(named)
    made = rng.choices(list(KINDS), list(KINDS.values()))[0](rng)
    return Case(made.is_batch, made.content, made.headers, made.statuses, made.pointers, made.taken, named)


def _case(content: bytes, *statuses: int, kind: str = JSON, is_batch: bool = False, **known: object) -> Case:
    return Case(is_batch, content, {"Content-Type": kind}, frozenset(statuses) or ANY, **known)  # type: ignore[arg-type]


def good_single(rng: Random) -> Case:
    return _case(members(rng, good(rng)).encode(), 202, taken=1)


def faulty_single(rng: Random) -> Case:
    made = faulty(rng)
    return _case(made.text.encode(), 422, pointers={0: made.pointer})


def batch(rng: Random) -> Case:
    """Good and faulty events in one of the three forms; the verdict on each is known."""
    texts: list[str] = []
    pointers: dict[int, str] = {}
    for index in range(rng.randrange(1, 12)):
        if rng.random() < 0.6:
            texts.append(members(rng, good(rng)))
        else:
            made = faulty(rng)
            texts.append(made.text)
            pointers[index] = made.pointer
    taken = len(texts) - len(pointers)
    form = rng.randrange(3)
    kind = JSON
    if form == 0:
        content = "[" + ",".join(texts) + "]"
    elif form == 1:
        content = '{"events":[' + ",".join(texts) + "]}"
    else:
        kind = NDJSON
        content = rng.choice(("\n", "\n\n", "\r\n")).join(text.replace("\n", " ") for text in texts)
    status = 202 if taken else 422
    return _case(content.encode(), status, kind=kind, is_batch=True, pointers=pointers, taken=taken)


def one_bad_line(rng: Random) -> Case:
    """NDJSON in which one line is no JSON or no UTF-8: the others are taken."""
    lines = [members(rng, good(rng)).replace("\n", " ").encode() for _ in range(rng.randrange(1, 8))]
    at = rng.randrange(len(lines) + 1)
    lines.insert(
        at, rng.choice((b"{", b"nonsense", b'{"event_type":"\xff"}', b"\x00", b"[" * 2000, b"{}x", b"\xef\xbb\xbf{}"))
    )
    known = {"pointers": {at: ""}, "taken": len(lines) - 1}
    return _case(b"\n".join(lines), 202, kind=NDJSON, is_batch=True, **known)


def mutated(rng: Random) -> Case:
    """A good or faulty request of which some bytes were changed, moved, doubled or lost."""
    original = rng.choice((good_single, faulty_single, batch))(rng)
    content = bytearray(original.content)
    for _ in range(rng.randrange(1, 6)):
        at, end = sorted((rng.randrange(len(content) + 1), min(rng.randrange(len(content) + 1), len(content))))
        change = rng.randrange(6)
        if change == 0:
            content[at:at] = rng.choice(TOKENS)
        elif change == 1 and at < len(content):
            content[at] ^= 1 << rng.randrange(8)
        elif change == 2:
            del content[at : at + rng.randrange(8)]
        elif change == 3:
            content[at:at] = content[at : min(end, at + 64)]
        elif change == 4:
            del content[at:]
        else:
            content[at:at] = rng.randbytes(rng.randrange(1, 5))
    return Case(original.is_batch, bytes(content), original.headers, ANY)


TOKENS = (
    b'"', b"\\", b"{", b"}", b"[", b"]", b",", b":", b"\0",
    b"\\u0000", b"\\ud800", b"\\udc00", b"\\uD83D\\uDE00", b"1e999",
    b"-", b"0", b".", b"null", b"NaN", b"\xed\xa0\x80", b"\xc0\x80", b"\xff", b"\xf4\x90\x80\x80", b"\xe2\x80\xa8",
    b"\r",    b'"metadata":{"a":"\\u0000"},', b'"event_type":"x",', b"[" * 40, b"9" * 500, b"/**/", b"\xef\xbb\xbf",
)  # fmt: skip


def broken_utf8(rng: Random) -> Case:
    bad = rng.choice((b"\xff", b"\xc3", b"\xed\xa0\x80", b"\xf4\x90\x80\x80", b"\xc0\xaf", b"\x80"))
    where = rng.choice(
        (b'{"event_type":"a%b"}', b'{"event_type":"a","metadata":{"k":"%b"}}', b'{"event_type":"a","%b":1}')
    )
    return _case(where % bad, 400, pointers={0: ""})


def deep(rng: Random) -> Case:
    levels = rng.choice((17, 1000, 20_000))
    opening, closing = rng.choice(((b"[", b"]"), (b'{"a":', b"}")))
    inside = opening * levels + b"0" + closing * levels * rng.randrange(2)
    text = rng.choice((b'{"event_type":"a","metadata":{"d":%b}}', b"%b", b'{"x":%b}', b'{"event_type":%b}'))
    is_batch = rng.random() < 0.5
    return _case(b"[%b]" % (text % inside) if is_batch else text % inside, 400, 413, 422, is_batch=is_batch)


def packed(rng: Random) -> Case:
    """Compressed rightly, cut short, changed in a byte, in several parts, or named as something else."""
    original = rng.choice((good_single, batch))(rng)
    encoding, pack = rng.choice(PACKERS)
    whole = pack(original.content)
    headers = {**original.headers, "Content-Encoding": encoding}
    fate = rng.randrange(5)
    if fate == 0:
        return Case(original.is_batch, whole, headers, original.statuses, original.pointers, original.taken)
    if fate == 1:
        middle = rng.randrange(len(original.content))
        parts = pack(original.content[:middle]) + pack(original.content[middle:])
        return Case(original.is_batch, parts, headers, original.statuses, original.pointers, original.taken)
    if fate == 2:
        return Case(original.is_batch, whole[: rng.randrange(1, len(whole))], headers, frozenset({400}))
    if fate == 3:
        changed = bytearray(whole)
        changed[rng.randrange(len(changed))] ^= 1 << rng.randrange(8)
        return Case(original.is_batch, bytes(changed), headers, ANY)
    other = next(name for name, _ in PACKERS if name != encoding)
    return Case(original.is_batch, whole, {**headers, "Content-Encoding": other}, frozenset({400}))


PACKERS: tuple[tuple[str, Callable[[bytes], bytes]], ...] = (("gzip", gzip.compress), ("zstd", _pack))
_BOMBS: tuple[tuple[str, bytes], ...] = (
    ("gzip", gzip.compress(b" " * _BOMB)),
    ("gzip", gzip.compress(b'[{"event_type":"a"}' + b"," * _BOMB)),
    ("zstd", _pack(b"[" + b"{}," * (_BOMB // 3))),
    ("zstd", zstandard.ZstdCompressor(write_content_size=False).compress(b"\n" * (4 * _BOMB))),
)
_INFLATED: tuple[tuple[str, bytes, int], ...] = (
    ("gzip", gzip.compress(b"[" + b"1," * 5_000_000 + b"1]"), 413),
    ("zstd", _pack(b"\n" * 10_000_000), 422),
    ("gzip", gzip.compress(b"") * 5_000, 400),
    ("zstd", _pack(b"") * 5_000, 400),
    ("zstd", zlib.compress(b"no zstd"), 400),
)


def bomb(rng: Random) -> Case:
    """More comes out than is allowed, or as much but of millions of parts."""
    if rng.random() < 0.5:
        encoding, content = rng.choice(_BOMBS)
        headers = {"Content-Type": rng.choice((JSON, NDJSON)), "Content-Encoding": encoding}
        return Case(rng.random() < 0.7, content, headers, frozenset({413}))
    encoding, content, status = rng.choice(_INFLATED)
    kind = NDJSON if content == _INFLATED[1][1] else JSON
    return Case(True, content, {"Content-Type": kind, "Content-Encoding": encoding}, frozenset({status}))


def other_type(rng: Random) -> Case:
    kind = rng.choice(
        ("text/plain", "application/xml", "multipart/form-data; boundary=x", "json", "application/json5", "*/*", NDJSON)
    )
    if rng.random() < 0.3:
        kind = rng.choice(("application/json; charset=utf-16", "application/json;charset=latin-1"))
    return _case(members(rng, good(rng)).encode(), 415, kind=kind)


def other_encoding(rng: Random) -> Case:
    headers = {
        "Content-Type": JSON,
        "Content-Encoding": rng.choice(("br", "deflate", "gzip, zstd", "x-gzip", "zip", "identity, gzip")),
    }
    return Case(rng.random() < 0.5, members(rng, good(rng)).encode(), headers, frozenset({415}))


def garbage(rng: Random) -> Case:
    content = (
        rng.randbytes(rng.randrange(200)) if rng.random() < 0.5 else b"".join(rng.choices(TOKENS, k=rng.randrange(30)))
    )
    return _case(content, kind=rng.choice((JSON, NDJSON)), is_batch=rng.random() < 0.5)


def large(rng: Random) -> Case:
    """Around the bound of an event, which is measured in bytes."""
    size = 65_536 + rng.randrange(-300, 300)
    head, tail = b'{"event_type":"a","metadata":{"t":"', b'"}}'
    content = head + b"x" * (size - len(head) - len(tail)) + tail
    is_batch = rng.random() < 0.5
    fits = size <= 65_536
    if not is_batch:
        return _case(content, 202 if fits else 413, taken=int(fits))
    pointers = {} if fits else {1: ""}
    return _case(b'[{"event_type":"b"},' + content + b"]", 202, is_batch=True, pointers=pointers, taken=1 + fits)


def dense(rng: Random) -> Case:
    """Much in few bytes: thousands of values, keys and faults, which must cost little to judge and to answer."""
    many = rng.randrange(1000, 10_000)
    bad = rng.choice(("", r',"\u0000"', ",1e999"))
    unit = rng.choice(("1", "1e99", '""', "[]", "{}", r'"\u0041"'))
    name = "k" * rng.choice((1, 5000))
    text = f'{{"event_type":"a","metadata":{{"{name}":[{",".join([unit] * many)}{bad}]}}}}'
    if len(text) > 65_536:
        return _case(text.encode(), 413)
    pointers = {0: f"/metadata/{name}/{many}"} if bad else None
    return _case(text.encode(), 422 if bad else 202, pointers=pointers, taken=0 if bad else 1)


def swelling(rng: Random) -> Case:
    """Numbers that would be too many digits together once written out."""
    numbers = ",".join([rng.choice(("0e100", "1e399", "5" * 300))] * rng.randrange(700, 900))
    text = f'{{"event_type":"a","metadata":{{"n":[{numbers}]}}}}'
    return _case(text.encode(), 413) if len(text) > 65_536 else _case(text.encode(), 422, pointers={0: "/metadata"})


def many_faults(rng: Random) -> Case:
    unit = rng.choice((r'"\u0000"', "1e999"))
    content = f'{{"event_type":"a","metadata":{{"{"k" * 9000}":[{",".join([unit] * 5000)}]}}}}'
    return _case(content.encode(), 422)


def without_metadata_of_its_own(rng: Random) -> Case:
    """Members given twice: the last counts, of the event as in metadata."""
    text = f'{{"event_type":"a","event_type":"b","metadata":{{"x":1}},"metadata":{metadata(rng)}}}'
    return _case(text.encode(), 202, taken=1)


KINDS: dict[Callable[[Random], Case], float] = {
    good_single: 15, faulty_single: 20, batch: 12, one_bad_line: 5, mutated: 30, broken_utf8: 3, deep: 1, packed: 6,
    bomb: 0.2, other_type: 2, other_encoding: 1, garbage: 6, large: 1, dense: 0.5, swelling: 0.2, many_faults: 0.2,
    without_metadata_of_its_own: 2,
}  # fmt: skip
