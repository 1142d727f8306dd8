"""The authorization server's decision on a token request: Authlib's, with our clients, keys and errors behind it.

Authlib is synchronous. So the caller first loads what the decision needs (`presented_client_id` says which client),
`decide` answers without waiting for anything, and what follows from the answer is written afterwards. One server
object a request: Authlib asks back by method calls, and so can only be told what was loaded for this request.
"""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from authlib.oauth2 import AuthorizationServer
from authlib.oauth2.rfc6749 import (
    ClientMixin,
    InvalidClientError,
    InvalidRequestError,
    OAuth2Error,
    OAuth2Request,
    UnauthorizedClientError,
    UnsupportedGrantTypeError,
)
from authlib.oauth2.rfc6749.grants import ClientCredentialsGrant
from authlib.oauth2.rfc6749.requests import BasicOAuth2Payload
from authlib.oauth2.rfc6749.util import extract_basic_authorization
from authlib.oauth2.rfc6750 import BearerTokenGenerator

from auth.credentials import key_bytes, secret_matches
from auth.tokens import issue_token

if TYPE_CHECKING:
    from collections.abc import Mapping

    from starlette.datastructures import Headers

    from app.settings import GatewaySettings
    from auth.clients import Client
    from auth.keys import SigningKey

TOKEN_PATH = "/oauth/token"  # noqa: S105  a path
GRANT_TYPES = ("client_credentials",)
AUTH_METHODS = ("client_secret_basic", "client_secret_post")

BASIC_CHALLENGE = 'Basic realm="sluice", charset="UTF-8"'

# Compared with when there is no such client, so that finding none takes the same work as a wrong secret.
_NO_HASH = bytes(32)

# At DEBUG Authlib logs the tokens that it issues.
logging.getLogger("authlib").setLevel(logging.INFO)


@dataclass(frozen=True)
class Answer:
    """What to send back: status, JSON object, headers."""

    status: int
    body: dict[str, Any]
    headers: dict[str, str]


class ClientRefusedError(InvalidClientError):  # type: ignore[misc]  # Authlib publishes no types
    """Authentication failed. One text for every cause: which it was helps only who guesses."""

    status_code = 401
    description = "Client authentication failed: no such client, a wrong secret, or a method that is not offered."

    def get_headers(self) -> list[tuple[str, str]]:
        return [*OAuth2Error.get_headers(self), ("WWW-Authenticate", BASIC_CHALLENGE)]


class _UnsupportedGrantError(UnsupportedGrantTypeError):  # type: ignore[misc]
    description = f"Offered is: {', '.join(GRANT_TYPES)}."


def presented_client_id(headers: Headers, form: Mapping[str, str]) -> str | None:
    """The client that the request says it is from, by header or form; None if it doesn't say.

    Raises:
        InvalidRequestError: two methods of authentication at once (RFC 6749 section 2.3), or two ids.
        ClientRefusedError: the header can't be read.
    """
    authorization = headers.getlist("authorization")
    in_form = form.get("client_id")
    if not authorization:
        return in_form
    if len(authorization) > 1 or "client_secret" in form:
        raise InvalidRequestError("The client authenticates in more than one way.")
    try:
        in_header: str | None = extract_basic_authorization(headers)[0]
    except ValueError:
        raise ClientRefusedError from None
    if in_form is not None and in_header is not None and in_form != in_header:
        raise InvalidRequestError("The client_id in the body is not the one in the header.")
    return in_header


def decide(
    settings: GatewaySettings,
    signing_key: SigningKey,
    headers: Headers,
    form: Mapping[str, str],
    client: Client | None,
) -> Answer:
    """The answer to a token request (RFC 6749 sections 4.4, 5.1, 5.2). Never raises for what a client sent.

    `client` is the one that `presented_client_id` names, or None if there is no such client.
    """
    server = _TokenServer(settings, signing_key, client)
    try:
        if "grant_type" not in form:
            raise InvalidRequestError("grant_type is missing.")
        request = _TokenRequest(settings.issuer.rstrip("/") + TOKEN_PATH, headers, form)
    except OAuth2Error as error:
        return error_answer(error)
    answer: Answer = server.create_token_response(request)
    return answer


def error_answer(error: OAuth2Error) -> Answer:
    """The error in the shape of RFC 6749 section 5.2."""
    status, body, headers = error()
    return Answer(status, body, dict(headers))


class _TokenRequest(OAuth2Request):  # type: ignore[misc]
    """`uri` is the endpoint as clients know it: behind a proxy the request's own is http, which Authlib refuses."""

    def __init__(self, uri: str, headers: Headers, form: Mapping[str, str]) -> None:
        super().__init__("POST", uri, headers=headers)
        self.payload = BasicOAuth2Payload(form)

    @property
    def form(self) -> Mapping[str, str]:
        form: Mapping[str, str] = self.payload.data
        return form


class _PresentedClient(ClientMixin):  # type: ignore[misc]
    """A client as Authlib asks for it, also when there is none: it then has a secret that nothing matches."""

    def __init__(self, client_id: str, client: Client | None, hash_key: bytes) -> None:
        self.client_id = client_id
        self.client = client
        self._hash_key = hash_key

    def get_client_id(self) -> str:
        return self.client_id

    def check_client_secret(self, client_secret: str) -> bool:
        expected = _NO_HASH if self.client is None else self.client.secret_hash
        matches = secret_matches(self._hash_key, self.client_id, client_secret, expected)
        return matches and self.client is not None

    def check_endpoint_auth_method(self, method: str, endpoint: str) -> bool:
        return endpoint == "token" and method in AUTH_METHODS

    def check_grant_type(self, grant_type: str) -> bool:
        return grant_type in GRANT_TYPES

    def get_allowed_scope(self, scope: str | None) -> str | None:
        """What to grant: all that the client has, or just what it asked for; None (invalid_scope) if that is more."""
        held = () if self.client is None else self.client.scopes
        if scope is None:
            return " ".join(held)
        asked = tuple(dict.fromkeys(scope.split()))
        return " ".join(asked) if asked and set(asked) <= set(held) else None


class _ClientCredentials(ClientCredentialsGrant):  # type: ignore[misc]
    TOKEN_ENDPOINT_AUTH_METHODS: ClassVar[tuple[str, ...]] = AUTH_METHODS

    def validate_token_request(self) -> None:
        super().validate_token_request()
        if not self.client.client.tenant_active:
            raise UnauthorizedClientError("The tenant is suspended.")


class _TokenServer(AuthorizationServer):  # type: ignore[misc]
    def __init__(self, settings: GatewaySettings, signing_key: SigningKey, client: Client | None) -> None:
        super().__init__()
        self._settings = settings
        self._signing_key = signing_key
        self._loaded = client
        self._hash_key = key_bytes(settings.secret_hash_key)
        self.register_grant(_ClientCredentials)
        lifetime = settings.token_lifetime_seconds
        self.register_token_generator("default", BearerTokenGenerator(self._issue, expires_generator=lifetime))

    def create_oauth2_request(self, request: _TokenRequest) -> _TokenRequest:
        return request

    def query_client(self, client_id: str) -> _PresentedClient:
        loaded = self._loaded if self._loaded is not None and self._loaded.client_id == client_id else None
        return _PresentedClient(client_id, loaded, self._hash_key)

    def authenticate_client(self, request: OAuth2Request, methods: list[str], endpoint: str = "token") -> Any:
        try:
            return super().authenticate_client(request, methods, endpoint)
        except InvalidClientError:
            raise ClientRefusedError from None

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

    def _issue(self, client: _PresentedClient, grant_type: str, user: None, scope: str) -> str:
        assert client.client is not None  # noqa: S101  only an authenticated client gets this far
        del grant_type, user
        return issue_token(
            self._signing_key,
            issuer=self._settings.issuer,
            audience=self._settings.issuer,
            tenant_id=client.client.tenant_id,
            client_id=client.client_id,
            scopes=scope.split(),
            lifetime_seconds=self._settings.token_lifetime_seconds,
            now=time.time(),
        )
