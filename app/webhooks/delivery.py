"""One delivery of one message to a webhook: resolved, checked, connected to the checked address, signed, answered.

Says whether it was taken, may be tried again, or never will be. Refuses to try again and to keep anything.
"""

from __future__ import annotations

import asyncio
import re
import ssl
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

import httpx

from app.webhooks.addresses import AddressRefusedError, UnresolvedError, addresses_of, destination
from app.webhooks.signing import headers

if TYPE_CHECKING:
    from collections.abc import Sequence

    from app.addresses import Network
    from app.webhooks.addresses import Destination, Resolver

ANSWER_SECONDS = 10.0
CONNECT_SECONDS = 4.0
MOST_ADDRESSES = 3
LONGEST_WAIT_SECONDS = 300.0

_GONE = 410
_LATER = frozenset({408, 425, 429})
_AGENT = "Sluice"
_DIGITS = re.compile("[0-9]{1,9}")


class NotDeliveredError(Exception):
    """The webhook did not take it; the text says why, without a word that it answered.

    `final`: it never will. `refused`: it answered that it won't, which may be a mistake that is mended soon.
    `wait_seconds`: it asked for so much patience.
    """

    def __init__(self, reason: str, *, final: bool = False, refused: bool = False, wait_seconds: float = 0.0) -> None:
        super().__init__(reason)
        self.final = final
        self.refused = refused
        self.wait_seconds = wait_seconds


@dataclass(frozen=True)
class Message:
    """`message_id` is the same at each attempt, so that the receiver knows what it has had already."""

    message_id: str
    body: bytes


class Deliveries:
    """Calls webhooks. `allowed` networks may be called besides the public internet, and by plain http."""

    def __init__(
        self,
        allowed: Sequence[Network],
        *,
        resolver: Resolver | None = None,
        trusted: ssl.SSLContext | None = None,
        answer_seconds: float = ANSWER_SECONDS,
    ) -> None:
        self._allowed = tuple(allowed)
        self._resolver = resolver
        self._answer_seconds = answer_seconds
        # No proxy from the environment and no redirect: only the address that was checked is connected to. No
        # connection is kept, as the next name that leads to the same address has another certificate.
        self._client = httpx.AsyncClient(
            verify=trusted or ssl.create_default_context(),
            trust_env=False,
            follow_redirects=False,
            timeout=httpx.Timeout(answer_seconds, connect=CONNECT_SECONDS),
            limits=httpx.Limits(max_keepalive_connections=0),
        )

    async def close(self) -> None:
        await self._client.aclose()

    async def deliver(self, url: str, secret: str, message: Message) -> None:
        """Post the message; returns when the webhook has answered with 2xx. Takes at most `ANSWER_SECONDS`.

        Raises:
            NotDeliveredError: it did not.
        """
        try:
            async with asyncio.timeout(self._answer_seconds):
                where = destination(url, self._allowed)
                found = await addresses_of(where, self._allowed, self._resolver)
                status, wait = await self._post(where, found[:MOST_ADDRESSES], secret, message)
        except AddressRefusedError as error:
            raise NotDeliveredError(f"The URL is refused: {error}.", final=True) from None
        except UnresolvedError as error:
            raise NotDeliveredError(str(error)) from None
        except TimeoutError:
            raise NotDeliveredError(f"The webhook does not answer within {self._answer_seconds:g} s.") from None
        except (httpx.HTTPError, httpx.InvalidURL, ssl.SSLError) as error:
            raise NotDeliveredError(f"The webhook does not answer: {type(error).__name__}.") from None
        if not 200 <= status < 300:  # noqa: PLR2004  it was taken
            raise _refusal(status, wait)

    async def _post(
        self, where: Destination, addresses: Sequence[str], secret: str, message: Message
    ) -> tuple[int, float]:
        """The status, and how many seconds the webhook asks for."""
        for address in addresses[:-1]:
            try:
                return await self._post_to(address, where, secret, message)
            except (httpx.ConnectError, httpx.ConnectTimeout):
                continue
        return await self._post_to(addresses[-1], where, secret, message)

    async def _post_to(self, address: str, where: Destination, secret: str, message: Message) -> tuple[int, float]:
        url = httpx.URL(where.url)
        sent = {
            "Host": url.netloc.decode("ascii"),
            "Content-Type": "application/json",
            "User-Agent": _AGENT,
            **headers(secret, message.message_id, int(time.time()), message.body),
        }
        request = self._client.build_request("POST", url.copy_with(host=address), content=message.body, headers=sent)
        # The certificate has to be the name's, although the connection goes to its address.
        request.extensions["sni_hostname"] = where.host
        answer = await self._client.send(request, stream=True)
        # Its body is nobody's concern, and may be endless.
        await answer.aclose()
        return answer.status_code, _seconds(answer.headers.get("retry-after", ""))


def _refusal(status: int, wait: float) -> NotDeliveredError:
    if status == _GONE:
        return NotDeliveredError("The webhook answers 410: it is gone for good.", final=True)
    refused = 300 <= status < 500 and status not in _LATER  # noqa: PLR2004  a redirect, which is not followed, or no
    return NotDeliveredError(f"The webhook answers {status}.", refused=refused, wait_seconds=wait)


def _seconds(retry_after: str) -> float:
    return min(LONGEST_WAIT_SECONDS, float(retry_after)) if _DIGITS.fullmatch(retry_after) else 0.0
