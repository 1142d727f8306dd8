"""A user's id as a part of a path, for the routes that are about one user."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated
from urllib.parse import unquote_to_bytes

from fastapi import Path

from app.errors import Fault, InvalidError, MalformedError
from app.events.model import MAX_TEXT_LENGTH

if TYPE_CHECKING:
    from fastapi import Request

UserId = Annotated[
    str,
    Path(
        description="The user; a `/` may be written as it is or as %2F.",
        examples=["u1"],
        json_schema_extra={"minLength": 1, "maxLength": MAX_TEXT_LENGTH},
    ),
]


def check_user_id(request: Request, user_id: str) -> None:
    """Nothing, if an event could be this user's. Called once the caller is known: a stranger learns no rules.

    Raises:
        MalformedError: the path is not UTF-8.
        InvalidError: it is empty, too long, or has a NUL.
    """
    try:
        unquote_to_bytes(request.scope["raw_path"]).decode()
    except UnicodeDecodeError:
        raise MalformedError("The path is not UTF-8.") from None
    if "\0" in user_id or not 0 < len(user_id) <= MAX_TEXT_LENGTH:
        detail = f"must have 1 to {MAX_TEXT_LENGTH} characters, none of them NUL"
        raise InvalidError("The user id is not valid.", (Fault("/path/user_id", detail),))
