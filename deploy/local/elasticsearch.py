"""Elasticsearch: its configuration, start through its own launcher, and health. Owns no index and no template."""

from __future__ import annotations

import os
import socket
from typing import TYPE_CHECKING

import httpx

from deploy.local.java import COMMON, java
from deploy.local.processes import Command
from deploy.local.service import Service, bare_environ

if TYPE_CHECKING:
    from pathlib import Path

    from deploy.local.places import Places

_SETTINGS = """\
cluster.name: sluice
node.name: local
discovery.type: single-node
network.host: 127.0.0.1
http.port: {port}
transport.port: 0
path.data: {folder}/data
path.logs: {folder}/logs
path.repo: {folder}/snapshots
xpack.security.enabled: false
cluster.routing.allocation.disk.threshold_enabled: false
# Tests make an index or two each.
cluster.max_shards_per_node: 5000
"""
_JVM = """\
-XX:+UseG1GC
-Djava.io.tmpdir=${ES_TMPDIR}
"""
_LOGGING = """\
status = error
appender.console.type = Console
appender.console.name = console
appender.console.layout.type = PatternLayout
appender.console.layout.pattern = %d{yyyy-MM-dd'T'HH:mm:ss.SSSX}{UTC} %-5p %c{1}: %m%n%throwable{6}
rootLogger.level = warn
rootLogger.appenderRef.console.ref = console
logger.node.name = org.elasticsearch.node.Node
logger.node.level = info
"""


def service(places: Places, port: int, distribution: Path, jre: Path) -> Service:
    folder = places.folder("elasticsearch")
    config, temporary = folder / "config", folder / "tmp"
    launcher = (
        java(jre),
        "-Xms4m",
        "-Xmx64m",
        "-XX:+UseSerialGC",
        "-XX:TieredStopAtLevel=1",
        "-XX:-UsePerfData",
        "-Dcli.name=server",
        f"-Dcli.script={distribution}/bin/elasticsearch",
        "-Dcli.libs=lib/tools/server-cli",
        f"-Des.path.home={distribution}",
        f"-Des.path.conf={config}",
        "-Des.distribution.type=tar",
        "-Des.java.type=ES_JAVA_HOME",
        "-cp",
        f"{distribution}/lib/*:{distribution}/lib/cli-launcher/*",
        "org.elasticsearch.launcher.CliToolLauncher",
    )
    environ = {
        **bare_environ(folder),
        "ES_JAVA_HOME": str((jre / "Contents" / "Home") if (jre / "Contents").exists() else jre),
        "ES_JAVA_OPTS": " ".join(("-Xms512m", "-Xmx512m", "-XX:-AlwaysPreTouch", *COMMON, *_compiler())),
        "ES_TMPDIR": str(temporary),
        "HOSTNAME": socket.gethostname(),
    }

    async def prepare() -> None:
        for made in (config, temporary, folder / "data", folder / "logs", folder / "snapshots"):
            made.mkdir(exist_ok=True)
            places.hand_over(made, 0o700)
        places.write(config / "elasticsearch.yml", _SETTINGS.format(port=port, folder=folder))
        places.write(config / "jvm.options", _JVM)
        places.write(config / "log4j2.properties", _LOGGING)

    async def healthy() -> bool:
        try:
            async with httpx.AsyncClient(timeout=3, trust_env=False) as client:
                answer = await client.get(f"http://127.0.0.1:{port}/_cluster/health", params={"timeout": "1s"})
                return answer.is_success and answer.json()["status"] in ("green", "yellow")
        except (httpx.HTTPError, ValueError, KeyError):
            return False

    # The launcher takes cli.libs and more from its working folder.
    command = Command(launcher, distribution, environ, places.log("elasticsearch"), places.account)
    return Service("elasticsearch", command, healthy, prepare, port=port)


def _compiler() -> tuple[str, ...]:
    """The first compiler tier starts fast and keeps small; where indexing speed is measured, all tiers."""
    return () if os.environ.get("SLUICE_ES_FULL_JIT") == "1" else ("-XX:TieredStopAtLevel=1",)
