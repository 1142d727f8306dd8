"""The whole of Sluice on this machine: servers, schema, the platform's first credentials, API and workers.

Owns the order and what each part is told. Secrets reach children by their environment and files of mode 0600, never by
arguments or output.
"""

from __future__ import annotations

import asyncio
import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx

from deploy.local.errors import LocalError
from deploy.local.passwords import write_private
from deploy.local.ports import Ports, port_from
from deploy.local.processes import Command
from deploy.local.servers import LocalServers
from deploy.local.service import Service, answers, run_once
from deploy.local.settings import api_url, child_environ, env_file, given_from, variables

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from deploy.local.servers import Endpoints

# Together with the servers' own it stays within the 20 s that a stop may take.
_PATIENCE = 7.0
WORKERS = ("store", "index", "maintain", "replay")
COMPONENTS = ("postgres", "redis", "kafka", "elasticsearch", "api", *(f"worker-{name}" for name in WORKERS))
_APPLICATION = ("api", *(f"worker-{name}" for name in WORKERS))


@dataclass(frozen=True)
class ApplicationPorts:
    """The workers' metrics follow the API's, one port each."""

    api: int = 8000
    metrics: int = 9464

    @classmethod
    def from_environment(cls, environ: Mapping[str, str]) -> ApplicationPorts:
        return cls(port_from(environ, "api", cls.api), port_from(environ, "metrics", cls.metrics))

    def of(self) -> dict[str, int]:
        """Each component's port of metrics."""
        return {name: self.metrics + number for number, name in enumerate(_APPLICATION)}


class Stack:
    """One home's stack. `environ` is what the person set; `report` gets one line at a time."""

    def __init__(self, home: Path, environ: Mapping[str, str], report: Callable[[str], None]) -> None:
        self.home = home
        self._environ = environ
        self._report = report
        self._ports = ApplicationPorts.from_environment(environ)
        metrics = {f"metrics of {name}": port for name, port in self._ports.of().items()}
        also = {"api": self._ports.api, **metrics}
        self.servers = LocalServers(
            home, ports=Ports.from_environment(environ), given=given_from(environ), report=report, also=also
        )

    @property
    def api(self) -> str:
        return api_url(self._ports.api)

    async def start(self) -> None:
        """Returns when all is healthy and stack.json says so. Raises LocalError after stopping what was started."""
        endpoints = await self.servers.start()
        application = asyncio.create_task(self._start_application(endpoints))
        failing = asyncio.create_task(self.wait_failed())
        try:
            await asyncio.wait((application, failing), return_when=asyncio.FIRST_COMPLETED)
            if application.done():
                await application
            else:
                await self._give_up(failing)
        except BaseException:  # a cancelled start too leaves nothing running; then it is raised on
            application.cancel()
            await asyncio.gather(application, return_exceptions=True)
            await self.stop()
            raise
        finally:
            failing.cancel()

    async def stop(self) -> None:
        """The application first, so that it can finish what it has taken; then the servers. Within 20 s."""
        if self.servers.started:
            await asyncio.gather(*(self.servers.supervisor.stop(name) for name in _APPLICATION))
        await self.servers.stop()

    async def wait_failed(self) -> str:
        return await self.servers.supervisor.wait_failed()

    @staticmethod
    async def _give_up(failing: asyncio.Task[str]) -> None:
        raise LocalError(await failing)

    def logs(self) -> dict[str, Path]:
        return {name: self.servers.places.log(name) for name in COMPONENTS}

    async def _start_application(self, endpoints: Endpoints) -> None:
        values = variables(
            self.home, self._environ, endpoints, api_port=self._ports.api, metrics_port=self._ports.metrics
        )
        write_private(self.home / "env", env_file(values))
        self._report("migrating")
        await run_once(self._command("migrate", ("migrate",), values), "The migration")
        credentials = await self._bootstrap(values)
        services = [self._api(values), *(self._worker(name, values) for name in WORKERS)]
        self._report("starting the API and the workers")
        await self.servers.supervisor.start_all(services)
        write_private(
            self.home / "stack.json", json.dumps(described(endpoints, credentials, self._ports), indent=2) + "\n"
        )

    async def _bootstrap(self, values: Mapping[str, str]) -> dict[str, Any]:
        from app.settings import OperatorSettings  # noqa: PLC0415 - the servers alone need no application
        from tenants.bootstrap import ensure_platform  # noqa: PLC0415

        chosen = {name.removeprefix("SLUICE_").lower(): value for name, value in values.items()}
        return dict(await ensure_platform(OperatorSettings.model_validate(chosen), read_stack(self.home)))

    def _command(self, name: str, argv: tuple[str, ...], values: Mapping[str, str]) -> Command:
        environ = child_environ(self._environ, values, self.home, name)
        if name in _APPLICATION:
            environ["SLUICE_METRICS_PORT"] = str(self._ports.of()[name])
        # The working folder stays: a checkout that isn't installed is found through it.
        full = (sys.executable, "-m", "app.cli.main", *argv)
        return Command(full, Path.cwd(), environ, self.servers.places.log(name))

    def _api(self, values: Mapping[str, str]) -> Service:
        async def healthy() -> bool:
            try:
                async with httpx.AsyncClient(timeout=3, trust_env=False) as client:
                    return (await client.get(f"{self.api}/api/v1/ready")).is_success
            except httpx.HTTPError:
                return False

        return Service("api", self._command("api", ("api",), values), healthy, patience=_PATIENCE, port=self._ports.api)

    def _worker(self, worker: str, values: Mapping[str, str]) -> Service:
        name = f"worker-{worker}"
        port = self._ports.of()[name]

        async def healthy() -> bool:
            return await answers(port)

        command = self._command(name, ("worker", worker), values)
        return Service(name, command, healthy, patience=_PATIENCE, port=port)


def described(endpoints: Endpoints, credentials: Mapping[str, Any], ports: ApplicationPorts) -> dict[str, Any]:
    """The text of stack.json, which other programs read: its names are fixed."""
    return {
        "api": api_url(ports.api),
        "grpc": None,
        "postgres": endpoints.postgres_url,
        "redis": endpoints.redis_url,
        "kafka": endpoints.kafka_bootstrap,
        "elasticsearch": endpoints.elasticsearch_url,
        "metrics": f"http://127.0.0.1:{ports.metrics}/metrics",
        "admin": credentials["admin"],
        "demo": credentials["demo"],
    }


def read_stack(home: Path) -> dict[str, Any] | None:
    """What the last complete start wrote, or None."""
    try:
        found = json.loads((home / "stack.json").read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise LocalError(f"Can't read {home / 'stack.json'}: {error}") from error
    return found if isinstance(found, dict) else None
