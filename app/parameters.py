"""The query parameters of reading and managing endpoints: how they are declared, spelled, read and refused.

Reads text by name; what a parameter means is said in `app.reads.window` and beside each endpoint.
FastAPI's own query parameters are not used: they ignore unknown and repeated names.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, tzinfo
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl

from app.errors import Fault, InvalidError, MalformedError
from app.events.timestamps import TimestampError, parse_rfc3339

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

MOST_PARAMETERS = 50
TIME_SCHEMA: dict[str, Any] = {
    "anyOf": [{"type": "string", "format": "date-time"}, {"type": "string", "format": "date"}]
}
_DATE = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")
_BAD_ESCAPE = re.compile(rb"%(?![0-9A-Fa-f]{2})")
_INTEGER = re.compile(r"-?[0-9]{1,18}")


@dataclass(frozen=True)
class Parameter:
    """One parameter by its snake_case `name`; its camelCase form and `aliases` are read as the same one."""

    name: str
    description: str
    schema: dict[str, Any] = field(hash=False)
    example: str | int | None = None
    aliases: tuple[str, ...] = ()

    @property
    def spellings(self) -> tuple[str, ...]:
        """Every accepted name, the canonical one first."""
        head, *tail = self.name.split("_")
        camel = head + "".join(part.title() for part in tail)
        return (self.name, *((camel,) if camel != self.name else ()), *self.aliases)

    def openapi(self) -> dict[str, Any]:
        """The OpenAPI 3.1 Parameter Object of the canonical name; the description names the other spellings."""
        others = ", ".join(f"`{spelling}`" for spelling in self.spellings[1:])
        described = f"{self.description} Also accepted as {others}." if others else self.description
        entry = {"name": self.name, "in": "query", "required": False, "description": described, "schema": self.schema}
        return entry if self.example is None else entry | {"example": self.example}


def openapi_parameters(parameters: Sequence[Parameter]) -> dict[str, Any]:
    """What a route passes as `openapi_extra`, so that its documentation lists `parameters`."""
    return {"parameters": [parameter.openapi() for parameter in parameters]}


def pairs_of_query(query: bytes) -> list[tuple[str, str]]:
    """The names and values of a query string (an ASGI scope's `query_string`), in order, blank values kept.

    Raises:
        MalformedError: an escape is broken, the text is not UTF-8, or there are more than `MOST_PARAMETERS`.
    """
    if _BAD_ESCAPE.search(query):
        raise MalformedError("The query has a % that two hexadecimal digits don't follow; a plain % is written %25.")
    if query.count(b"&") >= MOST_PARAMETERS:
        raise MalformedError(f"The query has more than {MOST_PARAMETERS} parameters.")
    try:
        return parse_qsl(query.decode(), keep_blank_values=True, errors="strict")
    except UnicodeDecodeError:
        raise MalformedError("The query is not UTF-8.") from None


class Reading:
    """One request's parameters while they are read: collects every fault, then raises them together.

    A fault's pointer is `prefix`, `/` and the name as the caller wrote it, escaped by RFC 6901: the request seen as
    a document whose member `query` holds the parameters (`/query/startedAt`). A body with the same names is read
    with `prefix=""`. Whatever was refused reads as absent, so one mistake is one fault.
    """

    def __init__(
        self, pairs: Iterable[tuple[str, str]], parameters: Sequence[Parameter], *, prefix: str = "/query"
    ) -> None:
        self._prefix = prefix
        self._faults: list[Fault] = []
        self._spelled: dict[str, str] = {}
        self._texts: dict[str, str] = {}
        canonical = {spelling: parameter.name for parameter in parameters for spelling in parameter.spellings}
        for spelling, text in pairs:
            name = canonical.get(spelling)
            if name is None:
                known = ", ".join(parameter.name for parameter in parameters)
                self._fault(spelling, f"is not a parameter here; there are: {known}")
            elif name in self._spelled:
                earlier = self._spelled[name]
                twice = "is given twice" if earlier == spelling else f"says the same as {earlier}: give only one"
                self._fault(spelling, twice)
            else:
                self._spelled[name] = spelling
                self._texts[name] = text

    def text(self, name: str, *, most: int | None = None) -> str | None:
        """The text of `name`, or None when absent; with `most`, refuses other lengths than 1 to `most` characters."""
        text = self._texts.get(name)
        if text is None:
            return None
        if "\0" in text:
            self.refuse(name, "contains a NUL character, which nothing stored can")
        elif most is not None and not 0 < len(text) <= most:
            self.refuse(name, f"must have 1 to {most} characters")
        return self._texts.get(name)

    def moment(self, name: str, zone: tzinfo = UTC) -> datetime | None:
        """The moment that `name` says, in UTC: RFC 3339, or a date, which is its start in `zone`."""
        text = self.text(name)
        if text is None:
            return None
        try:
            return start_of_day(date.fromisoformat(text), zone) if _DATE.fullmatch(text) else parse_rfc3339(text)
        except OverflowError:
            self.refuse(name, "is outside the years 0001 to 9999 in UTC")
        except TimestampError as error:
            hint = "; a + in a query is written %2B" if " " in text else ""
            self.refuse(name, f"{error}, nor a date such as 2026-01-02{hint}" if "RFC" in str(error) else str(error))
        except ValueError as error:
            self.refuse(name, str(error))
        return None

    def integer(self, name: str, *, default: int, least: int, most: int) -> int:
        """The decimal integer that `name` says, within [least, most]."""
        text = self._texts.get(name)
        if text is None:
            return default
        if _INTEGER.fullmatch(text) and least <= int(text) <= most:
            return int(text)
        self.refuse(name, f"must be an integer from {least} to {most}")
        return default

    def choice(self, name: str, choices: Sequence[str], *, default: str) -> str:
        """The one of `choices` that `name` says."""
        text = self._texts.get(name)
        if text is None or text in choices:
            return default if text is None else text
        self.refuse(name, f"must be one of {', '.join(choices)}")
        return default

    def refuse(self, name: str, detail: str) -> None:
        """Note that the value of `name` (canonical) is wrong, at the spelling that the caller used."""
        self._fault(self._spelled.get(name, name), detail)
        self._texts.pop(name, None)

    def finish(self) -> None:
        """Raise what was found.

        Raises:
            InvalidError: any fault.
        """
        if self._faults:
            raise self.failed()

    def failed(self) -> InvalidError:
        """The error that names every fault noted so far."""
        return InvalidError("The parameters are not valid.", faults=tuple(self._faults))

    def _fault(self, spelling: str, detail: str) -> None:
        escaped = spelling.replace("~", "~0").replace("/", "~1")
        self._faults.append(Fault(f"{self._prefix}/{escaped}", detail))


def is_whole(value: object) -> bool:
    """Whether a value out of a JSON body is an integer, which `1.0` is too (JSON Schema 2020-12, validation 6.1.1)."""
    return type(value) is int or (isinstance(value, float) and value.is_integer())


def start_of_day(day: date, zone: tzinfo) -> datetime:
    """The first moment of `day` on the clocks of `zone`, in UTC; where midnight is skipped, the moment of the jump.

    Raises:
        OverflowError: it is outside the years 0001 to 9999.
    """
    # fold=0 takes the first of two midnights, and in a gap the offset before it (PEP 495), which is the jump itself.
    return datetime.combine(day, time(), tzinfo=zone).astimezone(UTC)
