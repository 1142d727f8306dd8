"""Who makes a request, as the audit log names them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from app.addresses import client_address
from app.request_id import request_id_of
from app.state import state_of
from tenants.audit import Actor

if TYPE_CHECKING:
    from starlette.requests import Request

    from auth.principal import Principal


def actor_of(request: Request, principal: Principal) -> Actor:
    """The client that the request's token speaks for, and where it calls from."""
    address = client_address(request.scope, state_of(request).settings.trusted_networks)
    return Actor.of(principal, address, request_id_of(request.scope))
