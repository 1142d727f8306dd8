"""The search index: its slices, its mapping, and how text in it is cut into words.

Owns names and types inside Elasticsearch, put there as one index template. An index per month of receipt
(`{prefix}-{yyyymm}`, or that name is an alias of what was built again: `search.rebuild`), all behind the alias
`{prefix}`. Refuses to hold tenants apart: see `search.scope`.
"""

from __future__ import annotations

from typing import Any, Final

from elastic_transport import TransportError
from elasticsearch import ApiError, AsyncElasticsearch

from search.client import UNAVAILABLE_STATUSES, IndexUnavailable

VERSION: Final = 2
"""Raised with every change of mapping or analysis; slices made before keep theirs until they are built again."""

REFRESH_INTERVAL: Final = "500ms"
"""Given outright, so that a quiet slice is refreshed too (the default stops after 30 s without a search)."""

LONGEST_EXACT_VALUE: Final = 256
"""Longer strings in metadata are found by their words, not by value or facet; in UTF-16 units."""

LONGEST_KEY_PATH_BYTES: Final = 30_000
"""Key path, NUL and value form one term of at most 32,766 bytes (Lucene's IndexWriter.MAX_TERM_LENGTH)."""

LONGEST_WORD: Final = 255
"""A longer run of word characters is cut into pieces of this many, in the index and in a query alike."""

SOLO_RANGES: Final = (
    (0x0E00, 0x109F),  # Thai, Lao, Tibetan, Myanmar
    (0x1100, 0x11FF),  # Hangul Jamo
    (0x1780, 0x17FF),  # Khmer
    (0x1950, 0x19FF),  # Tai Le, New Tai Lue, Khmer symbols
    (0x1A20, 0x1AAF),  # Tai Tham
    (0x2E80, 0xA4CF),  # radicals, kana, bopomofo, ideographs with extension A, Yi
    (0xA960, 0xA97F),  # Hangul Jamo extended A
    (0xA9E0, 0xA9FF),  # Myanmar extended B
    (0xAA60, 0xAADF),  # Myanmar extended A, Tai Viet
    (0xAC00, 0xD7FF),  # Hangul syllables
    (0xF900, 0xFAFF),  # compatibility ideographs
    (0xFF65, 0xFFDC),  # half-width katakana and Hangul
    (0x1AFF0, 0x1B2FF),  # kana extensions, Nushu
    (0x20000, 0x3FFFF),  # ideographs, extensions B and later
)
"""Scripts that put no space between words (or, in Korean, glue particles on): each character is a word of its own."""


def alias_of(index_prefix: str) -> str:
    """The name that stands for every slice."""
    return index_prefix


def slice_name(index_prefix: str, index_slice: int) -> str:
    """The index that holds the events of `index_slice` (yyyymm of received_at, as the store fixed it)."""
    return f"{index_prefix}-{index_slice}"


def exact_tokens_pattern() -> str:
    r"""How "exactly as written" cuts text, as a Java regular expression of one token.

    A word is a letter, number (Unicode categories L, N) or `_` and the letters, marks, numbers and `_` after it, all
    outside `SOLO_RANGES`. Every other character is a token of its own, a space too. Documents and queries come with
    each run of white space as one space (`search.documents.plain_text`), so that tokens one after the other mean the
    same characters one after the other.
    """
    solo = "".join(rf"\x{{{first:X}}}-\x{{{last:X}}}" for first, last in SOLO_RANGES)
    # ASCII first: it is decided without the slower Unicode classes.
    start = rf"[A-Za-z0-9_[\p{{L}}\p{{N}}&&[^{solo}]]]"
    further = rf"[A-Za-z0-9_[\p{{L}}\p{{M}}\p{{N}}&&[^{solo}]]]"
    return rf"{start}{further}{{0,{LONGEST_WORD - 1}}}+|."


_ANALYSIS: dict[str, Any] = {
    "char_filter": {
        # The standard tokenizer (Unicode UAX #29) keeps a.b, a:b and a_b whole; people look for the parts too.
        "part_names": {"type": "mapping", "mappings": [". => \\u0020", ": => \\u0020", "_ => \\u0020"]},
    },
    "tokenizer": {
        "exact": {"type": "pattern", "pattern": exact_tokens_pattern(), "group": 0, "flags": "DOTALL"},
    },
    "filter": {
        # Single characters are indexed too: a query for one, or for one beside a digit, has no pair to look for.
        "pairs_and_singles": {"type": "cjk_bigram", "output_unigrams": True},
        "pairs": {"type": "cjk_bigram"},
        "possessive": {"type": "stemmer", "language": "possessive_english"},
        "english": {"type": "stemmer", "language": "english"},
    },
    "analyzer": {
        "stems": {
            "type": "custom",
            "char_filter": ["part_names"],
            "tokenizer": "standard",
            "filter": ["cjk_width", "lowercase", "possessive", "pairs_and_singles", "asciifolding", "english"],
        },
        "stems_of_query": {
            "type": "custom",
            "char_filter": ["part_names"],
            "tokenizer": "standard",
            "filter": ["cjk_width", "lowercase", "possessive", "pairs", "asciifolding", "english"],
        },
        "words": {
            "type": "custom",
            "char_filter": ["part_names"],
            "tokenizer": "standard",
            "filter": ["cjk_width", "lowercase", "asciifolding"],
        },
        "exact": {"type": "custom", "tokenizer": "exact"},
    },
}
"""No stop words: "all words must match" counts each of them."""


_SIMILARITY: dict[str, Any] = {
    "of_one_document": {
        "type": "scripted",
        "script": {
            "source": "query.boost * 2.2 * doc.freq / (doc.freq + 1.2 * (0.25 + 0.75 * doc.length / 20.0))",
        },
    }
}
"""BM25 (k1 = 1.2, b = 0.75) without its two statistics over all documents of a shard, which tenants share: by how much
a word lowered the score of one's own event, one could read how often others have it. The length that counts as average
is fixed. What it costs is small: each hit has all words of the query, so that one is rarer orders little.
"""

_SCORED = {"similarity": "of_one_document"}
_STEMS: dict[str, Any] = {"type": "text", "analyzer": "stems", "search_analyzer": "stems_of_query", **_SCORED}


_MAPPINGS: dict[str, Any] = {
    "dynamic": "strict",
    "_routing": {"required": True},
    "_meta": {"sluice_version": VERSION},
    "properties": {
        "tenant_id": {"type": "keyword"},
        "event_id": {"type": "keyword"},
        "event_type": {"type": "keyword"},
        "user_id": {"type": "keyword"},
        "client_id": {"type": "keyword"},
        # date keeps milliseconds only; a cursor by time needs what PostgreSQL has.
        "timestamp": {"type": "date_nanos", "format": "strict_date_optional_time_nanos"},
        "received_at": {"type": "date_nanos", "format": "strict_date_optional_time_nanos"},
        # One field whatever the keys: ten thousand keys are ten thousand terms, not ten thousand mapped fields.
        "metadata": {"type": "flattened", "depth_limit": 20, "ignore_above": LONGEST_EXACT_VALUE},
        # Metadata that `flattened` can't take (a key path too long for a term): kept as text, answered as before.
        "metadata_json": {"type": "keyword", "index": False, "doc_values": False},
        "numbers": {"type": "flattened", "depth_limit": 20, "doc_values": False},
        "text": _STEMS
        | {
            "fields": {
                # Unstemmed: prefers the very word in ranking; prefixes and typing errors are looked for here.
                "words": {"type": "text", "analyzer": "words", "index_options": "freqs", **_SCORED},
                "exact": {"type": "text", "analyzer": "exact", **_SCORED},
            }
        },
        "label": _STEMS,
    },
}


def template(index_prefix: str, *, shards: int = 1, replicas: int = 0) -> dict[str, Any]:
    """The composable index template for all slices of `index_prefix`.

    `shards` applies to slices made from now on; each tenant lies in one of them (`_routing`).
    """
    return {
        # Not `prefix-*`: that would claim the slices of a prefix that begins with this one.
        "index_patterns": [f"{index_prefix}-2*"],
        "priority": 500,
        "_meta": {"sluice_version": VERSION},
        "template": {
            "aliases": {alias_of(index_prefix): {}},
            "settings": {
                "index": {
                    "number_of_shards": shards,
                    "number_of_replicas": replicas,
                    "refresh_interval": REFRESH_INTERVAL,
                    "mapping": {"total_fields": {"limit": 50}},
                },
                "analysis": _ANALYSIS,
                "similarity": _SIMILARITY,
            },
            "mappings": _MAPPINGS,
        },
    }


async def ensure_template(client: AsyncElasticsearch, index_prefix: str, *, shards: int = 1, replicas: int = 0) -> None:
    """Put the template in place; doing it again changes nothing, existing slices are left as they are.

    Raises:
        IndexUnavailable: the server can't be reached or can't take it now.
        elasticsearch.ApiError: it refuses the template, for example a prefix with capital letters.
    """
    body = template(index_prefix, shards=shards, replicas=replicas)
    try:
        await client.indices.put_index_template(name=index_prefix, **body)
    except TransportError as error:
        raise IndexUnavailable(f"Elasticsearch does not answer: {type(error).__name__}") from error
    except ApiError as error:
        if error.status_code in UNAVAILABLE_STATUSES:
            raise IndexUnavailable(f"Elasticsearch answers {error.status_code}: {error.message}") from error
        raise
