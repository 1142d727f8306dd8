"""`sluice`: the command's tree, and the one place where errors become one line and an exit status.

0 done, 1 failed or found something, 2 wrong use. Never a traceback for what a user can cause.
"""

from __future__ import annotations

import sys
from importlib import import_module
from typing import NoReturn

import typer
from rich.console import Console

from app.cli.failure import CommandError
from app.errors import AppError
from app.settings import SettingsError

COMMANDS = ("up", "down", "status", "api", "worker", "migrate", "verify", "reindex", "erase")
GROUPS = ("tenants", "plans", "clients", "events", "keys", "dead-letters", "replay")
_MODULES = {"up": "stack", "down": "stack", "status": "stack"}

# Typer carries a copy of click inside; this is the public way to its base of "wrong use".
_UsageError: type[Exception] = typer.BadParameter.__mro__[1]

_errors = Console(stderr=True, highlight=False, soft_wrap=True)


def command_tree(only: str | None = None) -> typer.Typer:
    """All commands, or just the one named `only`: a worker need not load what the gateway is made of."""
    app = typer.Typer(
        name="sluice",
        no_args_is_help=True,
        pretty_exceptions_enable=False,
        add_completion=False,
        rich_markup_mode="markdown",
    )
    app.callback(help="A multi-tenant event backend: start it, manage its tenants, feed it and check it.")(_nothing)
    known = only in COMMANDS + GROUPS
    for name in COMMANDS:
        if name == only or not known:
            app.command(name)(getattr(import_module(f"app.cli.{_MODULES.get(name, name)}"), name))
    for name in GROUPS:
        if name == only or not known:
            app.add_typer(import_module(f"app.cli.{name.replace('-', '_')}").app, name=name)
    return app


def _nothing() -> None:
    """Keeps a tree of one command a tree."""


def run() -> NoReturn:
    """The console script's entry point."""
    sys.exit(_status(sys.argv[1:]))


def _status(arguments: list[str]) -> int:  # noqa: PLR0911  one for each way to end
    try:
        code = command_tree(arguments[0] if arguments else None)(arguments, standalone_mode=False)
    except _UsageError as error:
        if not arguments:  # it is the help
            error.show()  # type: ignore[attr-defined]
            return 2
        return _say(f"{error.format_message()} See `sluice {_named(arguments)}--help`.", 2)  # type: ignore[attr-defined]
    except SettingsError as error:
        return _say(f"{error}. Start the local stack with `sluice up`, or set these variables.", 2)
    except AppError as error:
        faults = "; ".join(f"{fault.pointer}: {fault.detail}" for fault in error.faults)
        return _say(f"{error.detail} {faults}", 2 if error.status < 500 else 1)  # noqa: PLR2004
    except (CommandError, OSError) as error:
        return _say(str(error) or type(error).__name__, 1)
    except (KeyboardInterrupt, typer.Abort):
        return 130
    return code if isinstance(code, int) else 0


def _named(arguments: list[str]) -> str:
    """The command that was meant, for the hint."""
    return f"{arguments[0]} " if arguments[0] in COMMANDS + GROUPS else ""


def _say(text: str, status: int) -> int:
    _errors.print("[red]error:[/red] ", end="")
    _errors.print(" ".join(text.split()), markup=False)
    return status


if __name__ == "__main__":
    run()
