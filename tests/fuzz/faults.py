"""Events with a single fault whose place is known: a function for each kind of fault."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from random import Random

from tests.fuzz.events import Pairs, good, members, metadata, quoted, text_of, value

BAD_NUMBERS = ("1e401", "-1e131072", "1e-401", "1" * 401, "1e999999999999", "0." + "3" * 401, "5E+2000000000")
BAD_TIMES = (
    "", "now", "2026-13-01", "2026-02-30T00:00:00Z", "2026-01-02T03:04:05", "2026-01-02 03:04:05Z",
    "2999-01-01T00:00:00Z", "1969-12-31T23:59:59Z", "0000-01-01T00:00:00Z", "9999-12-31T23:59:59-23:59",
    "2026-01-02T24:00:00Z", "1e9", "2026-01-02T03:04:61Z", "２０２６-01-02", "2026-01-02\0",
)  # fmt: skip
SPELLINGS = {"event_type": ("eventType", "name"), "event_id": ("eventId",), "user_id": ("userId",)}


@dataclass(frozen=True)
class Faulty:
    """An event's text, and the pointer of what is wrong with it."""

    text: str
    pointer: str


def faulty(rng: Random) -> Faulty:
    """An event with one fault of any kind."""
    return rng.choice(KINDS)(rng)


def step(name: str | int) -> str:
    """A step of a pointer (RFC 6901)."""
    return "/" + str(name).replace("~", "~0").replace("/", "~1")


def _with(rng: Random, name: str, text: str, *without: str) -> str:
    """A good event in which a member is replaced or added."""
    kept = [pair for pair in good(rng) if pair[0] not in {name, *without}]
    return members(rng, [*kept, (name, text)])


def bad_value(rng: Random) -> Faulty:
    """Somewhere below metadata; sometimes replaced by a later member of the same name, which does not mend it."""
    bad = rng.choice((rng.choice(BAD_NUMBERS), r'"x\u0000y"', r'{"\u0000k":1}'))
    path: list[str | int] = []
    for _ in range(rng.randrange(8)):
        if rng.random() < 0.6:
            name = text_of(rng, 6)
            pairs: Pairs = [(f"{name}{number}", value(rng, 1)) for number in range(rng.randrange(3))]
            pairs += [(name, bad), (name, "1")] if rng.random() < 0.2 else [(name, bad)]
            bad = members(rng, pairs)
            path.insert(0, name)
        else:
            before = [value(rng, 1) for _ in range(rng.randrange(3))]
            bad = "[" + ",".join([*before, bad, value(rng, 1)]) + "]"
            path.insert(0, len(before))
    name = text_of(rng, 6)
    pointer = "/metadata" + "".join(map(step, [name, *path]))
    return Faulty(_with(rng, "metadata", members(rng, [(name, bad)])), pointer)


def too_deep(rng: Random) -> Faulty:
    text = "0"
    for _ in range(rng.randrange(16, 60)):
        text = f'{{"a":{text}}}' if rng.random() < 0.5 else f"[{text}]"
    return Faulty(_with(rng, "metadata", members(rng, [("d", text)])), "/metadata")


def no_object(rng: Random) -> Faulty:
    return Faulty(_with(rng, "metadata", rng.choice(("[]", "1", '"{}"', "true", f"[{metadata(rng)}]"))), "/metadata")


def bad_time(rng: Random) -> Faulty:
    return Faulty(_with(rng, "timestamp", json.dumps(rng.choice(BAD_TIMES))), "/timestamp")


def no_type(rng: Random) -> Faulty:
    names = {"event_type", *SPELLINGS["event_type"]}
    return Faulty(members(rng, [pair for pair in good(rng) if pair[0] not in names]), "/event_type")


def unknown_member(rng: Random) -> Faulty:
    name = text_of(rng, 8) + rng.choice(("!", "` - at `$.event_type", "`", "/x~y", "x" * 300))
    return Faulty(_with(rng, name, value(rng, 2)), step(name))


def bad_text(rng: Random) -> Faulty:
    name = rng.choice(tuple(SPELLINGS))
    text = rng.choice(('""', quoted(rng, "x" * 201), r'"a\u0000"', quoted(rng, "漢" * 201)))
    return Faulty(_with(rng, name, text, *SPELLINGS[name]), f"/{name}")


def wrong_kind(rng: Random) -> Faulty:
    name = rng.choice((*SPELLINGS, "timestamp"))
    return Faulty(_with(rng, name, rng.choice(("1", "[]", "{}", "true", "1.5")), *SPELLINGS.get(name, ())), f"/{name}")


def said_twice(rng: Random) -> Faulty:
    name = rng.choice(tuple(SPELLINGS))
    other = rng.choice(SPELLINGS[name])
    kept = [pair for pair in good(rng) if pair[0] not in {name, *SPELLINGS[name]}]
    if name != "event_type":
        kept = [pair for pair in kept if pair[0] not in SPELLINGS["event_type"]] + [("event_type", '"t"')]
        kept = list(dict(kept).items())
    return Faulty(members(rng, [*kept, (other, '"1"'), (name, '"2"')]), f"/{other}")


KINDS: tuple[Callable[[Random], Faulty], ...] = (
    bad_value, bad_value, too_deep, no_object, bad_time, no_type, unknown_member, bad_text, wrong_kind, said_twice,
)  # fmt: skip
