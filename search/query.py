"""What a person types into `q`: parsed into a closed tree, compiled into a closed set of Elasticsearch clauses.

Owns the language. Nothing of the text reaches Elasticsearch as syntax: words and phrases are only ever values.
Refuses to know tenants (`search.scope`) and filters (`search.request`).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, assert_never

from search.documents import plain_text

LONGEST_QUERY = 1000
"""Characters."""

MOST_CLAUSES = 50

STEM_FIELDS = ("text", "label")
WORD_FIELDS = ("text.words",)
EXACT_FIELDS = ("text.exact",)
"""Where quoted words are looked for; the label, which every event of a type shares, is no text that somebody wrote."""

VERY_WORD_BOOST = 2.0
"""The word as typed ranks above other words of its stem; ranking only, never what matches."""


@dataclass(frozen=True)
class Word:
    """A bare word (any characters but white space and quotes). Matches by stem; its parts must stand together."""

    text: str


@dataclass(frozen=True)
class Phrase:
    """Quoted text, not empty, white space as `plain_text` leaves it. Matches exactly as written."""

    text: str


@dataclass(frozen=True)
class All:
    """Each part must match; without parts everything does."""

    parts: tuple[Clause, ...]


Clause = Word | Phrase | All


@dataclass
class QuerySyntaxError(Exception):
    """The text is not in the language. `position` counts characters from 0."""

    position: int
    reason: str


_TOKEN = re.compile(r'\s*(?:"(?P<quoted>(?:[^"\\]|\\.)*)(?P<end>"?)|(?P<word>[^\s"]+))', re.DOTALL)
_ESCAPED = re.compile(r"\\([\"\\])")


def parse(text: str) -> All:
    r"""The tree of `text`: words apart by white space, and quoted words, all of which must match.

    Within quotes `\"` is a quote and `\\` a backslash; any other backslash is itself.

    Raises:
        QuerySyntaxError: a quote isn't closed, nothing is quoted, or there are more than `MOST_CLAUSES`.
    """
    parts: list[Clause] = []
    position = 0
    while (token := _TOKEN.match(text, position)) is not None:
        if len(parts) == MOST_CLAUSES:
            raise QuerySyntaxError(token.start(token.lastgroup or 0), f"more than {MOST_CLAUSES} words and quotations")
        if (word := token["word"]) is not None:
            parts.append(Word(word))
        else:
            opening = token.start("quoted") - 1
            if not token["end"]:
                raise QuerySyntaxError(opening, "this quote is not closed")
            phrase = plain_text(_ESCAPED.sub(r"\1", token["quoted"]))
            if not phrase:
                raise QuerySyntaxError(opening, "nothing is quoted here")
            parts.append(Phrase(phrase))
        position = token.end()
    return All(tuple(parts))


def compiled(clause: Clause) -> dict[str, Any]:
    """The Elasticsearch query that matches what `clause` means.

    A word without letters or digits (a dash on its own) restricts nothing.
    """
    match clause:
        case Word(text):
            stem = {"query": text, "type": "phrase", "fields": list(STEM_FIELDS), "zero_terms_query": "all"}
            word = {"query": text, "operator": "and", "fields": list(WORD_FIELDS), "boost": VERY_WORD_BOOST}
            return {"bool": {"must": [{"multi_match": stem}], "should": [{"multi_match": word}]}}
        case Phrase(text):
            return {"multi_match": {"query": text, "type": "phrase", "fields": list(EXACT_FIELDS)}}
        case All(parts):
            if not parts:
                return {"match_all": {}}
            return {"bool": {"must": [compiled(part) for part in parts]}}
        case _:
            assert_never(clause)
