"""JSON bodies of the management routes: read with a bound, checked by a model, every fault with its pointer.

Members are snake_case or their camelCase alias, not both at once; unknown ones are refused. Refuses to know any
route's members: those are its model's.
"""

from __future__ import annotations

import json
from collections import Counter
from typing import TYPE_CHECKING, Any, TypeVar

import msgspec
from fastapi import Depends, Request
from pydantic import BaseModel, ConfigDict, ValidationError, field_validator
from pydantic.alias_generators import to_camel

from app.errors import Fault, InvalidError, MalformedError, UnsupportedMediaTypeError
from app.parameters import is_whole
from app.request_bodies import read_bounded

if TYPE_CHECKING:
    from collections.abc import Iterable

LARGEST_BODY = 64 * 1024
JSON = "application/json"

ModelT = TypeVar("ModelT", bound="Body")


class Body(BaseModel):
    """A body's members, strictly typed: no text for a number, no NaN. A whole number may be written `1.0`."""

    model_config = ConfigDict(
        extra="forbid",
        strict=True,
        frozen=True,
        alias_generator=to_camel,
        populate_by_name=True,
        allow_inf_nan=False,
    )

    @field_validator("*", mode="before")
    @classmethod
    def _whole(cls, value: Any) -> Any:
        return int(value) if is_whole(value) else value


def body_of(model: type[ModelT]) -> Any:
    """Reads the request's body for a handler's parameter, raising as `read_body`: see any management route."""

    async def read(request: Request) -> ModelT:
        return await read_body(request, model)

    return Depends(read)


def documented(model: type[Body], **examples: Any) -> dict[str, Any]:
    """What a route with such a body passes as `openapi_extra`; `examples` by name."""
    schema = model.model_json_schema(by_alias=False)
    described = {name: {"value": value} for name, value in examples.items()}
    return {"requestBody": {"required": True, "content": {JSON: {"schema": schema, "examples": described}}}}


async def read_bytes(request: Request) -> bytes:
    """The body of a request that says it is JSON, not yet looked at.

    Raises:
        UnsupportedMediaTypeError: it is not application/json, or compressed.
        TooLargeError: it is larger than `LARGEST_BODY` bytes.
        MalformedError: it did not arrive in time.
    """
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() != JSON:
        raise UnsupportedMediaTypeError("The body must be application/json.")
    if request.headers.get("content-encoding", "identity").lower() != "identity":
        raise UnsupportedMediaTypeError("The body must not be compressed here.")
    return await read_bounded(request, LARGEST_BODY)


async def read_body(request: Request, model: type[ModelT]) -> ModelT:
    """The body as `model`.

    Raises:
        UnsupportedMediaTypeError: it is not application/json, or compressed.
        TooLargeError: it is larger than `LARGEST_BODY` bytes.
        MalformedError: it is not JSON.
        InvalidError: names every fault.
    """
    body = await read_bytes(request)
    try:
        # Strict about text: no lone surrogate, no NaN.
        decoded = msgspec.json.decode(bytes(body))
        members = json.loads(body, object_pairs_hook=list, parse_int=str)
    except (msgspec.DecodeError, RecursionError):
        raise MalformedError("The body is not JSON.") from None
    if not isinstance(decoded, dict):
        raise InvalidError("The body is not valid.", (Fault("", "must be an object"),))
    given = Counter(name for name, _ in members)
    if twice := [Fault(_pointer([name]), "is given twice") for name, count in given.items() if count > 1]:
        raise InvalidError("The body is not valid.", tuple(twice))
    try:
        return model.model_validate_json(bytes(body))
    except ValidationError as error:
        raise InvalidError("The body is not valid.", tuple(map(_fault, error.errors(include_url=False)))) from None


def _fault(error: Any) -> Fault:
    detail = {"missing": "is required", "extra_forbidden": "is not a member here, or says the same as another one"}
    said = error["msg"].lower().removeprefix("value error, ").replace("input should", "must")
    return Fault(_pointer(error["loc"]), detail.get(error["type"], said))


def _pointer(steps: Iterable[Any]) -> str:
    return "".join("/" + str(step).replace("~", "~0").replace("/", "~1") for step in steps)
