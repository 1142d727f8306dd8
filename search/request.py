"""What a search asks for: the parameters of GET and the members of POST's body, read into one value.

Owns the meaning of q, user_id, sort, limit and cursor; times and the other filters are `app.reads.window`'s.
Refuses to know a tenant beyond binding the cursor to it.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, get_args

import msgspec

from app.errors import Fault, InvalidError, MalformedError
from app.events.timestamps import format_utc
from app.parameters import Parameter, Reading, is_whole
from app.reads.window import NAME_CHARACTERS, WINDOW_PARAMETERS, Window, read_window
from search import cursor
from search.query import LONGEST_QUERY, All, QuerySyntaxError, parse

if TYPE_CHECKING:
    from uuid import UUID

DEFAULT_LIMIT = 20
MOST_HITS = 100

Q = Parameter(
    "q",
    "Words, all of which must match. Bare words match by stem (English) or as written (Chinese, Japanese, Korean), "
    'whatever their case and accents, in metadata\'s strings, the event type and the user id. "Quoted words" match '
    "exactly as written, in order, in any script, within one string of metadata: letters and their case, punctuation "
    "and all, each run of white space as one space, and only whole words in scripts that put spaces between them. "
    'Within quotes `\\"` is a quote and `\\\\` a backslash. Left out: every event.',
    {"type": "string", "maxLength": LONGEST_QUERY},
    'timeout "payment declined"',
)
USER_ID = Parameter(
    "user_id", "Only events of this user.", {"type": "string", "minLength": 1, "maxLength": NAME_CHARACTERS}, "u1"
)
SORT = Parameter(
    "sort",
    "The order of hits. `relevance` is the default with `q`, `newest` without.",
    {"type": "string", "enum": list(get_args(cursor.Sort))},
    "newest",
)
LIMIT = Parameter(
    "limit",
    "Hits in one answer.",
    {"type": "integer", "minimum": 1, "maximum": MOST_HITS, "default": DEFAULT_LIMIT},
    DEFAULT_LIMIT,
)
CURSOR = Parameter(
    "cursor",
    "`next_cursor` of the answer before, to go on from there. Every other parameter but `limit` must be the same. By "
    "time each hit is visited once, whatever arrives meanwhile; by relevance, new events can shift what follows.",
    {"type": "string", "minLength": 1, "maxLength": cursor.LONGEST_CURSOR},
)
PARAMETERS = (Q, *WINDOW_PARAMETERS, USER_ID, SORT, LIMIT, CURSOR)
_SPELLINGS = {spelling for parameter in PARAMETERS for spelling in parameter.spellings}

# What date_nanos can hold. Events lie between; bounds outside restrict nothing or everything.
_FIRST = datetime(1970, 1, 1, tzinfo=UTC)
_LAST = datetime(2262, 1, 1, tzinfo=UTC)


@dataclass(frozen=True)
class SearchRequest:
    """One page of one question. `question` is its digest, `after` the sort values to continue behind."""

    clause: All
    window: Window
    user_id: str | None
    sort: cursor.Sort
    limit: int
    question: str
    after: tuple[Any, ...]

    def filters(self) -> list[dict[str, Any]]:
        """The filters as Elasticsearch clauses."""
        found: list[dict[str, Any]] = [
            {"term": {name: value}}
            for name, value in (
                ("event_type", self.window.event_type),
                ("client_id", self.window.client_id),
                ("user_id", self.user_id),
            )
            if value is not None
        ]
        started_at, ended_at = self.window.started_at, self.window.ended_at
        if (started_at is not None and started_at >= _LAST) or (ended_at is not None and ended_at <= _FIRST):
            return [*found, {"match_none": {}}]
        span = {}
        if started_at is not None and started_at > _FIRST:
            span["gte"] = format_utc(started_at)
        if ended_at is not None and ended_at < _LAST:
            span["lt"] = format_utc(ended_at)
        return [*found, {"range": {"timestamp": span}}] if span else found


def read_request(reading: Reading, tenant_id: UUID, *, pointer: str) -> SearchRequest:
    """The request that `reading`, made with `PARAMETERS`, holds; `pointer` is q's, for a syntax error.

    Raises:
        InvalidError: names every fault.
        MalformedError: q is not in the language; `position` counts its characters from 0.
    """
    window = read_window(reading)
    user_id = reading.text(USER_ID.name, most=NAME_CHARACTERS)
    text = reading.text(Q.name) or ""
    if len(text) > LONGEST_QUERY:
        reading.refuse(Q.name, f"must have at most {LONGEST_QUERY} characters")
        text = ""
    try:
        clause = parse(text)
    except QuerySyntaxError as error:
        raise MalformedError(
            "The query can't be parsed.",
            faults=(Fault(pointer, f"{error.reason} (position {error.position})"),),
            extra={"position": error.position},
        ) from None
    by_default: cursor.Sort = "relevance" if clause.parts else "newest"
    sort: Any = reading.choice(SORT.name, get_args(cursor.Sort), default=by_default)
    limit = reading.integer(LIMIT.name, default=DEFAULT_LIMIT, least=1, most=MOST_HITS)
    times = (None if at is None else format_utc(at) for at in (window.started_at, window.ended_at))
    question = cursor.digest(str(tenant_id), text, window.event_type, window.client_id, user_id, *times, sort)
    after: list[Any] = []
    if (behind := reading.text(CURSOR.name)) is not None:
        try:
            after = cursor.read(behind, question, sort)
        except cursor.CursorError as error:
            reading.refuse(CURSOR.name, str(error))
    reading.finish()
    return SearchRequest(clause, window, user_id, sort, limit, question, tuple(after))


def pairs_of_body(body: bytes) -> list[tuple[str, str]]:
    """The members of a JSON object as the pairs that a query would have: texts, and numbers for `limit`.

    `null` counts as absent.

    Raises:
        MalformedError: not JSON.
        InvalidError: not an object, or a member of another type.
    """
    try:
        # Strict about text (no lone surrogate, no NaN); the second reading sees members given twice.
        if not isinstance(msgspec.json.decode(body), dict):
            raise InvalidError("The body must be a JSON object.", faults=(Fault("", "must be an object"),))
    except msgspec.DecodeError:
        raise MalformedError("The body is not JSON.") from None
    members: list[tuple[str, Any]] = json.loads(body, object_pairs_hook=list)
    pairs: list[tuple[str, str]] = []
    faults: list[Fault] = []
    for name, value in members:
        if isinstance(value, str):
            pairs.append((name, value))
        elif name == LIMIT.name and is_whole(value):
            pairs.append((name, str(int(value))))
        elif value is not None or name not in _SPELLINGS:
            escaped = name.replace("~", "~0").replace("/", "~1")
            wrong = "must be an integer" if name == LIMIT.name else "must be a string"
            faults.append(Fault(f"/{escaped}", wrong if name in _SPELLINGS else "is not a parameter here"))
    if faults:
        raise InvalidError("The body is not valid.", faults=tuple(faults))
    return pairs
