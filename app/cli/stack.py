"""`sluice up`, `down` and `status`: the stack on this machine from the command line. Owns options and output only.

What happens is in deploy.local. A failure is one line on stderr and exit status 1; no secret is printed.
"""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import subprocess
import sys
import time
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.text import Text

from app.settings import home
from deploy.local.errors import LocalError
from deploy.local.lock import holder

if TYPE_CHECKING:
    from collections.abc import Iterator

    from deploy.local.stack import Stack

_COLOURS = {
    "sluice": "bold",
    "api": "cyan",
    "worker-store": "green",
    "worker-index": "magenta",
    "worker-maintain": "blue",
    "worker-replay": "yellow",
}
_ROW = "{:<16} {:<12} {:>8} {:>6} {:>8}  {}"
_EXAMPLE = """\
Everything is healthy.

  API        {api}     documentation: {api}/docs
  state      {home}     data, logs, and stack.json with the credentials (readable by you only)
  stop it    {stop}

Try it with the demo tenant, in another terminal:

  {export}
  field() {{ python3 -c 'import json,sys; d=json.load(sys.stdin)
  for k in sys.argv[1:]: d=d[k]
  print(d)' "$@"; }}
  API={api}
  TOKEN=$(curl -s -u "$(field demo client_id <"$STACK"):$(field demo client_secret <"$STACK")" \\
    -d grant_type=client_credentials $API/oauth/token | field access_token)
  curl -s -H "Authorization: Bearer $TOKEN" -H 'Content-Type: application/json' \\
    -d '{{"event_type": "click", "user_id": "u1", "metadata": {{"page": "hello world"}}}}' $API/api/v1/events; echo
  sleep 2
  curl -s -H "Authorization: Bearer $TOKEN" "$API/api/v1/events/count?event_type=click"; echo
  curl -s -H "Authorization: Bearer $TOKEN" "$API/api/v1/events/search?q=hello"; echo
"""


@contextmanager
def _one_line_errors() -> Iterator[None]:
    try:
        yield
    except LocalError as error:
        Console(stderr=True, soft_wrap=True, highlight=False).print(Text(f"sluice: {error}"))
        raise typer.Exit(1) from None


def up(
    detach: Annotated[bool, typer.Option("--detach", help="Return once everything is healthy.")] = False,
    follow: Annotated[bool, typer.Option(hidden=True, help="Show the components' logs.")] = True,
) -> None:
    """Start the servers, the API and the workers, and stay in the foreground with one log. Ctrl-C stops it all."""
    with _one_line_errors():
        if detach:
            _detached(home())
            return
        from deploy.local.runner import run  # noqa: PLC0415 - `status` and `down` need none of it

        console = Console(soft_wrap=True, highlight=False)

        def show(name: str, line: str) -> None:
            console.print(Text(f"{name:<15} ", style=_COLOURS.get(name, "yellow")).append(Text.from_ansi(line)))

        def ready(stack: Stack) -> None:
            console.print(Text(example(stack.api, stack.home)))

        run(home(), os.environ, show, ready, follow=follow)


def example(api: str, folder: Path) -> str:
    """Where everything is, and a session to copy. The credentials stay in stack.json."""
    moved = os.environ.get("SLUICE_HOME")
    stop = f"SLUICE_HOME={folder} {_typed()} down" if moved else f"{_typed()} down"
    return _EXAMPLE.format(api=api, home=folder, stop=f"Ctrl-C, or: {stop}", export=f'STACK="{folder}/stack.json"')


def _typed() -> str:
    """What a person types for this command: it is on the PATH only where the environment is active."""
    if shutil.which("sluice"):
        return "sluice"
    return os.path.relpath(Path(sys.executable).with_name("sluice"))


def _detached(folder: Path) -> None:
    if other := holder(folder):
        raise LocalError(f"A stack already runs in {folder} (process {other.pid}): stop it with `{_typed()} down`")
    logs = folder / "logs"
    try:
        logs.mkdir(parents=True, exist_ok=True)
        log = (logs / "runner.log").open("a+b")
    except OSError as error:
        raise LocalError(f"Can't write {error.filename}: {error.strerror}") from error
    with log:
        said_before = log.seek(0, os.SEEK_END)
        runner = subprocess.Popen(
            (sys.executable, "-m", "app.cli.main", "up", "--no-follow"),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            env={**os.environ, "SLUICE_HOME": str(folder)},
        )
        try:
            _await_ready(runner, folder)
        except BaseException:  # Ctrl-C too: whoever stops waiting leaves no runner behind
            runner.terminate()
            runner.wait()
            raise
        if runner.returncode is not None:
            log.seek(said_before)
            lines = [line for line in log.read().decode(errors="replace").splitlines() if line.strip()]
            raise LocalError(lines[-1].removeprefix("sluice: ") if lines else "The runner ended without a word")
    typer.echo(f"Everything is healthy. The log is {logs / 'runner.log'}; stop it with `{_typed()} down`.")


def _await_ready(runner: subprocess.Popen[bytes], folder: Path) -> None:
    from deploy.local.runner import marker_of  # noqa: PLC0415

    while runner.poll() is None and marker_of(folder) != runner.pid:
        time.sleep(0.2)


def down() -> None:
    """Stop the stack of this folder; its data stays."""
    from deploy.local.status import down as stop  # noqa: PLC0415

    with _one_line_errors():
        typer.echo(stop(home()))


def status(
    as_json: Annotated[bool, typer.Option("--json", help="Machine-readable.")] = False,
) -> None:
    """Show each component: state, process, port, memory, log. Exit status 1 where one doesn't run."""
    from deploy.local.status import look  # noqa: PLC0415

    with _one_line_errors():
        found = asyncio.run(look(home(), os.environ))
    if as_json:
        typer.echo(json.dumps(asdict(found), indent=2))
    else:
        runner = f"process {found.runner}" if found.runner else "not running"
        typer.echo("\n".join((f"home {found.home}, runner {runner}", *found.notes)))
        typer.echo(_ROW.format("component", "state", "process", "port", "memory", "log"))
        for part in found.components:
            memory = f"{part.memory_bytes / 1e6:.0f} MB" if part.memory_bytes else ""
            typer.echo(_ROW.format(part.name, part.state, part.pid or "", part.port or "", memory, part.log))
    if not all(part.state in ("running", "given") for part in found.components):
        raise typer.Exit(1)
