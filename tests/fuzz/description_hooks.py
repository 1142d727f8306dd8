"""What schemathesis has to be told about this API: how bodies are written, and which refusals no schema can foresee.

Loaded by it through schemathesis.toml. Every exclusion has its reason; a refusal that is not listed here is a failure.
"""

from __future__ import annotations

import gzip
import json
import os
import re
from typing import TYPE_CHECKING, Any
from uuid import UUID

import schemathesis
import zstandard
from hypothesis import strategies
from schemathesis.openapi.checks import (
    AllowHeaderMismatch,
    EnsureResourceAvailability,
    RejectedPositiveData,
    UnsupportedMethodResponse,
    UseAfterFree,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from schemathesis import Case, HookContext, Response, SerializationContext
    from schemathesis.core.failures import Failure

NDJSON = "application/x-ndjson"
PACKERS: Mapping[str, Callable[[bytes], bytes]] = {"gzip": gzip.compress, "zstd": zstandard.ZstdCompressor().compress}

UNFORESEEABLE = {
    r"is not a (next_)?cursor": "A cursor is what a page before has answered; its form is nobody else's business.",
    r"is before started_at": "JSON Schema can't compare two members.",
    r"is not an IANA time zone": "The zones are those of the tz database of the day.",
    r"the range has more than \d+ buckets|has more than \d+ (buckets|points)": "A product of range, width and types.",
    r"is less than 30 days before the end of the year 9999": "Where the default end would be after all time.",
    r"is outside the years": "An offset can move a moment out of the calendar, which date-time does not know.",
    r"can only be replaced": "Whether the client has keys or a secret is data.",
    r"must be in the future": "Now is not in the document.",
    r"is before 1970-01-01|more than one day in the future": "Now is not in the document.",
    r"RFC 3339|second 60 exists only|must be in 1\.\.9999": "Leap seconds, and years that a datetime can't hold.",
    r"printable characters, not only spaces|none a control character": "Unicode's classes are not in every regex.",
    r"must be a network such as|is IPv4 within IPv6": "There is no format for networks.",
    r"at most the tenant's|to the tenant's": "The bounds are those of the tenant's plan.",
    r": contains NUL|: contains a lone surrogate|: a key contains|NUL character": "A rule for characters deep inside.",
    r"is nested more than|is a number of more than|digits in all": "JSON Schema knows no depth and no digits.",
    r"^/plan: must be one of": "The plans are data.",
    r"^/jwks/keys/\d|^/jwks: is nested too deep|^/jwks: must be at most": "Whether a key is one, arithmetic says.",
    r"webhook_url goes with the target|does not go with the target": "Said in words; conditions hide members.",
    r"^/webhook_url: ": "A URL may be one and still lead into a private network.",
    r"is no stored event's id": "Which events there are is data.",
    r"this quote is not closed|position \d+": "The query language has a grammar.",
}
"""What may be wrong with input that fits the schema, and why the schema can't say it."""

OAUTH = {
    "authenticates in more than one way": "Basic is sent with each request here, also beside a secret in the form.",
    "given more than once": "A form may name a member that the description leaves open twice.",
    "has too many parameters": "The same.",
}

RECEIPTS = {
    "/api/v1/admin/tenants/{tenant_id}/deletion": "It is there only once the tenant is deleted, and stays.",
}
"""What does not come and go with the resource that it lies below."""

NAMES_BESIDE_IDS = {"/api/v1/dead-letters/retry", "/api/v1/dead-letters/discard"}
"""The name stands where others have an id. To GET and PATCH it is one of the wrong form: 422 in place of 405."""

OWN = {os.environ["FUZZ_CLIENT_ID"], os.environ["FUZZ_TENANT_ID"], "standard"}
STRANGERS = {"client_id": f"slc_{'0' * 32}", "tenant_id": str(UUID(int=7)), "plan_id": "stranger"}

_EVENTS = strategies.fixed_dictionaries(
    {"event_type": strategies.text(strategies.characters(codec="ascii", min_codepoint=32), min_size=1, max_size=200)},
    optional={
        "user_id": strategies.none() | strategies.text("abc", min_size=1),
        "event_id": strategies.uuids().map(str),
    },
)
schemathesis.openapi.format(
    "ndjson", strategies.lists(_EVENTS, min_size=1, max_size=5).map(lambda events: "\n".join(map(json.dumps, events)))
)


@schemathesis.hook
def before_load_schema(context: HookContext, raw_schema: dict[str, Any]) -> None:
    """Gives NDJSON, which is any string to JSON Schema, a form that can be made."""
    del context
    for item in raw_schema["paths"].values():
        for operation in item.values():
            content = operation.get("requestBody", {}).get("content", {})
            if NDJSON in content:
                content[NDJSON]["schema"]["format"] = "ndjson"


@schemathesis.hook
def before_call(context: HookContext, case: Case[Any], kwargs: dict[str, Any]) -> None:
    """Keeps this run's own tenant, client and plan from being changed: all that follows would be refused."""
    del context, kwargs
    if case.method.upper() not in {"GET", "HEAD", "OPTIONS"}:
        for name, value in case.path_parameters.items():
            if value in OWN:
                case.path_parameters[name] = STRANGERS[name]


@schemathesis.serializer("application/json", NDJSON)
def packed(context: SerializationContext, value: Any) -> bytes:
    """The body's bytes, compressed as the case's own header says."""
    if isinstance(value, bytes):
        body = value
    elif context.case.media_type == NDJSON and isinstance(value, str):
        body = value.encode(errors="surrogatepass")
    else:
        body = json.dumps(value, default=str).encode()
    headers: Mapping[str, str] = context.case.headers
    pack = PACKERS.get(headers.get("Content-Encoding", ""))
    return body if pack is None else pack(body)


@schemathesis.hook
def filter_failure(context: HookContext, failure: Failure, case: Case[Any], response: Response) -> bool:
    """Whether a failure counts: all but a refusal whose every fault is one of those above."""
    del context
    if isinstance(failure, UseAfterFree | EnsureResourceAvailability):
        return case.path not in RECEIPTS
    if isinstance(failure, AllowHeaderMismatch | UnsupportedMethodResponse):
        return case.path not in NAMES_BESIDE_IDS
    if not isinstance(failure, RejectedPositiveData):
        return True
    answer = response.json()
    if case.path.startswith("/oauth/"):
        return not any(text in answer["error_description"] for text in OAUTH)
    faults = [f"{fault['pointer']}: {fault['detail']}" for fault in answer.get("errors", [])] or [answer["detail"]]
    return not all(any(re.search(pattern, fault, re.IGNORECASE) for pattern in UNFORESEEABLE) for fault in faults)
