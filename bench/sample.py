"""Events to measure with: seeded, about 350 bytes each as JSON, with English and Chinese text, one each 6 seconds."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

_WORDS = [
    "fix",
    "add",
    "remove",
    "update",
    "cache",
    "index",
    "worker",
    "tenant",
    "search",
    "count",
    "trend",
    "修复",
    "组件",
    "错误",
    "更新",
    "文档",
    "样式",
]
_TYPES = [f"commit.{kind}" for kind in ("fix", "feat", "chore", "docs", "refactor", "test", "other")]
_START = datetime(2024, 1, 1, tzinfo=UTC)


def events(count: int, seed: int = 7) -> Iterator[dict[str, Any]]:
    """`count` events in the order of time, as a tenant sends them: 150 a quarter hour; ids unique within a seed."""
    source = random.Random(seed)
    for number in range(count):
        yield {
            "event_id": f"{seed:08x}{number:016x}{source.getrandbits(64):016x}",
            "event_type": source.choice(_TYPES),
            "user_id": f"user-{source.randrange(2000)}",
            "timestamp": (_START + timedelta(seconds=number * 6 + source.random())).isoformat(),
            "metadata": {
                "subject": " ".join(source.choices(_WORDS, k=8)),
                "body": " ".join(source.choices(_WORDS, k=14)),
                "parents": 1,
                "merge": False,
            },
        }


def encoded(items: Any) -> bytes:
    return json.dumps(items, ensure_ascii=False, separators=(",", ":")).encode()
