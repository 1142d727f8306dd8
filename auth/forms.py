"""The body of a request to an OAuth endpoint: form encoding only, each parameter once (RFC 6749 section 3.2).

Refuses to know what a parameter means.
"""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import parse_qsl

from authlib.oauth2.rfc6749 import InvalidRequestError

from app.errors import MalformedError, TooLargeError
from app.request_bodies import read_bounded

if TYPE_CHECKING:
    from starlette.requests import Request

FORM = "application/x-www-form-urlencoded"
MAX_FORM_BYTES = 16 * 1024
MAX_PARAMETERS = 50


async def read_form(request: Request) -> dict[str, str]:
    """The form's parameters. One without a value counts as left out (RFC 6749 section 3.2).

    Raises:
        InvalidRequestError: not a form, too large, not UTF-8, a parameter twice, or parameters in the URL.
    """
    if request.url.query:
        # A secret in a URL ends up in logs; who sends one there should learn it at the first try.
        raise InvalidRequestError("Parameters belong in the body, not in the URL.")
    if "content-encoding" in request.headers:
        raise InvalidRequestError("The body must not be compressed.")
    try:
        body = await read_bounded(request, MAX_FORM_BYTES)
    except TooLargeError:
        raise InvalidRequestError("The body is too large.", status_code=413) from None
    except MalformedError as error:
        raise InvalidRequestError(error.detail) from None
    return parse_form(request.headers.get("content-type", ""), body)


def parse_form(content_type: str, body: bytes) -> dict[str, str]:
    """Parameters of a complete body; see `read_form`."""
    if content_type.partition(";")[0].strip().lower() != FORM:
        raise InvalidRequestError(f"The body must be {FORM}.")
    try:
        pairs = parse_qsl(body.decode(), keep_blank_values=True, errors="strict", max_num_fields=MAX_PARAMETERS)
    except ValueError:  # UnicodeDecodeError is one too
        raise InvalidRequestError("The body is not a form in UTF-8, or has too many parameters.") from None
    form = dict(pairs)
    if len(form) != len(pairs):
        raise InvalidRequestError("A parameter is given more than once.")
    return {name: value for name, value in form.items() if value}
