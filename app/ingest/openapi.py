"""The OpenAPI entries of the ingest routes, which no framework sees. A contract test holds them to the answers."""

from __future__ import annotations

from typing import Any

from app.events.model import MAX_EVENT_BYTES, MAX_TEXT_LENGTH
from app.ingest.content import MAX_BATCH_BYTES
from app.ingest.counting import MAX_BATCH_EVENTS
from app.ingest.endpoint import BATCH, SINGLE

_EVENT_EXAMPLE = {
    "event_type": "click",
    "user_id": "u1",
    "timestamp": "2026-05-04T12:00:00Z",
    "metadata": {"endpoint": "/pay", "status": 200},
    "event_id": "0196a0c4-7a7e-7000-8000-5d1f6f2f9a01",
}

_TEXT = {"type": ["string", "null"], "minLength": 1, "maxLength": MAX_TEXT_LENGTH}


def _given(*names: str) -> dict[str, Any]:
    """All of these members are there and not null, which would count as absent."""
    return {"required": list(names), "properties": {name: {"type": "string"} for name in names}}


SCHEMAS: dict[str, Any] = {
    "Event": {
        "type": "object",
        "description": f"One event, at most {MAX_EVENT_BYTES // 1024} KiB or the plan's limit. `null` is absent; "
        "an unknown member is refused. A name may be spelled one way only: both at once is 422.",
        "properties": {
            "event_type": {
                **_TEXT,
                "description": "What happened. Required; also accepted as `eventType` or `name`.",
                "examples": ["click"],
            },
            "eventType": {**_TEXT, "description": "The same as `event_type`."},
            "name": {**_TEXT, "description": "The same as `event_type`."},
            "user_id": {**_TEXT, "description": "Whose event it is. Also accepted as `userId`."},
            "userId": {**_TEXT, "description": "The same as `user_id`."},
            "timestamp": {
                "type": ["string", "null"],
                "description": "RFC 3339 with an offset, or a date (its start in UTC). From 1970-01-01 to one day "
                "from now. Left out: the time of receipt.",
                "examples": ["2026-05-04T12:00:00Z"],
            },
            "event_id": {
                **_TEXT,
                "description": "Counts once within the tenant, whatever its timestamp; the first content wins. Left "
                "out: a UUIDv7. Send your own to be able to send again. Also accepted as `eventId`.",
            },
            "eventId": {**_TEXT, "description": "The same as `event_id`."},
            "metadata": {
                "type": ["object", "null"],
                "description": "Anything else, at most 16 deep, without NUL and lone surrogates, with numbers of at "
                "most 400 digits before and after the decimal point.",
                "additionalProperties": True,
            },
        },
        "additionalProperties": False,
        "oneOf": [_given("event_type"), _given("eventType"), _given("name")],
        "allOf": [{"not": _given("event_id", "eventId")}, {"not": _given("user_id", "userId")}],
        "examples": [_EVENT_EXAMPLE],
    },
    "Received": {
        "type": "object",
        "required": ["message", "event_id"],
        "properties": {"message": {"type": "string"}, "event_id": {"type": "string"}},
        "additionalProperties": False,
    },
    "Rejection": {
        "type": "object",
        "required": ["index", "event_id", "errors"],
        "properties": {
            "index": {"type": "integer", "description": "Place in the batch, from 0; blank NDJSON lines don't count."},
            "event_id": {"type": ["string", "null"]},
            "errors": {"type": "array", "items": {"$ref": "#/components/schemas/Fault"}, "minItems": 1},
        },
        "additionalProperties": False,
    },
    "BatchReceived": {
        "type": "object",
        "required": ["accepted", "rejected"],
        "properties": {
            "accepted": {"type": "integer", "minimum": 1},
            "rejected": {"type": "array", "items": {"$ref": "#/components/schemas/Rejection"}},
        },
        "additionalProperties": False,
    },
}

_LIMIT_HEADERS: dict[str, Any] = {
    "RateLimit": {
        "description": "Events left and seconds until the bucket is full (draft-ietf-httpapi-ratelimit-headers-11): of "
        "the tenant (`events`), of the client if it has a bucket of its own (`client`), of a used-up quota (`month`).",
        "schema": {"type": "string", "examples": ['"events";r=94;t=1', '"events";r=940;t=1, "client";r=12;t=4']},
    },
    "RateLimit-Policy": {
        "description": "The bucket's size and the seconds in which it fills.",
        "schema": {
            "type": "string",
            "examples": ['"events";q=1000;w=10', '"events";q=1000;w=10, "client";q=50;w=5'],
        },
    },
}
_RETRY: dict[str, Any] = {
    "Retry-After": {"description": "Seconds to wait.", "schema": {"type": "integer", "minimum": 0}}
}
_ENCODING: dict[str, Any] = {
    "name": "Content-Encoding",
    "in": "header",
    "required": False,
    "schema": {"type": "string", "enum": ["gzip", "zstd", "identity", ""]},
}


def _problem(description: str, **headers: Any) -> dict[str, Any]:
    return {
        "description": description,
        "headers": headers,
        "content": {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}},
    }


def _answers(accepted: str, example: dict[str, Any], too_large: str) -> dict[str, Any]:
    return {
        "202": {
            "description": "Acknowledged by Kafka with acks=all: it will be stored, whatever dies now.",
            "headers": _LIMIT_HEADERS,
            "content": {
                "application/json": {"schema": {"$ref": f"#/components/schemas/{accepted}"}, "example": example}
            },
        },
        "400": _problem("The body can't be parsed, or the Authorization header has no token in it.", **_LIMIT_HEADERS),
        "401": _problem("No token, or one that does not hold."),
        "403": _problem("The token lacks `events:write`, or its client may not call from this address."),
        "413": _problem(too_large, **_LIMIT_HEADERS),
        "415": _problem("The content type, charset or content encoding is not known.", **_LIMIT_HEADERS),
        "422": _problem("Parsed, but not valid; `errors` says each fault with its JSON pointer.", **_LIMIT_HEADERS),
        "429": _problem(
            "Over the limit of the tenant or the client, or (`quota-exceeded`) the month's quota is used up.",
            **_LIMIT_HEADERS,
            **_RETRY,
        ),
        "503": _problem(
            "Kafka did not acknowledge in time, so the outcome is unknown, or too much waits already. `event_ids` has "
            "every id concerned, generated ones too: send the same ids again, they count once.",
            **_LIMIT_HEADERS,
            **_RETRY,
        ),
    }


_SECURITY = [{"ClientCredentials": ["events:write"]}]

PATHS: dict[str, Any] = {
    SINGLE: {
        "post": {
            "tags": ["Ingest"],
            "operationId": "receive_event",
            "summary": "Send one event",
            "description": "Costs one token of the tenant's bucket, and of the client's own if it has one.",
            "security": _SECURITY,
            "parameters": [_ENCODING],
            "requestBody": {
                "required": True,
                "content": {
                    "application/json": {"schema": {"$ref": "#/components/schemas/Event"}, "example": _EVENT_EXAMPLE}
                },
            },
            "responses": _answers(
                "Received",
                {"message": "Event received successfully", "event_id": _EVENT_EXAMPLE["event_id"]},
                "The event is larger than 64 KiB or than the plan allows.",
            ),
        }
    },
    BATCH: {
        "post": {
            "tags": ["Ingest"],
            "operationId": "receive_batch",
            "summary": "Send many events",
            "description": f"Up to {MAX_BATCH_EVENTS:,} events and {MAX_BATCH_BYTES // 2**20} MiB decompressed. Good "
            "events are kept, bad ones are named. Costs a token for each good event, all or nothing.",
            "security": _SECURITY,
            "parameters": [_ENCODING],
            "requestBody": {
                "required": True,
                "content": {
                    "application/json": {
                        "schema": {
                            "oneOf": [
                                {"$ref": "#/components/schemas/EventList"},
                                {
                                    "type": "object",
                                    "required": ["events"],
                                    "properties": {"events": {"$ref": "#/components/schemas/EventList"}},
                                    "additionalProperties": False,
                                },
                            ]
                        },
                        "example": [_EVENT_EXAMPLE],
                    },
                    "application/x-ndjson": {
                        "schema": {"type": "string", "description": "One event as JSON on each line."},
                        "example": '{"event_type":"click"}\n{"event_type":"view"}\n',
                    },
                },
            },
            "responses": _answers(
                "BatchReceived",
                {
                    "accepted": 1,
                    "rejected": [
                        {"index": 1, "event_id": None, "errors": [{"pointer": "/event_type", "detail": "is required"}]}
                    ],
                },
                "Too many events or bytes, or more than the smaller bucket can ever hold (`bucket_size`).",
            ),
        }
    },
}

SCHEMAS["EventList"] = {
    "type": "array",
    "items": {"$ref": "#/components/schemas/Event"},
    "minItems": 1,
    "maxItems": MAX_BATCH_EVENTS,
}
