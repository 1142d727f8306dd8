"""The public API as an import uses it: `POST /api/v1/events/batch` with a token by client credentials (RFC 6749 §4.4).

One attempt a call: when to try again, and what an answer means for the import, is `delivery`'s.
"""

from __future__ import annotations

import asyncio
import ipaddress
import warnings
from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from authlib.deprecate import AuthlibDeprecationWarning

from app.imports.failures import DeliveryError

with warnings.catch_warnings():
    # Authlib is moving to httpx's successor, and says so to everyone who imports its client over httpx.
    warnings.simplefilter("ignore", AuthlibDeprecationWarning)
    from authlib.integrations.httpx_client import AsyncOAuth2Client, OAuthError

if TYPE_CHECKING:
    from types import TracebackType
    from typing import Self

    from app.imports.target import Target

TIMEOUT_SECONDS = 30.0
"""For an answer: several times what the API itself allows for one."""

_LEEWAY_SECONDS = 5
_UNAUTHORIZED = 401
_RETRIED = frozenset({408, 425, 429})
_SERVER_ERROR = 500

# The library whose client Authlib built on, for its exceptions: httpx, or its successor where that is installed.
_http: Any = import_module(
    next(kind.__module__ for kind in AsyncOAuth2Client.__mro__ if kind.__name__ == "AsyncClient").partition(".")[0]
)


@dataclass(frozen=True, slots=True)
class Answer:
    """An HTTP answer. `retry_after` in seconds, None if not said."""

    status: int
    body: bytes
    retry_after: float | None = None


class NoAnswerError(Exception):
    """The API can't be reached or broke off; what was sent may or may not have arrived."""


class Api:
    """One API and one OAuth client of it. Use as `async with`; safe for several requests at once."""

    def __init__(self, target: Target) -> None:
        self.url = target.api
        self._batch_url = f"{target.api}/api/v1/events/batch"
        self._token_lock = asyncio.Lock()
        self._client = AsyncOAuth2Client(
            target.client_id,
            target.client_secret,
            scope="events:write",
            token_endpoint=f"{target.api}/oauth/token",
            grant_type="client_credentials",
            leeway=_LEEWAY_SECONDS,
            timeout=TIMEOUT_SECONDS,
            trust_env=not _is_loopback(target.api),  # no proxy on the way to this machine itself
        )

        self._client.register_compliance_hook("access_token_response", _raise_if_passing)

    async def __aenter__(self) -> Self:
        await self._client.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._client.__aexit__(kind, error, trace)

    async def send(self, ndjson: bytes) -> Answer:
        """Send one batch once. A token that the API does not take (any more) is replaced once.

        Where there is no token because its endpoint is busy or unavailable, the answer is that endpoint's.

        Raises:
            NoAnswerError: no connection, or no answer in time.
            DeliveryError: the API refuses the credentials, or is no Sluice.
        """
        try:
            if self._client.token is None:
                await self._replace(None)
            token = self._client.token["access_token"]
            response = await self._post(ndjson)
            if response.status_code == _UNAUTHORIZED:
                await self._replace(token)
                response = await self._post(ndjson)
        except _http.TransportError as error:
            raise NoAnswerError(_in_words(error)) from error
        except OAuthError as error:
            said = f"{error.error}: {error.description}" if error.description else error.error
            raise DeliveryError(f"{self.url} gives these credentials no token ({said})") from error
        except _http.HTTPStatusError as error:
            if not _is_passing(error.response.status_code):
                raise self._not_sluice() from error
            response = error.response
        except ValueError as error:  # Authlib's, for a token that is not JSON
            raise self._not_sluice() from error
        return Answer(response.status_code, response.content, _seconds(response.headers.get("retry-after")))

    async def _post(self, ndjson: bytes) -> Any:
        return await self._client.post(
            self._batch_url, content=ndjson, headers={"Content-Type": "application/x-ndjson"}
        )

    async def _replace(self, used: str | None) -> None:
        """Get a token unless another request has replaced the `used` one meanwhile."""
        async with self._token_lock:
            current = self._client.token
            if current is not None and current["access_token"] != used:
                return
            token = await self._client.fetch_token()
            if not isinstance(token.get("access_token"), str):
                self._client.token = None
                raise self._not_sluice()

    def _not_sluice(self) -> DeliveryError:
        return DeliveryError(f"{self.url} doesn't answer like a Sluice API: is the URL right?")


def _is_passing(status: int) -> bool:
    return status >= _SERVER_ERROR or status in _RETRIED


def _raise_if_passing(response: Any) -> Any:
    """Before Authlib takes the answer for a token or for a refusal."""
    if _is_passing(response.status_code):
        response.raise_for_status()
    return response


def _is_loopback(url: str) -> bool:
    host = urlsplit(url).hostname or ""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _in_words(error: Exception) -> str:
    kind = type(error).__name__
    return "no answer in time" if "Timeout" in kind else str(error) or kind


def _seconds(retry_after: str | None) -> float | None:
    """The seconds of a Retry-After field; its other form, a date (RFC 9110 section 10.2.3), counts as not said."""
    if retry_after is None or not (retry_after.isascii() and retry_after.isdigit()):
        return None
    return float(retry_after)
