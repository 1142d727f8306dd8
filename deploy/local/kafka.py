"""Kafka: one KRaft process that is broker and controller. Owns its settings, start and health; makes no topics."""

from __future__ import annotations

import base64
import uuid
from typing import TYPE_CHECKING

from aiokafka.client import AIOKafkaClient
from aiokafka.errors import KafkaError

from deploy.local.java import COMMON, java
from deploy.local.ports import free_ports
from deploy.local.processes import Command
from deploy.local.service import Service, answers, bare_environ, run_once

if TYPE_CHECKING:
    from pathlib import Path

    from deploy.local.places import Places

# 2 MiB: at the default a record of 1 MiB is refused. The cleaner's buffer is 128 MB of heap by default. The session is
# short so that a killed broker may register again soon. Smaller segments and index files: a home has many small topics.
_SETTINGS = """\
process.roles=broker,controller
node.id=1
controller.quorum.voters=1@127.0.0.1:{controller}
controller.listener.names=CONTROLLER
listeners=PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller}
advertised.listeners=PLAINTEXT://127.0.0.1:{port}
inter.broker.listener.name=PLAINTEXT
log.dirs={data}
auto.create.topics.enable=false
num.partitions=1
default.replication.factor=1
min.insync.replicas=1
offsets.topic.replication.factor=1
offsets.topic.num.partitions=8
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
transaction.state.log.num.partitions=4
share.coordinator.state.topic.replication.factor=1
share.coordinator.state.topic.min.isr=1
share.coordinator.state.topic.num.partitions=4
message.max.bytes=2097152
replica.fetch.max.bytes=2097152
socket.request.max.bytes=33554432
log.retention.hours=168
log.segment.bytes=268435456
log.index.size.max.bytes=2097152
log.cleaner.dedupe.buffer.size=8388608
group.initial.rebalance.delay.ms=0
group.min.session.timeout.ms=1000
broker.session.timeout.ms=4000
broker.heartbeat.interval.ms=500
num.network.threads=2
num.io.threads=4
background.threads=2
num.recovery.threads.per.data.dir=2
"""
_LOGGING = """\
status = error
appender.console.type = Console
appender.console.name = console
appender.console.layout.type = PatternLayout
appender.console.layout.pattern = %d{yyyy-MM-dd'T'HH:mm:ss.SSSX}{UTC} %-5p %c{1}: %m%n%throwable{6}
rootLogger.level = warn
rootLogger.appenderRef.console.ref = console
logger.server.name = kafka.server.KafkaRaftServer
logger.server.level = info
"""
_HEAP = ("-Xms96m", "-Xmx384m", "-XX:MaxMetaspaceSize=128m", "-XX:MaxDirectMemorySize=96m", "-XX:+UseSerialGC")


def service(places: Places, port: int, distribution: Path, jre: Path) -> Service:
    folder = places.folder("kafka")
    data, settings, logging = folder / "data", folder / "server.properties", folder / "log4j2.properties"

    def command(main: str, *argv: str) -> Command:
        options = (*_HEAP, *COMMON, f"-Dlog4j2.configurationFile={logging}", "-cp", f"{distribution}/*")
        return Command(
            (java(jre), *options, main, *argv), folder, bare_environ(folder), places.log("kafka"), places.account
        )

    async def prepare() -> None:
        # The controller is nobody's address: any free port does, a different one at each start.
        (controller,) = free_ports(1)
        places.write(settings, _SETTINGS.format(port=port, controller=controller, data=data))
        places.write(logging, _LOGGING)
        if not (data / "meta.properties").exists():
            step = command("kafka.tools.StorageTool", "format", "-t", _cluster_id(), "-c", str(settings))
            await run_once(step, "Kafka's storage format")

    async def healthy() -> bool:
        return await _ready(port)

    return Service("kafka", command("kafka.Kafka", str(settings)), healthy, prepare, port=port)


def _cluster_id() -> str:
    """Kafka writes its UUIDs as unpadded base64; a leading dash would read as an option."""
    while (text := base64.urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=")).startswith("-"):
        pass
    return text


async def _ready(port: int) -> bool:
    """Whether the broker is in its own metadata: it has registered and is not fenced."""
    if not await answers(port):
        return False
    client = AIOKafkaClient(bootstrap_servers=f"127.0.0.1:{port}", request_timeout_ms=2000)
    try:
        await client.bootstrap()
        return bool(client.cluster.brokers())
    except (KafkaError, OSError):
        return False
    finally:
        await client.close()
