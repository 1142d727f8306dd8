"""How often the routes apart from ingest may be called: token, admin and query routes, and failed authentications.

It is slowapi's limiter, asked where a route learns who calls, so that no route can be forgotten and a request is known
by its client; slowapi's decorators would have to be repeated on each route, and RATELIMIT_ENABLED in the environment
switches them off. slowapi is synchronous: a server that it asked would hold up every request of the process. So each
process counts in its own memory, up to its share of the limit. What tenants may send is not this module's
(`tenants.limits.buckets`).
"""

from __future__ import annotations

import math
import time
from enum import StrEnum
from ipaddress import IPv6Address, IPv6Network
from typing import TYPE_CHECKING, Any

from limits import RateLimitItem, RateLimitItemPerHour, parse
from slowapi import Limiter

from app.addresses import client_address
from app.errors import RateLimitedError
from app.metrics import THROTTLED_REQUESTS
from app.observe import EXTRA_HEADERS
from app.throttling.windows import SCHEME

if TYPE_CHECKING:
    from app.errors import AppError
    from app.settings import GatewaySettings

_IPV6_HOST_BITS = 64
_LONGEST_CLIENT_ID = 200
_LET_IN = RateLimitItemPerHour(1)


class Limit(StrEnum):
    """What is limited; each has a setting `SLUICE_…_LIMIT`. `FAILURE`: authentications that fail, of an address."""

    TOKEN = "token"  # noqa: S105  a name
    ADMIN = "admin"
    QUERY = "query"
    FAILURE = "failure"


class Throttle:
    """One per process. Each method is given the request's ASGI scope."""

    def __init__(self, settings: GatewaySettings) -> None:
        self._trusted = settings.trusted_networks
        self._limits = {
            limit: _share(parse(getattr(settings, f"{limit}_limit")), settings.gateway_processes) for limit in Limit
        }
        # A window begins with the first request that it counts, so Retry-After is exact; on the other hand twice the
        # limit may come within a moment, half of it at a window's end.
        limiter = Limiter(key_func=self._source, strategy="fixed-window", storage_uri=f"{SCHEME}://")
        self.limiter = limiter.limiter

    def admit(self, scope: Any, limit: Limit, client_id: str) -> None:
        """Count a request of a client from its address, and put the limit's headers on the answer.

        Raises:
            RateLimitedError: it is one too many; with `Retry-After`.
        """
        key = (limit, client_id, self._source(scope))
        if not self.limiter.hit(self._limits[limit], *key):
            raise self._refusal(scope, limit, key)
        self._describe(scope, limit, key)

    def admit_presented(self, scope: Any, client_id: str | None) -> None:
        """The same on the routes where a client authenticates, by the client that it says it is.

        Raises:
            RateLimitedError: one too many, or as `check_failures`; also readable as an OAuth error.
        """
        self.check_failures(scope, client_id)
        try:
            self.admit(scope, Limit.TOKEN, _presented(client_id))
        except RateLimitedError as error:
            raise _as_oauth(error) from None

    def check_failures(self, scope: Any, client_id: str | None) -> None:
        """Nothing, unless too many authentications failed from the address.

        A client that was let in from there lately passes: another's failures behind one proxy don't lock it out. Who
        waits asks again right before anything is looked up, or all who were sent at once would pass.

        Raises:
            RateLimitedError: also readable as an OAuth error.
        """
        source = self._source(scope)
        failures = (Limit.FAILURE, Limit.TOKEN, source)
        spent = not self.limiter.test(self._limits[Limit.FAILURE], *failures)
        if spent and self.limiter.test(_LET_IN, _presented(client_id), source):
            raise _as_oauth(self._refusal(scope, Limit.FAILURE, failures))

    def authenticated(self, scope: Any, client_id: str) -> None:
        """Note that a client proved that it is the one it says it is."""
        self.limiter.hit(_LET_IN, client_id, self._source(scope))

    def authentication_failed(self, scope: Any) -> None:
        """Count a client authentication that failed, for `admit_presented`."""
        self.limiter.hit(self._limits[Limit.FAILURE], Limit.FAILURE, Limit.TOKEN, self._source(scope))

    def token_refused(self, scope: Any, error: AppError) -> None:
        """Count a request whose token does not hold, or not there. Those with a good one from the same address go on.

        Raises:
            RateLimitedError: one too many; in place of `error`, whose challenge it carries.
        """
        key = (Limit.FAILURE, self._source(scope))
        if not self.limiter.hit(self._limits[Limit.FAILURE], *key):
            refusal = self._refusal(scope, Limit.FAILURE, key)
            refusal.headers |= error.headers
            raise refusal from error
        self._describe(scope, Limit.FAILURE, key)

    def _source(self, scope: Any) -> str:
        """The address; of IPv6 the network that a single subscriber has at the least (RFC 6177)."""
        address = client_address(scope, self._trusted)
        if isinstance(address, IPv6Address):
            return str(IPv6Network((int(address) >> _IPV6_HOST_BITS << _IPV6_HOST_BITS, 128 - _IPV6_HOST_BITS)))
        return str(address)

    def _refusal(self, scope: Any, limit: Limit, key: tuple[str, ...]) -> RateLimitedError:
        THROTTLED_REQUESTS.labels(limit).inc()
        seconds = max(1, self._describe(scope, limit, key))
        what = "failed authentications of an address" if limit is Limit.FAILURE else f"requests to {limit} routes"
        item = self._limits[limit]
        return RateLimitedError(
            f"The limit is {item.amount} {what} in {item.get_expiry()} s; try again in {seconds} s.",
            headers={"Retry-After": str(seconds)},
        )

    def _describe(self, scope: Any, limit: Limit, key: tuple[str, ...]) -> int:
        """Put `RateLimit` and `RateLimit-Policy` on the answer (draft-ietf-httpapi-ratelimit-headers-11).

        Returns the seconds until the window ends.
        """
        item = self._limits[limit]
        stats = self.limiter.get_window_stats(item, *key)
        seconds = math.ceil(max(0.0, stats.reset_time - time.time()))
        scope[EXTRA_HEADERS] = [
            (b"ratelimit-policy", b'"%b";q=%d;w=%d' % (limit.encode(), item.amount, item.get_expiry())),
            (b"ratelimit", b'"%b";r=%d;t=%d' % (limit.encode(), stats.remaining, seconds)),
        ]
        return seconds


def _presented(client_id: str | None) -> str:
    """What no client's id could be is counted as one, so that keys have a bound."""
    return client_id if client_id is not None and len(client_id) <= _LONGEST_CLIENT_ID else ""


def _as_oauth(error: RateLimitedError) -> RateLimitedError:
    # RFC 6749 has no error of this meaning for section 5.2; this one is section 4.1.2.1's.
    error.extra |= {"error": "temporarily_unavailable", "error_description": error.detail}
    error.headers |= {"Cache-Control": "no-store"}
    return error


def _share(item: RateLimitItem, processes: int) -> RateLimitItem:
    """One process's part of a limit, at least 1."""
    return type(item)(max(1, item.amount // processes), item.multiples)
