"""The four real servers from one home: started without a network, broken on purpose, stopped.

One home for the whole file, because a start costs a quarter of a minute.
"""

from __future__ import annotations

import asyncio
import json
import os
import resource
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import asyncpg
import httpx
import psutil
import pytest
from redis.asyncio import Redis

from deploy.local.errors import LocalError
from deploy.local.ports import Ports, is_free
from deploy.local.servers import NAMES, Endpoints, Given, LocalServers

GIB = 1 << 30
RUNNER = """
import asyncio, json, sys
from pathlib import Path
from typing import Any
from deploy.local.errors import LocalError
from deploy.local.ports import Ports
from deploy.local.servers import LocalServers

async def run():
    servers = LocalServers(Path(sys.argv[1]), ports=Ports(**json.loads(sys.argv[2])), report=lambda line: None)
    print(json.dumps(vars(await servers.start())), flush=True)
    await asyncio.Event().wait()

try:
    asyncio.run(run())
except LocalError as error:
    print(error, flush=True)
    sys.exit(1)
"""

pytestmark = pytest.mark.usefixtures("endpoints")  # whoever started those has filled the cache


async def until(true: Callable[[], bool], seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline
        await asyncio.sleep(0.1)


def refusing_proxy() -> dict[str, str]:
    """The environment of a machine whose only way out is closed."""
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        nobody = f"http://127.0.0.1:{unused.getsockname()[1]}"
    return dict.fromkeys(("HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy", "ALL_PROXY"), nobody)


class Home:
    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.ports = Ports.free()
        self.said: list[str] = []
        self.servers = LocalServers(folder, ports=self.ports, report=self.said.append)

    def runner(self, environ: dict[str, str] | None = None, **options: Any) -> subprocess.Popen[str]:
        process: subprocess.Popen[str] = subprocess.Popen(
            [sys.executable, "-c", RUNNER, str(self.folder), json.dumps(asdict(self.ports))],
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, **(environ or {})},
            **options,
        )
        return process


@pytest.fixture(scope="module")
async def home(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Home]:
    home = Home(tmp_path_factory.mktemp("local") / "home")
    yield home
    await home.servers.discard()


@pytest.fixture
async def other(tmp_path: Path) -> AsyncIterator[Home]:
    """One more home, for starts that fail or need little."""
    home = Home(tmp_path / "home")
    yield home
    await home.servers.discard()


@pytest.fixture(scope="module")
async def started(home: Home) -> AsyncIterator[Endpoints]:
    """Servers that were started where no network is: whoever ran before has filled the cache."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in refusing_proxy().items():
            patch.setenv(name, value)
        yield await home.servers.start()
    await home.servers.stop()


async def test_with_a_filled_cache_a_new_home_starts_without_any_network(started: Endpoints) -> None:
    connection = await asyncpg.connect(started.postgres_url)
    assert await connection.fetchval("select current_setting('fsync')") == "on"
    assert await connection.fetchval("select current_database()") == "sluice"
    await connection.close()


async def test_all_four_together_stay_below_3_gib_at_rest(home: Home, started: Endpoints) -> None:
    del started

    assert home.servers.resident_bytes() < 3 * GIB


async def test_servers_don_t_run_as_root(home: Home, started: Endpoints) -> None:
    del started

    assert all(psutil.Process(home.servers.pid(name)).uids().real != 0 for name in NAMES)


async def test_each_server_is_in_a_session_of_its_own_so_that_ctrl_c_passes_it_by(
    home: Home, started: Endpoints
) -> None:
    del started

    assert len({os.getsid(home.servers.pid(name)) for name in NAMES} | {os.getsid(0)}) == 5


async def test_without_the_password_nobody_gets_in(started: Endpoints) -> None:
    with pytest.raises(asyncpg.InvalidPasswordError):
        await asyncpg.connect(started.postgres_url.replace("postgres:", "postgres:x"))


async def test_a_second_start_in_the_same_home_is_refused_with_one_line(home: Home, started: Endpoints) -> None:
    del started

    with pytest.raises(LocalError, match=f"already runs in .*process {os.getpid()}"):
        await LocalServers(home.folder, ports=Ports.free(), report=print).start()


async def test_a_busy_port_is_refused_with_one_line(home: Home, other: Home, started: Endpoints) -> None:
    del started

    with pytest.raises(LocalError, match=f"Port {home.ports.postgres} for postgres is taken"):
        await LocalServers(other.folder, ports=home.ports, report=print).start()


async def test_killed_servers_are_started_again_with_their_data(home: Home, started: Endpoints) -> None:
    connection = await asyncpg.connect(started.postgres_url)
    await connection.execute("create table kept as select 42 as answer")
    await connection.close()
    killed = {name: home.servers.pid(name) for name in ("postgres", "redis", "kafka")}
    for pid in killed.values():
        os.kill(pid, signal.SIGKILL)

    await until(lambda: sum("healthy again" in line for line in home.said) == len(killed), 60)
    assert all(home.servers.pid(name) != pid for name, pid in killed.items())
    connection = await asyncpg.connect(started.postgres_url)
    assert await connection.fetchval("select answer from kept") == 42
    await connection.close()


async def test_one_server_can_be_taken_away_and_brought_back(home: Home, started: Endpoints) -> None:
    async with Redis.from_url(started.redis_url) as client:
        await client.set("bucket", "full")
    await home.servers.stop_server("redis")
    assert is_free(home.ports.redis)

    await home.servers.start_server("redis")
    async with Redis.from_url(started.redis_url) as client:
        assert await client.get("bucket") == b"full"


@pytest.fixture
def empty_cache() -> Iterator[Path]:
    """Not below pytest's own folders: those are closed to the servers' account, whose cache is elsewhere and filled."""
    with tempfile.TemporaryDirectory() as name:
        Path(name).chmod(0o755)
        yield Path(name) / "cache"


def _small_files() -> None:
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, 1 << 20))


@pytest.mark.parametrize(
    ("case", "expected"), [("full disk", ("File too large", "initdb")), ("no way to download", ("Can't download",))]
)
async def test_a_first_start_that_can_t_work_says_why_in_one_line_and_leaves_nothing(
    case: str, expected: tuple[str, ...], other: Home, empty_cache: Path
) -> None:
    if case == "full disk":
        runner = other.runner(preexec_fn=_small_files)
    else:
        runner = other.runner({**refusing_proxy(), "SLUICE_CACHE": str(empty_cache)})

    with runner:
        try:
            said = (await asyncio.to_thread(runner.communicate, timeout=90))[0]
        finally:
            runner.kill()

    assert runner.returncode == 1
    assert said.count("\n") == 1
    assert any(word in said for word in expected)
    assert "Traceback" not in said
    assert all(is_free(port) for port in asdict(other.ports).values())


async def test_a_given_server_is_used_and_not_started(other: Home, endpoints: Endpoints) -> None:
    given = Given(endpoints.postgres_url, None, endpoints.kafka_bootstrap, endpoints.elasticsearch_url)
    servers = LocalServers(other.folder, ports=other.ports, given=given, report=print)
    try:
        found = await servers.start()
        assert found.postgres_url == endpoints.postgres_url
        assert servers.supervisor.running() == ["redis"]
        async with Redis.from_url(found.redis_url) as client:
            assert await client.ping()
    finally:
        await servers.stop()


async def test_a_stop_leaves_no_process_and_takes_less_than_20_seconds(home: Home, started: Endpoints) -> None:
    async with httpx.AsyncClient(trust_env=False) as client:
        assert (await client.get(started.elasticsearch_url)).is_success
    sessions = [home.servers.supervisor.record(name).pid for name in NAMES]
    asked = time.monotonic()

    await home.servers.stop()

    assert time.monotonic() - asked < 20
    assert all(is_free(port) for port in asdict(home.ports).values())
    assert not [pid for pid in sessions if psutil.pid_exists(pid)]
