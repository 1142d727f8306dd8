"""The secrets of a tenant's clients: a second one for rotation, when an old one ends, and removing one.

As `tenants.clients.changes`: each change with its audit entry, in one transaction that the caller commits.
"""

from __future__ import annotations

from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING
from uuid import UUID

from sqlalchemy import text

from app.errors import ConflictError, Fault, InvalidError, NotFoundError
from app.events.timestamps import format_utc
from auth.clients import add_secret
from tenants.audit import Action, record
from tenants.clients.changes import Manager, check_active, lock
from tenants.clients.view import SECRETS_SHOWN, ManagedClient, ManagedSecret, find

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncConnection

MOST_VALID = 2
DEFAULT_OVERLAP_SECONDS = 86_400
LONGEST_OVERLAP_SECONDS = 30 * 86_400

_END = text("""
    update client_secrets set expires_at = statement_timestamp() + make_interval(secs => :seconds)
    where tenant_id = :tenant_id and client_id = :client_id
        and (expires_at is null or expires_at > statement_timestamp() + make_interval(secs => :seconds))
""")
# Each request for a token looks through the client's secrets, and rotating takes no longer than asking for it.
_FORGET = text("""
    delete from client_secrets
    where tenant_id = :tenant_id and client_id = :client_id and secret_id in (
        select secret_id from client_secrets
        where tenant_id = :tenant_id and client_id = :client_id and expires_at <= statement_timestamp()
        order by created_at desc, secret_id offset :kept
    )
""")
_MOVE = text("""
    update client_secrets set expires_at = :expires_at
    where tenant_id = :tenant_id and client_id = :client_id and secret_id = :secret_id
""")
_REMOVE = text("""
    delete from client_secrets
    where tenant_id = :tenant_id and client_id = :client_id and secret_id = :secret_id
""")


async def rotate(
    connection: AsyncConnection, key: bytes, manager: Manager, client_id: str, old_expires_in: int
) -> tuple[ManagedSecret, str]:
    """A further secret of the client, and its text. Those before it end in `old_expires_in` seconds (0: now), or
    earlier if that was set. Of those that have ended only the newest are kept, as many as are shown.

    Raises:
        NotFoundError: there is no such client.
        ConflictError: it is revoked, has keys, or would have more than `MOST_VALID` secrets at once.
    """
    await lock(connection, manager.tenant_id)
    client = await find(connection, manager.tenant_id, client_id)
    check_active(client)
    if client.jwks is not None:
        raise ConflictError("The client authenticates with keys and has no secret.")
    valid = _valid(client)
    if old_expires_in and len(valid) >= MOST_VALID:
        older = " or ".join(str(secret.secret_id) for secret in reversed(valid))
        raise ConflictError(f"Two secrets are valid at once: remove {older} first, or end both with old_expires_in 0.")
    named = {"tenant_id": manager.tenant_id, "client_id": client_id}
    await connection.execute(_END, named | {"seconds": old_expires_in})
    await connection.execute(_FORGET, named | {"kept": SECRETS_SHOWN})
    made = await add_secret(connection, key, manager.tenant_id, client_id)
    detail = {"secret_id": str(made.secret_id), "old_expires_in": old_expires_in}
    await record(connection, manager.tenant_id, manager.actor, Action("client.secret_added", client_id, detail))
    _, secret = await _find_secret(connection, manager, client_id, str(made.secret_id))
    return secret, made.client_secret


async def move_end(
    connection: AsyncConnection, manager: Manager, client_id: str, secret_id: str, expires_at: datetime | None
) -> ManagedSecret:
    """The secret, which now ends at `expires_at`; None: not by itself.

    Raises:
        InvalidError: the moment is past or more than 100 years ahead.
        NotFoundError: there is no such client, or it has no such secret.
        ConflictError: the client is revoked, or the secret has ended.
    """
    now = datetime.now(UTC)
    if expires_at is not None and not now < expires_at < now + timedelta(days=36_525):
        fault = Fault("/expires_at", "must be in the future, within 100 years; to end a secret now, remove it")
        raise InvalidError("The body is not valid.", (fault,))
    await lock(connection, manager.tenant_id)
    client, secret = await _find_secret(connection, manager, client_id, secret_id)
    check_active(client)
    if not secret.valid:
        raise ConflictError("The secret has ended, which can't be undone: add another one.")
    if expires_at == secret.expires_at:
        return secret
    named = _named(manager, client_id, secret)
    await connection.execute(_MOVE, named | {"expires_at": expires_at})
    detail = {
        "secret_id": str(secret.secret_id),
        "expires_at": {"from": _told(secret.expires_at), "to": _told(expires_at)},
    }
    await record(connection, manager.tenant_id, manager.actor, Action("client.secret_changed", client_id, detail))
    return (await _find_secret(connection, manager, client_id, secret_id))[1]


async def remove(connection: AsyncConnection, manager: Manager, client_id: str, secret_id: str) -> None:
    """Forget the secret: it is refused from now on.

    Raises:
        NotFoundError: there is no such client, or it has no such secret.
        ConflictError: it is the client's last that is valid, and the client is not revoked.
    """
    await lock(connection, manager.tenant_id)
    client, secret = await _find_secret(connection, manager, client_id, secret_id)
    if client.revoked_at is None and _valid(client) == [secret]:
        raise ConflictError("It is the client's only valid secret: add another one first, or revoke the client.")
    await connection.execute(_REMOVE, _named(manager, client_id, secret))
    detail = {"secret_id": str(secret.secret_id)}
    await record(connection, manager.tenant_id, manager.actor, Action("client.secret_removed", client_id, detail))


async def _find_secret(
    connection: AsyncConnection, manager: Manager, client_id: str, secret_id: str
) -> tuple[ManagedClient, ManagedSecret]:
    client = await find(connection, manager.tenant_id, client_id)
    wanted = None
    with suppress(ValueError):
        wanted = UUID(secret_id)
    for secret in client.secrets:
        if secret.secret_id == wanted:
            return client, secret
    raise NotFoundError("There is no such secret.")


def _valid(client: ManagedClient) -> list[ManagedSecret]:
    return [secret for secret in client.secrets if secret.valid]


def _named(manager: Manager, client_id: str, secret: ManagedSecret) -> dict[str, object]:
    return {"tenant_id": manager.tenant_id, "client_id": client_id, "secret_id": secret.secret_id}


def _told(moment: datetime | None) -> str | None:
    return None if moment is None else format_utc(moment)
