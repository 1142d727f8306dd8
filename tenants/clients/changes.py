"""Managing the clients of a tenant, by itself or by the platform: each change with its audit entry, in one transaction
that the caller commits. Works as sluice_app under row security and as sluice_auth; each statement says the tenant.

Refuses to own who may call (`endpoints`, `app.cli.clients`) and authentication (`auth`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sqlalchemy import bindparam, text
from sqlalchemy.dialects.postgresql import JSONB

from app.errors import ConflictError, Fault, InvalidError, NotFoundError
from auth.clients import create_client, create_key_client
from auth.jwks import key_ids
from auth.scopes import TENANT_ADMIN
from tenants.audit import Action, record
from tenants.clients.rules import Bounds, checked
from tenants.clients.view import ManagedClient, find
from tenants.plans import EFFECTIVE_LIMITS, ClientLimits, TenantLimits

if TYPE_CHECKING:
    from collections.abc import Mapping
    from uuid import UUID

    from sqlalchemy.ext.asyncio import AsyncConnection

    from tenants.audit import Actor

MOST_CLIENTS = 100
"""Active ones, of one tenant."""

# For all of a tenant's changes one after the other, in one order: so that none counts what another is about to change.
# NO KEY: a token request, which refers to its client's row, does not wait.
_LOCK = text("""
    select client_id from oauth_clients where tenant_id = :tenant_id and revoked_at is null
    order by client_id for no key update
""")
_ACTIVE = text("""
    select count(*) as clients,
           count(*) filter (where client_id <> :client_id and :scope = any (scopes)) as others_with_scope
    from oauth_clients where tenant_id = :tenant_id and revoked_at is null
""")
_UPDATE = text("""
    update oauth_clients set name = :name, scopes = :scopes, networks = :networks, jwks = :jwks,
        events_per_second = :events_per_second, burst = :burst
    where tenant_id = :tenant_id and client_id = :client_id
""").bindparams(bindparam("jwks", type_=JSONB(none_as_null=True)))
_REVOKE = text("""
    update oauth_clients set revoked_at = now() where tenant_id = :tenant_id and client_id = :client_id
""")
_END_SECRETS = text("""
    update client_secrets set expires_at = now()
    where tenant_id = :tenant_id and client_id = :client_id and (expires_at is null or expires_at > now())
""")
# Who is being deleted locks this row; then no client may appear that the deletion does not see.
_TENANT = text(f"""
    select t.status, {EFFECTIVE_LIMITS} from tenants t join plans p using (plan_id)
    where t.tenant_id = :tenant_id for key share of t
""")  # noqa: S608  a constant of this project


@dataclass(frozen=True)
class Manager:
    """Who manages the clients of which tenant."""

    bounds: Bounds
    actor: Actor

    @property
    def tenant_id(self) -> UUID:
        return self.bounds.tenant_id

    @property
    def of_the_tenant(self) -> bool:
        """Whether it is one of the tenant's own clients, which must not lock the tenant out."""
        return self.actor.kind == "client"


async def manager_for_platform(connection: AsyncConnection, tenant_id: UUID, actor: Actor) -> Manager:
    """For an administrator or operator: as sluice_auth.

    Raises:
        NotFoundError: there is no such tenant.
        ConflictError: it is being deleted.
    """
    row = (await connection.execute(_TENANT, {"tenant_id": tenant_id})).one_or_none()
    if row is None:
        raise NotFoundError("There is no such tenant.")
    if row.status in ("deleting", "deleted"):
        raise ConflictError("The tenant is being deleted.")
    limits = TenantLimits(row.events_per_second, row.burst, row.max_event_bytes, row.shards)
    return Manager(Bounds(tenant_id, limits), actor)


async def create(
    connection: AsyncConnection, key: bytes, manager: Manager, given: Mapping[str, Any]
) -> tuple[str, str | None]:
    """The id of a new client of what is given (see `rules.checked`), and its secret; None with `jwks`.

    `name` must be given; without `scopes` it gets all that the tenant's clients can hold.

    Raises:
        InvalidError: what is given can't be.
        ConflictError: the tenant has `MOST_CLIENTS`.
    """
    columns = checked({"scopes": list(manager.bounds.scopes), "networks": []} | dict(given), manager.bounds)
    await lock(connection, manager.tenant_id)
    if (await _counted(connection, manager, "")).clients >= MOST_CLIENTS:
        raise ConflictError(f"The tenant has {MOST_CLIENTS} clients, which is the most: revoke one first.")
    rate, burst = columns.get("events_per_second"), columns.get("burst")
    limits = None if rate is None or burst is None else ClientLimits(rate, burst)
    settled = (manager.tenant_id, columns["name"], columns["scopes"])
    more: dict[str, Any] = {"networks": columns["networks"], "limits": limits}
    secret = None
    if columns.get("jwks") is None:
        made = await create_client(connection, key, *settled, **more)
        client_id, secret = made.client_id, made.client_secret
    else:
        client_id = await create_key_client(connection, columns["jwks"], *settled, **more)
    await record(connection, manager.tenant_id, manager.actor, Action("client.created", client_id, _told(columns)))
    return client_id, secret


async def change(connection: AsyncConnection, manager: Manager, client_id: str, given: Mapping[str, Any]) -> None:
    """Let what is given replace what was; `events_per_second` and `burst` null: no own limits.

    Raises:
        InvalidError: what is given can't be, or is nothing.
        NotFoundError: there is no such client.
        ConflictError: it is revoked, or the tenant's last that may manage it.
    """
    if not given:
        raise InvalidError("The client is not valid.", (Fault("", "names nothing to change"),))
    columns = checked(given, manager.bounds)
    await lock(connection, manager.tenant_id)
    client = await find(connection, manager.tenant_id, client_id)
    check_active(client)
    if "jwks" in given and (client.jwks is None or given["jwks"] is None):
        fault = Fault("/jwks", "can only be replaced; for another way to authenticate make another client")
        raise InvalidError("The client is not valid.", (fault,))
    before = {name: getattr(client, name) for name in _CHANGEABLE}
    after = before | columns
    changed = [name for name in _CHANGEABLE if before[name] != after[name]]
    if not changed:
        return
    if TENANT_ADMIN not in after["scopes"]:
        await _check_not_last(connection, manager, client)
    was, now = ({name: _told(columns)[name] for name in changed} for columns in (before, after))
    detail = {name: {"from": was[name], "to": now[name]} for name in changed}
    # The change comes last: it locks the one row that all changes of all tenants lock, until the commit. And after the
    # entry, which locks the tenant's row, because others lock the two in this order.
    await record(connection, manager.tenant_id, manager.actor, Action("client.changed", client_id, detail))
    await connection.execute(_UPDATE, after | {"tenant_id": manager.tenant_id, "client_id": client_id})


async def revoke(connection: AsyncConnection, manager: Manager, client_id: str) -> None:
    """End the client and its secrets; nothing if it is revoked already. Its tokens end within a second, everywhere.

    Raises:
        NotFoundError: there is no such client.
        ConflictError: it is the tenant's last that may manage it.
    """
    await lock(connection, manager.tenant_id)
    client = await find(connection, manager.tenant_id, client_id)
    if client.revoked_at is not None:
        return
    await _check_not_last(connection, manager, client)
    named = {"tenant_id": manager.tenant_id, "client_id": client_id}
    await record(connection, manager.tenant_id, manager.actor, Action("client.revoked", client_id))
    await connection.execute(_END_SECRETS, named)
    await connection.execute(_REVOKE, named)  # last, as in `change`


async def lock(connection: AsyncConnection, tenant_id: UUID) -> None:
    """Let no other change of the tenant's clients happen before this transaction ends."""
    await connection.execute(_LOCK, {"tenant_id": tenant_id})


def check_active(client: ManagedClient) -> None:
    """Raises ConflictError if the client is revoked."""
    if client.revoked_at is not None:
        raise ConflictError("The client is revoked, which can't be undone: make another one.")


_CHANGEABLE = ("name", "scopes", "networks", "jwks", "events_per_second", "burst")


async def _check_not_last(connection: AsyncConnection, manager: Manager, client: ManagedClient) -> None:
    if manager.of_the_tenant and TENANT_ADMIN in client.scopes:
        counted = await _counted(connection, manager, client.client_id)
        if not counted.others_with_scope:
            raise ConflictError(f"No other client has {TENANT_ADMIN}: give it to another one first.")


async def _counted(connection: AsyncConnection, manager: Manager, client_id: str) -> Any:
    values = {"tenant_id": manager.tenant_id, "client_id": client_id, "scope": TENANT_ADMIN}
    return (await connection.execute(_ACTIVE, values)).one()


def _told(columns: Mapping[str, Any]) -> dict[str, Any]:
    """Columns as the audit log tells them: of keys only their ids."""
    told = {name: value for name, value in columns.items() if value is not None or name != "jwks"}
    if "networks" in told:
        told["networks"] = [str(network) for network in told["networks"]]
    if "jwks" in told:
        told["jwks"] = key_ids(told["jwks"])
    return told
