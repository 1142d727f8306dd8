"""`sluice clients …`: operators manage any tenant's clients, and the platform's administrators.

Owns arguments and output. `tenants.clients` does it, with an audit entry that names the system's account.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated, TypeVar

import typer
from rich.console import Console
from rich.table import Table

from app.cli.client_arguments import (
    Burst,
    ClientTarget,
    Keys,
    Networks,
    OptionalTenant,
    Platform,
    Rate,
    Scopes,
    members_of,
    target_of,
    tenant_of,
)
from app.cli.operation import Json, operate, printable
from app.settings import OperatorSettings
from auth.credentials import key_bytes
from tenants.audit import Actor
from tenants.clients import changes, rotation
from tenants.clients.answers import ClientAnswer, ClientMadeAnswer, SecretMadeAnswer
from tenants.clients.changes import Manager, manager_for_platform
from tenants.clients.view import find, page_of_clients
from tenants.pages import MOST_ENTRIES, PageAsked

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from uuid import UUID

    from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

    from tenants.clients.view import ManagedClient

app = typer.Typer(
    name="clients",
    help="Make, show, change, rotate and revoke the OAuth clients of a tenant.\n\n"
    "Each command takes the tenant's id first; with `--platform` leave it out: then it is about administrators' "
    "clients, which hold `platform:admin`. A secret is shown once, when it is made.",
    no_args_is_help=True,
)
T = TypeVar("T")


@app.command()
def create(
    target: Annotated[list[str], typer.Argument(metavar="[TENANT_ID] NAME", help="What people call it.")],
    *,
    scope: Scopes = None,
    network: Networks = None,
    jwks: Keys = None,
    rate: Rate = None,
    burst: Burst = None,
    platform: Platform = False,
    as_json: Json = False,
) -> None:
    """Make a client, with all scopes unless told otherwise. Its secret is shown once."""
    settings = OperatorSettings.load()
    tenant_id, name = target_of(target, "NAME", platform=platform)
    given = {"name": name} | members_of(scope, network, jwks, rate, burst)
    key = key_bytes(settings.secret_hash_key)

    async def make(connection: AsyncConnection, manager: Manager) -> tuple[ManagedClient, str | None]:
        client_id, secret = await changes.create(connection, key, manager, given)
        return await find(connection, tenant_id, client_id), secret

    client, secret = _manage(settings, tenant_id, make)
    told = ClientMadeAnswer.made(client, secret)
    if as_json:
        typer.echo(told.model_dump_json())
        return
    _show(client)
    if secret is not None:
        _tell_secret(secret)


@app.command("list")
def list_(tenant_id: OptionalTenant = None, *, platform: Platform = False, as_json: Json = False) -> None:
    """List a tenant's clients, the oldest first, revoked ones too."""
    wanted = tenant_of([str(tenant_id)] if tenant_id else [], platform=platform)

    async def read(connection: AsyncConnection, _: Manager) -> list[ManagedClient]:
        found, last = await page_of_clients(connection, wanted, PageAsked(MOST_ENTRIES))
        while last is not None:
            more, last = await page_of_clients(connection, wanted, PageAsked(MOST_ENTRIES, last))
            found += more
        return found

    found = _manage(OperatorSettings.load(), wanted, read)
    if as_json:
        typer.echo(json.dumps([ClientAnswer.of(client).model_dump(mode="json") for client in found]))
        return
    table = Table("client_id", "name", "scopes", "from", "last used", "revoked")
    for client in found:
        table.add_row(
            client.client_id,
            printable(client.name),
            " ".join(client.scopes),
            " ".join(map(str, client.networks)) or "anywhere",
            f"{client.last_used_at:%Y-%m-%d %H:%M}" if client.last_used_at else "never",
            f"{client.revoked_at:%Y-%m-%d %H:%M}" if client.revoked_at else "",
        )
    Console().print(table)


@app.command()
def show(target: ClientTarget, *, platform: Platform = False, as_json: Json = False) -> None:
    """Show one client: what it may do, and when each of its secrets or keys was last used."""
    tenant_id, client_id = target_of(target, "CLIENT_ID", platform=platform)
    client = _manage(OperatorSettings.load(), tenant_id, lambda connection, _: find(connection, tenant_id, client_id))
    _tell(client, as_json=as_json)


@app.command()
def change(
    target: ClientTarget,
    *,
    name: Annotated[str | None, typer.Option(help="What people call it.")] = None,
    scope: Scopes = None,
    network: Networks = None,
    jwks: Keys = None,
    rate: Rate = None,
    burst: Burst = None,
    anywhere: Annotated[bool, typer.Option("--anywhere", help="Let it call from any network.")] = False,
    no_limits: Annotated[bool, typer.Option("--no-own-limits", help="Only the tenant's limits.")] = False,
    platform: Platform = False,
    as_json: Json = False,
) -> None:
    """Change a client; what is not named stays. Takes effect everywhere within a second."""
    if (anywhere and network) or (no_limits and (rate is not None or burst is not None)):
        raise typer.BadParameter("--anywhere goes without --network, --no-own-limits without --rate and --burst")
    tenant_id, client_id = target_of(target, "CLIENT_ID", platform=platform)
    given = members_of(scope, network, jwks, rate, burst)
    given |= {} if name is None else {"name": name}
    given |= {"networks": []} if anywhere else {}
    given |= {"events_per_second": None, "burst": None} if no_limits else {}

    async def replace(connection: AsyncConnection, manager: Manager) -> ManagedClient:
        await changes.change(connection, manager, client_id, given)
        return await find(connection, tenant_id, client_id)

    client = _manage(OperatorSettings.load(), tenant_id, replace)
    _tell(client, as_json=as_json)


@app.command()
def rotate(
    target: ClientTarget,
    old_expires_in: Annotated[
        int,
        typer.Option(
            min=0,
            max=rotation.LONGEST_OVERLAP_SECONDS,
            help="Seconds that the old secret stays valid; 0 if it has leaked.",
        ),
    ] = rotation.DEFAULT_OVERLAP_SECONDS,
    *,
    platform: Platform = False,
    as_json: Json = False,
) -> None:
    """Give a client a new secret, which is shown once; the old one ends a day later unless told otherwise."""
    settings = OperatorSettings.load()
    tenant_id, client_id = target_of(target, "CLIENT_ID", platform=platform)
    key = key_bytes(settings.secret_hash_key)
    secret, text = _manage(
        settings,
        tenant_id,
        lambda connection, manager: rotation.rotate(connection, key, manager, client_id, old_expires_in),
    )
    if as_json:
        typer.echo(SecretMadeAnswer.made(secret, text).model_dump_json())
        return
    _tell_secret(text)


@app.command()
def revoke(target: ClientTarget, *, platform: Platform = False, as_json: Json = False) -> None:
    """Revoke a client: its secrets and tokens are refused everywhere within a second. It can't be undone."""
    tenant_id, client_id = target_of(target, "CLIENT_ID", platform=platform)

    async def end(connection: AsyncConnection, manager: Manager) -> ManagedClient:
        await changes.revoke(connection, manager, client_id)
        return await find(connection, tenant_id, client_id)

    client = _manage(OperatorSettings.load(), tenant_id, end)
    if as_json:
        typer.echo(ClientAnswer.of(client).model_dump_json())
    else:
        Console(highlight=False).print(f"{client_id} is revoked.")


def _manage(settings: OperatorSettings, tenant_id: UUID, work: Callable[[AsyncConnection, Manager], Awaitable[T]]) -> T:
    """`work` in one transaction."""

    async def in_transaction(engine: AsyncEngine) -> T:
        async with engine.begin() as connection:
            return await work(connection, await manager_for_platform(connection, tenant_id, Actor.operator()))

    return operate(settings, in_transaction)


def _tell(client: ManagedClient, *, as_json: bool) -> None:
    if as_json:
        typer.echo(ClientAnswer.of(client).model_dump_json())
    else:
        _show(client)


def _show(client: ManagedClient) -> None:
    console = Console(highlight=False)
    told = ClientAnswer.of(client).model_dump(mode="json")
    for name, value in told.items():
        if name not in {"secrets", "keys"} and value is not None:
            shown = " ".join(value) if isinstance(value, list) else str(value)
            console.print(f"{name:<18} {printable(shown)}", soft_wrap=True)
    for one in (*told["secrets"], *told["keys"]):
        parts = (f"{name} {value}" for name, value in one.items() if value is not None)
        console.print(f"{'':<18} {printable(', '.join(parts))}", soft_wrap=True)


def _tell_secret(secret: str) -> None:
    console = Console(highlight=False)
    console.print("The secret is shown only now: keep it.")
    console.print(f"{'client_secret':<18} {secret}", soft_wrap=True)
