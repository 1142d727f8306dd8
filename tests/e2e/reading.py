"""An independent reading of event files: what the API is asked, answered by a few lines of Python over the lines."""

from __future__ import annotations

import gzip
import json
import random
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

# Scripts without spaces between words: each character stands alone, so a word may begin or end anywhere in them.
_ALONE = "\u2e80-\ua4cf\uac00-\ud7ff\uf900-\ufaff"
_JOINED = rf"(?:[^\W{_ALONE}])"


@dataclass
class Reading:
    """The events of one file, in its order."""

    events: list[dict[str, Any]]

    @classmethod
    def of(cls, path: Path, limit: int | None = None) -> Reading:
        with gzip.open(path, "rt", encoding="utf-8") as lines:
            return cls([json.loads(line) for _, line in zip(range(limit or 10**9), lines, strict=False)])

    def by_type(self) -> dict[str, int]:
        return dict(Counter(event["event_type"] for event in self.events))

    def by_day(self, zone: str) -> dict[str, int]:
        """Counts by local date."""
        here = ZoneInfo(zone)
        return dict(Counter(_moment(event).astimezone(here).date().isoformat() for event in self.events))

    def busiest_user(self) -> str:
        return str(Counter(event["user_id"] for event in self.events).most_common(1)[0][0])

    def timeline(self, user_id: str) -> list[tuple[datetime, str]]:
        return sorted((_moment(e), e["event_id"]) for e in self.events if e["user_id"] == user_id)

    def span(self) -> tuple[datetime, datetime]:
        """From the first event to just after the last."""
        moments = [_moment(event) for event in self.events]
        return min(moments), max(moments) + timedelta(seconds=1)

    def with_word(self, word: str) -> int:
        """Events of which some text holds `word` exactly as written, and not as a part of a longer word."""
        begins = rf"(?<!{_JOINED})" if re.match(_JOINED, word[0]) else ""
        ends = rf"(?!{_JOINED})" if re.match(_JOINED, word[-1]) else ""
        pattern = re.compile(begins + re.escape(word) + ends)
        return sum(any(pattern.search(text) for text in _texts(event["metadata"])) for event in self.events)


def _moment(event: dict[str, Any]) -> datetime:
    return datetime.fromisoformat(event["timestamp"]).astimezone(UTC)


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield " ".join(value.split())
    elif isinstance(value, dict):
        for member in value.values():
            yield from _texts(member)
    elif isinstance(value, list):
        for member in value:
            yield from _texts(member)


_ENGLISH = [
    "fix",
    "fixes",
    "fixed",
    "add",
    "remove",
    "update",
    "cache",
    "index",
    "test(ci)",
    "user's",
    "docs:",
    "API",
    "v2.0",
    "e-mail",
    "snake_case",
]
_CHINESE = ["修复", "组件", "错误", "更新", "文档", "样式", "组件库", "修改组件样式"]


def generate(path: Path, count: int, seed: int) -> None:
    """A file like the real ones: seeded, English and Chinese, over eleven years and several offsets."""
    source = random.Random(seed)
    offsets = ("+00:00", "+08:00", "-05:00", "+05:30", "+02:00")
    with gzip.open(path, "wt", encoding="utf-8") as out:
        for number in range(count):
            words = source.choices(_ENGLISH, k=source.randrange(1, 8)) + source.choices(_CHINESE, k=source.randrange(4))
            source.shuffle(words)
            moment = datetime(2015, 1, 1) + timedelta(seconds=source.randrange(11 * 365 * 86_400))  # noqa: DTZ001
            event = {
                "event_id": f"{seed}-{number}-{source.getrandbits(64):x}",
                "event_type": f"commit.{source.choice(['fix', 'feat', 'chore', 'docs', 'other'])}",
                "user_id": f"user{min(int(source.expovariate(0.1)), 99)}",
                "timestamp": moment.isoformat() + source.choice(offsets),
                "metadata": {
                    "subject": source.choice(("", " ")).join(words),
                    "body": "\n".join(source.choices(_ENGLISH + _CHINESE, k=source.randrange(5))),
                    "parents": source.randrange(3),
                    "merge": source.random() < 0.1,
                },
            }
            out.write(json.dumps(event, ensure_ascii=False) + "\n")
