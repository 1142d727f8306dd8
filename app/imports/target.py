"""Where an import goes and as whom: from options, the environment, or the local stack. Opens no connection."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from app.imports.failures import TargetError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

_ID, _SECRET = "SLUICE_CLIENT_ID", "SLUICE_CLIENT_SECRET"


@dataclass(frozen=True)
class Target:
    """The API's base URL without a slash at its end, and an OAuth client of the tenant that is written to."""

    api: str
    client_id: str
    client_secret: str = field(repr=False)


def find_target(api: str | None, credentials: Path | None, environ: Mapping[str, str], stack_file: Path) -> Target:
    """The target that was asked for.

    Credentials come from the file `credentials` (JSON with `client_id` and `client_secret`, as `sluice tenants create
    --json` prints), else from SLUICE_CLIENT_ID and SLUICE_CLIENT_SECRET, else from the local stack's demo tenant; the
    latter only for the local stack's own API, so that its secret never goes elsewhere.

    Raises:
        TargetError: something is missing or can't be read; the text says what to do.
    """
    stack = _read_object(stack_file) if stack_file.is_file() else {}
    local = _text_in(stack, "api")
    url = _checked_url(api or local)
    if credentials is not None:
        found = _read_object(credentials)
        client_id, secret = _text_in(found, "client_id"), _text_in(found, "client_secret")
        if not (client_id and secret):
            raise TargetError(f"{credentials} has no client_id and client_secret")
        return Target(url, client_id, secret)
    client_id, secret = environ.get(_ID), environ.get(_SECRET)
    if client_id and secret:
        return Target(url, client_id, secret)
    if client_id or secret:
        raise TargetError(f"{_ID} and {_SECRET} must be set together")
    demo = stack.get("demo")
    if isinstance(demo, dict) and local is not None and url == _checked_url(local):
        client_id, secret = _text_in(demo, "client_id"), _text_in(demo, "client_secret")
        if client_id and secret:
            return Target(url, client_id, secret)
    raise TargetError(
        f"no credentials for {url}: set {_ID} and {_SECRET}, or give --credentials FILE with what "
        "`sluice tenants create NAME --json` printed"
    )


def _checked_url(url: str | None) -> str:
    if not url:
        raise TargetError("no API: give --api URL, set SLUICE_API_URL, or start the local stack with `sluice up`")
    try:
        parts = urlsplit(url)
        valid = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        valid = False
    else:
        valid = valid and not (parts.query or parts.fragment or parts.username)
    if not valid:
        raise TargetError(f"{url!r} is not the URL of an API, such as http://127.0.0.1:8000")
    return url.rstrip("/")


def _read_object(path: Path) -> dict[str, Any]:
    try:
        value = json.loads(path.read_bytes())
    except OSError as error:
        raise TargetError(f"{path} can't be read: {error.strerror}") from error
    except ValueError:
        value = None
    if not isinstance(value, dict):
        raise TargetError(f"{path} is not a JSON object")
    return value


def _text_in(value: dict[str, Any], name: str) -> str | None:
    found = value.get(name)
    return found if isinstance(found, str) and found else None
