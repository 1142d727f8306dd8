"""The four servers as one thing: what `sluice up` and the tests start.

Owns their order, passwords and lock; knows nothing of what they are used for.
"""

from __future__ import annotations

import asyncio
import logging
import os
import shutil
import threading
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

from deploy.local import cache, catalogue, elasticsearch, guardian, kafka, platforms, postgres, redis
from deploy.local.errors import LocalError
from deploy.local.lock import HomeLock
from deploy.local.passwords import Secrets
from deploy.local.places import Places, arrange, settle
from deploy.local.ports import Ports, require_free
from deploy.local.processes import Record, Register, end_earlier, members
from deploy.local.supervisor import Supervisor
from deploy.local.users import service_account

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from deploy.local.service import Service

_LOG = logging.getLogger("sluice.local")
NAMES = ("postgres", "redis", "kafka", "elasticsearch")


@dataclass(frozen=True)
class Endpoints:
    """Where the servers are. `postgres_url` is the superuser's, of the database `sluice`, which exists."""

    postgres_url: str
    redis_url: str
    kafka_bootstrap: str
    elasticsearch_url: str


@dataclass(frozen=True)
class Given:
    """Servers that already run and are used instead of started."""

    postgres_url: str | None = None
    redis_url: str | None = None
    kafka_bootstrap: str | None = None
    elasticsearch_url: str | None = None

    def names(self) -> set[str]:
        return {key.split("_")[0] for key, value in asdict(self).items() if value}


class LocalServers:
    """`home` keeps data, logs and passwords: the same home finds them again. One runner a home."""

    def __init__(
        self,
        home: Path,
        *,
        ports: Ports | None = None,
        given: Given = Given(),
        report: Callable[[str], None] = _LOG.info,
        also: Mapping[str, int] | None = None,
    ) -> None:
        """`also` names ports that the caller's own components will want: they are checked with the servers'."""
        self._home = home
        self._ports = ports or Ports()
        self._given = given
        self._report = report
        self._also = dict(also or {})
        self._lock: HomeLock | None = None
        self._stop_downloads = threading.Event()
        self._services: dict[str, Service] = {}
        self._supervisor: Supervisor | None = None
        self._guardian: subprocess.Popen[bytes] | None = None
        self._places: Places | None = None
        self._endpoints: Endpoints | None = None

    @property
    def places(self) -> Places:
        if self._places is None:
            raise LocalError("The servers haven't been started")
        return self._places

    @property
    def endpoints(self) -> Endpoints:
        """What `start` returned."""
        if self._endpoints is None:
            raise LocalError("The servers haven't been started")
        return self._endpoints

    @property
    def started(self) -> bool:
        return self._supervisor is not None

    @property
    def supervisor(self) -> Supervisor:
        """For whoever runs more components beside the servers, under the same rules."""
        if self._supervisor is None:
            raise LocalError("The servers haven't been started")
        return self._supervisor

    async def start(self) -> Endpoints:
        """Start what isn't given, downloading it if needed; returns when all are healthy.

        Raises LocalError, one line, after stopping what it had started.
        """
        self._places = arrange(self._home, os.environ, service_account(os.environ, os.geteuid()))
        self._lock = HomeLock.take(self._home)
        self._stop_downloads.clear()
        try:
            return await self._start(self._places)
        except OSError as error:
            await self.stop()
            raise LocalError(f"Can't write {error.filename or self._home}: {error.strerror or error}") from error
        except BaseException:  # a cancelled start too leaves nothing running; then it is raised on
            await self.stop()
            raise

    async def stop(self) -> None:
        """Stop all of them; also what a failed or cancelled start left."""
        self._stop_downloads.set()
        if self._supervisor:
            await asyncio.gather(*(self._supervisor.stop(name) for name in NAMES))
        if self._guardian and self._guardian.stdin:
            # After the servers: it ends what is still in the register.
            self._guardian.stdin.close()
            await asyncio.to_thread(self._guardian.wait)
            self._guardian = None
        if self._lock:
            self._lock.free()
            self._lock = None

    async def discard(self) -> None:
        """Stop, and remove the home and the data, wherever that had to be. For homes that were made for a test."""
        await self.stop()
        places = settle(self._home, os.environ, service_account(os.environ, os.geteuid()))
        for folder in (places.servers, places.home):
            await asyncio.to_thread(shutil.rmtree, folder, ignore_errors=True)

    def pid(self, name: str) -> int:
        """The server itself: of a launcher and its server, the bigger one."""
        processes = members(self.supervisor.record(name))
        return max(processes, key=lambda process: process.memory_info().rss).pid

    def resident_bytes(self) -> int:
        """Resident memory of all that was started here, shared pages counted each time."""
        total = 0
        for name in self.supervisor.running():
            for process in members(self.supervisor.record(name)):
                total += process.memory_info().rss + sum(
                    child.memory_info().rss for child in process.children(recursive=True) if name == "postgres"
                )
        return total

    async def stop_server(self, name: str) -> None:
        """Take one away, cleanly, for a test of what happens without it."""
        await self.supervisor.stop(name)

    async def start_server(self, name: str) -> None:
        """Bring it back; returns when it is healthy."""
        await self.supervisor.start(self._services[name])

    async def _start(self, places: Places) -> Endpoints:
        given = self._given.names()
        ours = [name for name in NAMES if name not in given]
        register = Register(self._home / "processes.json")
        left = await asyncio.to_thread(end_earlier, register.earlier(), 10.0)
        if servers := [name for name in left if name != guardian.NAME]:
            self._report(f"ended what an earlier run had left: {', '.join(servers)}")
        register.clear()
        self._guardian = guardian.watch_over(self._home / "processes.json", places.log(guardian.NAME))
        register.add(Record.of(guardian.NAME, self._guardian.pid))
        require_free({name: port for name, port in asdict(self._ports).items() if name in ours} | self._also)
        folders = await self._distributions(places, ours)
        passwords = Secrets(self._home).passwords(("postgres", "redis"))
        self._supervisor = Supervisor(register, self._report)
        self._services = {name: self._service(name, places, folders, passwords) for name in ours}
        # The slowest first in line.
        slowest = ("elasticsearch", "kafka", "postgres", "redis")
        await self._supervisor.start_all(self._services[name] for name in slowest if name in ours)
        for line in places.moved:
            self._report(line)
        self._endpoints = self._found(passwords)
        return self._endpoints

    async def _distributions(self, places: Places, ours: list[str]) -> dict[str, Path]:
        platform = platforms.current(postgres_given="postgres" not in ours)
        wanted = [
            artifact
            for artifact in catalogue.everything(platform)
            if artifact.name in ours or (artifact.name == "jre" and {"kafka", "elasticsearch"} & set(ours))
        ]
        try:
            return await asyncio.to_thread(cache.ensure, places.cache, wanted, self._report, self._stop_downloads)
        except asyncio.CancelledError:
            self._stop_downloads.set()
            raise

    def _service(self, name: str, places: Places, folders: dict[str, Path], passwords: dict[str, str]) -> Service:
        ports = self._ports
        if name == "postgres":
            return postgres.service(places, ports.postgres, passwords["postgres"])
        if name == "redis":
            return redis.service(places, ports.redis, passwords["redis"], folders["redis"])
        if name == "kafka":
            return kafka.service(places, ports.kafka, folders["kafka"], folders["jre"])
        return elasticsearch.service(places, ports.elasticsearch, folders["elasticsearch"], folders["jre"])

    def _found(self, passwords: dict[str, str]) -> Endpoints:
        ports, given = self._ports, self._given
        here = "127.0.0.1"
        return Endpoints(
            given.postgres_url
            or f"postgresql://postgres:{passwords['postgres']}@{here}:{ports.postgres}/{postgres.DATABASE}",
            given.redis_url or f"redis://:{passwords['redis']}@{here}:{ports.redis}/0",
            given.kafka_bootstrap or f"{here}:{ports.kafka}",
            given.elasticsearch_url or f"http://{here}:{ports.elasticsearch}",
        )
