"""Good events as JSON text: every spelling that is to be taken.

Written piece by piece and not by a JSON encoder, as half of it no encoder would write.
"""

from __future__ import annotations

import json
from random import Random

Pairs = list[tuple[str, str]]
"""Members as their names and the JSON text of their values; a name may be there twice."""

LETTERS = 'abcXYZ019 _-/~."\\%é漢😀\u0301\u200b\ufeff'
GOOD_NUMBERS = ("0", "-0", "1", "-17", "0.5", "-0.0", "1e5", "1E-5", "3.14159", "1e399", "1e-400", "9" * 400, "2" * 50)
GOOD_TIMES = (
    "2026-01-02", "2026-01-02T03:04:05Z", "2026-01-02t03:04:05.123456789z", "2026-01-02T03:04:05+08:00",
    "1970-01-01T00:00:00Z", "2016-12-31T23:59:60Z", "2026-02-03T04:05:06-00:00",
)  # fmt: skip


def text_of(rng: Random, most: int = 12) -> str:
    return "".join(rng.choices(LETTERS, k=rng.randrange(most + 1)))


def quoted(rng: Random, text: str) -> str:
    """A JSON string, each character as it is or escaped in one of the ways there are."""
    if rng.random() < 0.5:
        return json.dumps(text, ensure_ascii=rng.random() < 0.5)
    return '"' + "".join(_escaped(each) if rng.random() < 0.3 else _as_it_is(each) for each in text) + '"'


def _as_it_is(character: str) -> str:
    return json.dumps(character, ensure_ascii=False)[1:-1]


def _escaped(character: str) -> str:
    units = character.encode("utf-16-be")
    return "".join(f"\\u{units[at]:02x}{units[at + 1]:02X}" for at in range(0, len(units), 2))


def value(rng: Random, depth: int) -> str:
    """Any good JSON value, at most `depth` levels deep."""
    kind = rng.randrange(8 if depth else 5)
    if kind < 2:
        return quoted(rng, text_of(rng))
    if kind == 2:
        return rng.choice(GOOD_NUMBERS)
    if kind < 5:
        return rng.choice(("true", "false", "null"))
    if kind < 7:
        return members(rng, [(text_of(rng, 6), value(rng, depth - 1)) for _ in range(rng.randrange(4))])
    return "[" + ",".join(value(rng, depth - 1) for _ in range(rng.randrange(4))) + "]"


def members(rng: Random, pairs: Pairs) -> str:
    space = rng.choice(("", "", " ", "\n\t"))
    return "{" + ",".join(f"{space}{quoted(rng, name)}{space}:{space}{text}" for name, text in pairs) + space + "}"


def metadata(rng: Random) -> str:
    return members(rng, [(text_of(rng, 6), value(rng, rng.randrange(15))) for _ in range(rng.randrange(5))])


def good(rng: Random) -> Pairs:
    """The members of an event that is taken."""
    pairs = [(rng.choice(("event_type", "eventType", "name")), quoted(rng, text_of(rng) or "t"))]
    if rng.random() < 0.5:
        pairs.append((rng.choice(("user_id", "userId")), rng.choice(("null", quoted(rng, text_of(rng) or "u")))))
    if rng.random() < 0.5:
        pairs.append((rng.choice(("event_id", "eventId")), f'"{rng.getrandbits(64):x}"'))
    if rng.random() < 0.5:
        pairs.append(("timestamp", json.dumps(rng.choice(GOOD_TIMES))))
    if rng.random() < 0.8:
        pairs.append(("metadata", rng.choice(("null", metadata(rng), metadata(rng), metadata(rng)))))
    rng.shuffle(pairs)
    return pairs
