"""Redis: its settings, how it is started and asked for its health. All in it may be lost: it keeps no log of writes."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

from redis.asyncio import Redis
from redis.exceptions import RedisError

from deploy.local.errors import LocalError
from deploy.local.processes import Command
from deploy.local.service import Service, answers, bare_environ

if TYPE_CHECKING:
    from deploy.local.places import Places

# The least recently used key goes when memory is full: a write never fails. A snapshot now and then, and one at a clean
# stop, carries the buckets over a restart; failing to write it (a full disk) must not refuse writes.
_SETTINGS = """\
bind 127.0.0.1
port {port}
protected-mode yes
requirepass {password}
dir {folder}
daemonize no
logfile ""
maxmemory 128mb
maxmemory-policy allkeys-lru
maxclients 2000
appendonly no
save 300 100
stop-writes-on-bgsave-error no
"""


def service(places: Places, port: int, password: str, distribution: Path) -> Service:
    folder = places.folder("redis")
    settings = folder / "redis.conf"
    environ = bare_environ(folder)

    async def prepare() -> None:
        places.write(settings, _SETTINGS.format(port=port, password=password, folder=f'"{folder}"'))

    async def healthy() -> bool:
        if not await answers(port):
            return False
        try:
            async with Redis(port=port, password=password, socket_timeout=2, socket_connect_timeout=2) as client:
                return bool(await client.ping())
        except (RedisError, OSError, TimeoutError):
            return False

    argv = (str(_program(distribution)), str(settings))
    return Service(
        "redis", Command(argv, folder, environ, places.log("redis"), places.account), healthy, prepare, port=port
    )


def _program(distribution: Path) -> Path:
    """The pinned program; where this system lacks a library it needs (OpenSSL 3), one of the system's own."""
    pinned = distribution / "redis-server"
    found = (shutil.which(name) for name in ("redis-server", "valkey-server"))
    for program in (str(pinned), *found):
        if program is None:
            continue
        try:
            subprocess.run(  # noqa: S603 - our own program, no shell
                (program, "--version"), capture_output=True, timeout=20, check=True
            )
        except (OSError, subprocess.SubprocessError):
            continue
        return Path(program)
    raise LocalError(
        "Redis can't run here: it needs OpenSSL 3 (libssl.so.3): install it, or a redis-server, or set SLUICE_REDIS_URL"
    )
