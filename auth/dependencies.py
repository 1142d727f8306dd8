"""Who may call, as a handler's signature says it: `async def f(reader: EventsReader)`.

The scopes stand in each route's OpenAPI entry. Refuses to own how a token is verified (`auth.tokens`).
"""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import Depends, Request, Security
from fastapi.openapi.models import OAuthFlowClientCredentials, OAuthFlows
from fastapi.security import OAuth2, SecurityScopes

from app.addresses import client_address, is_within
from app.errors import ForbiddenError, UnauthorizedError
from app.state import State, state_of
from app.throttling.throttle import Limit
from auth.bearer import BEARER, authorization_of
from auth.metadata import TOKEN_PATH
from auth.principal import Principal
from auth.scopes import EVENTS_READ, EVENTS_WRITE, PLATFORM_ADMIN, SCOPES, TENANT_ADMIN
from tenants.platform import PLATFORM_TENANT_ID

SCHEME = OAuth2(
    flows=OAuthFlows(clientCredentials=OAuthFlowClientCredentials(tokenUrl=TOKEN_PATH, scopes=SCOPES)),
    scheme_name="ClientCredentials",
    description="Exchange client id and secret for a token at `/oauth/token`; send it as `Authorization: Bearer …`.",
    auto_error=False,  # the challenge of RFC 6750 is ours to write
)

LIMITS = {EVENTS_READ: Limit.QUERY, TENANT_ADMIN: Limit.ADMIN, PLATFORM_ADMIN: Limit.ADMIN}
"""By the scope that a route takes. Sending events has limits of its own (`tenants.limits.buckets`)."""


async def _principal(
    request: Request, needed: SecurityScopes, _declared: Annotated[str | None, Depends(SCHEME)]
) -> Principal:
    throttle = state_of(request).throttle
    try:
        principal = await authenticated(state_of(request), request.scope)
    except (UnauthorizedError, ForbiddenError) as error:
        throttle.token_refused(request.scope, error)
        raise
    # Before the scopes are looked at: a refusal counts too.
    for scope in needed.scopes:
        if scope in LIMITS:
            throttle.admit(request.scope, LIMITS[scope], principal.client_id)
    for scope in needed.scopes:
        check_scope(principal, scope)
    return principal


async def authenticated(state: State, scope: Any) -> Principal:
    """Who sends the request of this ASGI scope. A client that is narrowed to networks may only call from those.

    Raises:
        UnauthorizedError, MalformedError, UnavailableError: as `TokenVerifier.authenticate`.
        ForbiddenError: the request comes from another address.
    """
    principal = await state.verifier.authenticate(authorization_of(scope["headers"]))
    networks = principal.access.networks
    if networks and not is_within(client_address(scope, state.settings.trusted_networks), networks):
        raise ForbiddenError("This client may not call from this address.")
    return principal


def check_scope(principal: Principal, scope: str) -> None:
    """Nothing, if the token has the scope.

    Raises:
        ForbiddenError: 403 with `error="insufficient_scope"` and the scope it takes (RFC 6750 section 3.1).
    """
    # The second condition can't fail as long as clients are made by `auth.clients`; it must not have to be trusted.
    outside = scope == PLATFORM_ADMIN and principal.tenant_id != PLATFORM_TENANT_ID
    if scope not in principal.scopes or outside:
        challenge = f'{BEARER}, error="insufficient_scope", scope="{scope}"'
        raise ForbiddenError(f"The token lacks the scope {scope}.", headers={"WWW-Authenticate": challenge})


def require(scope: str) -> Any:
    """For `Annotated[Principal, …]`: admits a caller whose token holds and has the scope."""
    return Security(_principal, scopes=[scope])


EventsWriter = Annotated[Principal, require(EVENTS_WRITE)]
EventsReader = Annotated[Principal, require(EVENTS_READ)]
TenantAdmin = Annotated[Principal, require(TENANT_ADMIN)]
PlatformAdmin = Annotated[Principal, require(PLATFORM_ADMIN)]
