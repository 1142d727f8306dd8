"""What "exactly as written" means, told once more without Elasticsearch, for tests to compare with.

A quoted phrase is found in a text where its tokens stand one after the other. A token is a word or any one character
outside of words. A word is a letter, number or `_` with the letters, numbers, marks and `_` that follow it (at most
255 characters), in scripts that put spaces between words; in the others each character stands for itself. Before,
each run of white space becomes one space, and none is left at the ends. Letters must be the very same: case, accents
and width count.
"""

from __future__ import annotations

import unicodedata
from typing import Any

NO_SPACES_BETWEEN_WORDS = (
    *((0x0E00, 0x109F), (0x1100, 0x11FF), (0x1780, 0x17FF), (0x1950, 0x19FF), (0x1A20, 0x1AAF), (0x2E80, 0xA4CF)),
    *((0xA960, 0xA97F), (0xA9E0, 0xA9FF), (0xAA60, 0xAADF), (0xAC00, 0xD7FF), (0xF900, 0xFAFF), (0xFF65, 0xFFDC)),
    *((0x1AFF0, 0x1B2FF), (0x20000, 0x3FFFF)),
)


def tokens(text: str) -> list[str]:
    found: list[str] = []
    in_word = False
    for character in " ".join(text.split()):
        spaced = not any(first <= ord(character) <= last for first, last in NO_SPACES_BETWEEN_WORDS)
        kind = unicodedata.category(character)[0] if spaced else ""
        if in_word and (kind in ("L", "N", "M") or character == "_") and len(found[-1]) < 255:
            found[-1] += character
        else:
            found.append(character)
            in_word = kind in ("L", "N") or character == "_"
    return found


def is_written(phrase: str, text: str) -> bool:
    """True if quoted `phrase` is found in `text`."""
    wanted, given = tokens(phrase), tokens(text)
    return any(given[at : at + len(wanted)] == wanted for at in range(len(given) - len(wanted) + 1))


def texts(metadata: Any) -> list[str]:
    """An event's texts: each string value anywhere in its metadata. A phrase is looked for in one at a time."""
    if isinstance(metadata, str):
        return [metadata]
    members = metadata.values() if isinstance(metadata, dict) else metadata if isinstance(metadata, list) else ()
    return [text for member in members for text in texts(member)]
