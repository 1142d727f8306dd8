"""The authorization server's decision on a request: Authlib's, with our clients, keys and errors behind it.

Authlib is synchronous. So the caller first loads what the decision needs (`presented_client_id` says which client),
`decide` answers without waiting for anything, and what follows from the answer is written afterwards. One server
object a request: Authlib asks back by method calls, and so can only be told what was loaded for this request.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from authlib.oauth2 import AuthorizationServer
from authlib.oauth2.rfc6749 import (
    InvalidClientError,
    InvalidRequestError,
    OAuth2Error,
    OAuth2Request,
    UnauthorizedClientError,
    UnsupportedGrantTypeError,
)
from authlib.oauth2.rfc6749.grants import ClientCredentialsGrant
from authlib.oauth2.rfc6749.requests import BasicOAuth2Payload
from authlib.oauth2.rfc6750 import BearerTokenGenerator

from app.addresses import Address, is_within
from auth.authentication import ClientRefusedError, PresentedClient, Proof, by_assertion
from auth.credentials import key_bytes
from auth.metadata import AUTH_METHODS, GRANT_TYPES, KEY_METHOD, Endpoint, audiences, endpoint_url
from auth.token_endpoints import Introspection, Revocation
from auth.tokens import issue_token

if TYPE_CHECKING:
    from starlette.datastructures import Headers

    from app.settings import GatewaySettings
    from auth.clients import Client
    from auth.keys import SigningKey
    from auth.principal import Principal

# At DEBUG Authlib logs the tokens that it issues.
logging.getLogger("authlib").setLevel(logging.INFO)


@dataclass(frozen=True)
class Asked:
    """A request, with all that was loaded for it.

    `client` is the one that `presented_client_id` names, None if there is no such client; `token` is what the form's
    token is worth, None if it does not hold; `signing_key` is only needed for a new token.
    """

    endpoint: Endpoint
    headers: Headers
    form: Mapping[str, str]
    address: Address
    client: Client | None
    token: Principal | None = None
    signing_key: SigningKey | None = None


@dataclass(frozen=True)
class Answer:
    """What to send back: status, JSON object, headers."""

    status: int
    body: dict[str, Any]
    headers: dict[str, str]


@dataclass(frozen=True)
class Decision:
    """An answer, and what has to be written before it may be sent: `proof` that was used, the token that is `revoked`.

    Without a proof the client was not authenticated, or its tenant is not active, and nothing is written.
    """

    answer: Answer
    proof: Proof | None = None
    revoked: Principal | None = None


class _UnsupportedGrantError(UnsupportedGrantTypeError):  # type: ignore[misc]  # Authlib publishes no types
    description = f"Offered is: {', '.join(GRANT_TYPES)}."


def decide(settings: GatewaySettings, asked: Asked) -> Decision:
    """The answer to a request, by RFC 6749 sections 4.4 and 5, 7009 or 7662. Never raises for what a client sent."""
    server = _Server(settings, asked)
    try:
        if asked.endpoint == "token" and "grant_type" not in asked.form:
            raise InvalidRequestError("grant_type is missing.")
        request = _Request(endpoint_url(settings.issuer, asked.endpoint), asked.headers, asked.form)
    except OAuth2Error as error:
        return Decision(error_answer(error))
    answer: Answer = (
        server.create_token_response(request)
        if asked.endpoint == "token"
        else server.create_endpoint_response(asked.endpoint, request)
    )
    return Decision(answer, server.proof, server.revoked)


def error_answer(error: OAuth2Error) -> Answer:
    """The error in the shape of RFC 6749 section 5.2."""
    status, body, headers = error()
    return Answer(status, body, dict(headers))


class _Request(OAuth2Request):  # type: ignore[misc]
    """`uri` is the endpoint as clients know it: behind a proxy the request's own is http, which Authlib refuses."""

    def __init__(self, uri: str, headers: Headers, form: Mapping[str, str]) -> None:
        super().__init__("POST", uri, headers=headers)
        self.payload = BasicOAuth2Payload(form)

    @property
    def form(self) -> Mapping[str, str]:
        form: Mapping[str, str] = self.payload.data
        return form


class _ClientCredentials(ClientCredentialsGrant):  # type: ignore[misc]
    TOKEN_ENDPOINT_AUTH_METHODS: ClassVar[tuple[str, ...]] = AUTH_METHODS


class _Server(AuthorizationServer):  # type: ignore[misc]
    def __init__(self, settings: GatewaySettings, asked: Asked) -> None:
        super().__init__()
        self.proof: Proof | None = None
        self.revoked: Principal | None = None
        self._settings = settings
        self._asked = asked
        self._audiences = audiences(settings.issuer, token_url=settings.assertion_audience_token_url)
        self.register_client_auth_method(KEY_METHOD, by_assertion)
        self.register_grant(_ClientCredentials)
        lifetime = settings.token_lifetime_seconds
        self.register_token_generator("default", BearerTokenGenerator(self._issue, expires_generator=lifetime))
        self.register_endpoint(Revocation(asked.token, self._revoke))
        self.register_endpoint(Introspection(asked.token, settings))

    def create_oauth2_request(self, request: _Request) -> _Request:
        return request

    def query_client(self, client_id: str) -> PresentedClient:
        loaded = self._asked.client
        known = loaded if loaded is not None and loaded.client_id == client_id else None
        return PresentedClient(client_id, known, key_bytes(self._settings.secret_hash_key), self._audiences)

    def authenticate_client(
        self, request: OAuth2Request, methods: list[str], endpoint: str = "token"
    ) -> PresentedClient:
        """The client, if it proves who it is, calls from where it may, and its tenant is active."""
        try:
            presented: PresentedClient = super().authenticate_client(request, methods, endpoint)
        except InvalidClientError:
            raise ClientRefusedError from None
        client = presented.client
        if client is None or (client.networks and not is_within(self._asked.address, client.networks)):
            raise ClientRefusedError
        if not client.tenant_active:
            raise UnauthorizedClientError("The tenant is suspended, or being deleted.")
        self.proof = presented.proof
        return presented

    def get_token_grant(self, request: OAuth2Request) -> Any:
        try:
            return super().get_token_grant(request)
        except UnsupportedGrantTypeError as error:
            raise _UnsupportedGrantError(error.grant_type) from None

    def save_token(self, token: dict[str, Any], request: OAuth2Request) -> None:
        """Nothing to save: the token carries all that it says."""

    def send_signal(self, name: str, *args: Any, **kwargs: Any) -> None:
        """Nobody listens."""

    def handle_response(self, status: int, body: dict[str, Any], headers: list[tuple[str, str]]) -> Answer:
        return Answer(status, body, dict(headers))

    def _revoke(self, token: Principal) -> None:
        self.revoked = token

    def _issue(self, client: PresentedClient, grant_type: str, user: None, scope: str) -> str:
        assert client.client is not None  # noqa: S101  only an authenticated client gets this far
        assert self._asked.signing_key is not None  # noqa: S101  the caller's to load
        del grant_type, user
        return issue_token(
            self._asked.signing_key,
            issuer=self._settings.issuer,
            audience=self._settings.issuer,
            tenant_id=client.client.tenant_id,
            client_id=client.client_id,
            scopes=scope.split(),
            lifetime_seconds=self._settings.token_lifetime_seconds,
            now=time.time(),
        )
