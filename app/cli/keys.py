"""`sluice keys …`: the keys that sign tokens. Owns arguments and output; `auth.rotation` does it."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, TypeVar

import typer
from rich.console import Console
from rich.table import Table

from app.cli.operation import Json, operate
from app.settings import OperatorSettings
from auth import rotation
from auth.credentials import key_bytes
from tenants.audit import Action, Actor, record
from tenants.platform import PLATFORM_TENANT_ID

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

    from auth.rotation import Rotation

T = TypeVar("T")

app = typer.Typer(name="keys", help="Rotate, list and retire the keys that sign access tokens.", no_args_is_help=True)

MAX_LEAD_SECONDS = 30 * 24 * 3600


@app.command()
def rotate(
    in_seconds: Annotated[
        int,
        typer.Option(
            "--in",
            min=0,
            max=MAX_LEAD_SECONDS,
            metavar="SECONDS",
            help="When the new key begins to sign. Verifiers elsewhere may keep the published keys for 60 s.",
        ),
    ] = rotation.LEAD_SECONDS,
    *,
    at_once: Annotated[bool, typer.Option("--at-once", help="The new key signs now: the same as `--in 0`.")] = False,
    as_json: Json = False,
) -> None:
    """Publish a new key at once and sign with it later.

    No token is lost: those of the old keys hold until they expire, and the old keys are retired an hour after the
    new one signs. Running processes need no restart. If a key has leaked, use `sluice keys retire`.
    """

    async def work(connection: AsyncConnection, key_encryption_key: bytes, actor: Actor) -> Rotation:
        done = await rotation.rotate(connection, key_encryption_key, 0 if at_once else in_seconds)
        await _record_rotation(connection, actor, done)
        return done

    done = _run(work)
    if as_json:
        typer.echo(json.dumps(_rotation_fields(done)))
        return
    console = Console(highlight=False, soft_wrap=True)
    console.print(f"Key {done.kid} is published and signs from {_shown(done.signs_from)}.")
    for kid in done.superseded:
        console.print(f"Tokens of key {kid} hold until they expire; it is retired by {_shown(done.superseded_until)}.")


@app.command("list")
def list_(*, as_json: Json = False) -> None:
    """List the keys, in the order in which they begin to sign; retired ones are kept for a month."""
    found = _run(lambda connection, key_encryption_key, _actor: rotation.list_keys(connection, key_encryption_key))
    if as_json:
        rows = [
            {
                "kid": key.kid,
                "algorithm": key.algorithm,
                "state": key.state,
                "created_at": _shown(key.created_at),
                "signs_from": _shown(key.signs_from),
                "retired_at": key.retired_at and _shown(key.retired_at),
            }
            for key in found
        ]
        typer.echo(json.dumps(rows))
        return
    table = Table("kid", "state", "which", "signs from", "retired")
    for key in found:
        retired = _shown(key.retired_at) if key.retired_at else ""
        table.add_row(key.kid, key.state, rotation.STATES[key.state], _shown(key.signs_from), retired)
    Console().print(table)


@app.command()
def retire(
    kid: Annotated[str, typer.Argument(help="As printed by `list`, and in the header of its tokens.")],
    *,
    as_json: Json = False,
) -> None:
    """End a key that has leaked: every token that it signed is refused within a second, by every process.

    If it was the one that signs, a new key takes its place at once. Clients then ask for new tokens.
    """

    async def work(connection: AsyncConnection, key_encryption_key: bytes, actor: Actor) -> Rotation | None:
        successor = await rotation.retire(connection, key_encryption_key, kid)
        detail = {} if successor is None else {"successor": successor.kid}
        await record(connection, PLATFORM_TENANT_ID, actor, Action("key.retired", kid, detail))
        if successor is not None:
            await _record_rotation(connection, actor, successor)
        return successor

    successor = _run(work)
    if as_json:
        typer.echo(json.dumps({"kid": kid, "successor": successor and _rotation_fields(successor)}))
        return
    console = Console(highlight=False, soft_wrap=True)
    console.print(f"Key {kid} is retired: its tokens are refused from now on.")
    if successor is not None:
        console.print(f"Key {successor.kid} signs in its place.")


async def _record_rotation(connection: AsyncConnection, actor: Actor, done: Rotation) -> None:
    detail = {name: value for name, value in _rotation_fields(done).items() if name != "kid"}
    await record(connection, PLATFORM_TENANT_ID, actor, Action("key.rotated", done.kid, detail))


def _rotation_fields(done: Rotation) -> dict[str, object]:
    return {
        "kid": done.kid,
        "signs_from": _shown(done.signs_from),
        "superseded": list(done.superseded),
        "superseded_until": _shown(done.superseded_until),
    }


def _run(work: Callable[[AsyncConnection, bytes, Actor], Awaitable[T]]) -> T:
    """`work` in one transaction of sluice_auth, with the key-encryption key and who typed the command."""
    settings = OperatorSettings.load()

    async def in_transaction(engine: AsyncEngine) -> T:
        async with engine.begin() as connection:
            return await work(connection, key_bytes(settings.key_encryption_key), Actor.operator())

    return operate(settings, in_transaction)


def _shown(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
