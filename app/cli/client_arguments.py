"""The arguments of `sluice clients …`, and what they say: whose client, and which members it is given."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any
from uuid import UUID

import typer

from auth.scopes import SCOPES
from tenants.platform import PLATFORM_TENANT_ID

OptionalTenant = Annotated[UUID | None, typer.Argument(metavar="TENANT_ID", help="Or `--platform`.")]
ClientTarget = Annotated[list[str], typer.Argument(metavar="[TENANT_ID] CLIENT_ID", help="As printed by `list`.")]
Platform = Annotated[bool, typer.Option("--platform", help="An administrator's client, in place of TENANT_ID.")]
Scopes = Annotated[list[str] | None, typer.Option("--scope", help=f"Again for more: {', '.join(SCOPES)}.")]
Networks = Annotated[
    list[str] | None, typer.Option("--network", help="From where it may call, such as 192.0.2.0/24; again for more.")
]
Keys = Annotated[
    Path | None,
    typer.Option("--jwks", exists=True, dir_okay=False, help="A file with its public keys: then it has no secret."),
]
Rate = Annotated[float | None, typer.Option(help="Events per second of its own bucket; goes with --burst.")]
Burst = Annotated[int | None, typer.Option(help="Events at once of its own bucket; goes with --rate.")]


def target_of(given: list[str], what: str, *, platform: bool) -> tuple[UUID, str]:
    """The tenant, and the client's id or name, that `given` names."""
    if len(given) != (1 if platform else 2):
        raise typer.BadParameter(f"give --platform {what}, or TENANT_ID {what}")
    return tenant_of(given[:-1], platform=platform), given[-1]


def tenant_of(given: list[str], *, platform: bool) -> UUID:
    if platform:
        if given:
            raise typer.BadParameter("give TENANT_ID or --platform, not both")
        return PLATFORM_TENANT_ID
    try:
        return UUID(given[0])
    except IndexError:
        raise typer.BadParameter("give TENANT_ID or --platform") from None
    except ValueError:
        raise typer.BadParameter(f"{given[0]} is not a tenant's id, which is a UUID") from None


def members_of(
    scopes: list[str] | None, networks: list[str] | None, jwks: Path | None, rate: float | None, burst: int | None
) -> dict[str, Any]:
    """What was given, as `rules.checked` takes it."""
    given: dict[str, Any] = {"scopes": scopes, "networks": networks, "events_per_second": rate, "burst": burst}
    given = {name: value for name, value in given.items() if value is not None and value != []}
    if jwks is not None:
        try:
            given["jwks"] = json.loads(jwks.read_bytes())
        except (ValueError, RecursionError):
            raise typer.BadParameter(f"{jwks} is not JSON") from None
    return given
