"""Who asks an OAuth endpoint: which client a request says it is from, and whether it proves that.

`client_secret_basic` and `client_secret_post` (RFC 6749 section 2.3.1) for clients with secrets, `private_key_jwt`
(RFC 7523) for those with keys, as methods that Authlib's server calls. Refuses to load or to write anything.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import structlog
from authlib.oauth2.rfc6749 import ClientMixin, InvalidClientError, InvalidRequestError, OAuth2Error
from authlib.oauth2.rfc6749.util import extract_basic_authorization

from auth.assertions import (
    ASSERTION_TYPE,
    NOBODYS_KEYS,
    AssertionRefusedError,
    UsedAssertion,
    claimed_client_id,
    verify_assertion,
)
from auth.clients import Client, Secret
from auth.credentials import HASH_BYTES
from auth.metadata import GRANT_TYPES, KEY_METHOD

if TYPE_CHECKING:
    from collections.abc import Collection

    from authlib.oauth2.rfc6749 import OAuth2Request
    from starlette.datastructures import Headers

BASIC_CHALLENGE = 'Basic realm="sluice", charset="UTF-8"'

log: structlog.stdlib.BoundLogger = structlog.get_logger()


class ClientRefusedError(InvalidClientError):  # type: ignore[misc]  # Authlib publishes no types
    """Authentication failed. One text for every cause: which it was helps only who guesses."""

    status_code = 401
    description = (
        "Client authentication failed: no such client, a wrong secret or assertion, an assertion that was used before, "
        "an address that this client may not call from, or a method that it can not use."
    )

    def get_headers(self) -> list[tuple[str, str]]:
        return [*OAuth2Error.get_headers(self), ("WWW-Authenticate", BASIC_CHALLENGE)]


@dataclass(frozen=True)
class Proof:
    """How a client proved who it is. `credential` names the secret (`secret_id`) or key; an assertion counts once."""

    client: Client
    credential: str
    assertion: UsedAssertion | None = None


def presented_client_id(headers: Headers, form: Mapping[str, str]) -> str | None:
    """The client that the request says it is from, by header, form or assertion; None if it doesn't say.

    Raises:
        InvalidRequestError: more than one method of authentication (RFC 6749 section 2.3), or two ids.
        ClientRefusedError: the header can't be read, or the assertion is from another client than the form says.
    """
    authorization = headers.getlist("authorization")
    asserted = form.keys() & {"client_assertion", "client_assertion_type"}
    if len(authorization) + ("client_secret" in form) + bool(asserted) > 1:
        raise InvalidRequestError("The client authenticates in more than one way.")
    in_form = form.get("client_id")
    if asserted:
        client_id = claimed_client_id(form.get("client_assertion", ""))
        if in_form not in (None, client_id):
            raise ClientRefusedError
        return client_id
    if not authorization:
        return in_form
    try:
        in_header: str | None = extract_basic_authorization(headers)[0]
    except ValueError:
        raise ClientRefusedError from None
    if in_form is not None and in_header is not None and in_form != in_header:
        raise InvalidRequestError("The client_id in the body is not the one in the header.")
    return in_header


def by_assertion(query_client: Callable[[str], PresentedClient], request: OAuth2Request) -> PresentedClient | None:
    """`private_key_jwt` in the form in which Authlib calls a method of client authentication."""
    if request.form.get("client_assertion_type") != ASSERTION_TYPE:
        return None
    assertion = request.form.get("client_assertion", "")
    client_id = claimed_client_id(assertion)
    client = None if client_id is None else query_client(client_id)
    return client if client is not None and client.check_assertion(assertion) else None


class PresentedClient(ClientMixin):  # type: ignore[misc]
    """A client as Authlib asks for it, also when there is none: it then has secrets and keys that nothing matches.

    `proof` is there once a check has held.
    """

    def __init__(self, client_id: str, client: Client | None, hash_key: bytes, audiences: Collection[str]) -> None:
        self.client_id = client_id
        self.client = client
        self.proof: Proof | None = None
        self._hash_key = hash_key
        self._audiences = audiences

    def get_client_id(self) -> str:
        return self.client_id

    def check_client_secret(self, client_secret: str) -> bool:
        """As much work for a client that isn't there or has no secret as for one that has: one hash.

        With two secrets there are two comparisons of 32 bytes instead of one, about a ten-thousandth of what
        the way through the network varies by.
        """
        known = self.client if self.client is not None and self.client.secrets else None
        secret = (known or _nobody(self.client_id)).matching_secret(self._hash_key, client_secret)
        if known is None or secret is None:
            return False
        self.proof = Proof(known, str(secret.secret_id))
        return True

    def check_assertion(self, assertion: str) -> bool:
        """As much work for a client that isn't there or has no keys as for one with one key of that kind."""
        jwks = NOBODYS_KEYS if self.client is None or self.client.jwks is None else self.client.jwks
        try:
            used = verify_assertion(assertion, jwks, self.client_id, self._audiences, time.time())
        except AssertionRefusedError as error:
            if self.client is not None:  # the answer doesn't tell, so whoever runs this has to
                log.info("client assertion refused", client_id=self.client_id, reason=str(error))
            return False
        if self.client is None:
            return False
        self.proof = Proof(self.client, used.key_id, used)
        return True

    def check_endpoint_auth_method(self, method: str, endpoint: str) -> bool:
        """A client with keys uses them and nothing else, so that a secret can't be the weaker way in."""
        del endpoint
        return self.client is not None and (method == KEY_METHOD) == (self.client.jwks is not None)

    def check_grant_type(self, grant_type: str) -> bool:
        return grant_type in GRANT_TYPES

    def get_allowed_scope(self, scope: str | None) -> str | None:
        """What to grant: all that the client has, or just what it asked for; None (invalid_scope) if that is more."""
        held = () if self.client is None else self.client.scopes
        if scope is None:
            return " ".join(held)
        asked = tuple(dict.fromkeys(scope.split()))
        return " ".join(asked) if asked and set(asked) <= set(held) else None


def _nobody(client_id: str) -> Client:
    nothing = uuid.UUID(int=0)
    return Client(nothing, client_id, (), tenant_active=False, secrets=(Secret(nothing, bytes(HASH_BYTES)),))
