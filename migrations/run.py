"""`sluice migrate`: roles, then tables, then the Kafka topics and the search template. Safe to run again.

Owns the order. What each server needs is said by the module that uses it.
"""

from __future__ import annotations

from pathlib import Path

import asyncpg
from alembic import command
from alembic.config import Config
from sqlalchemy import Connection, text
from sqlalchemy.ext.asyncio import create_async_engine

from app.settings import MigrationSettings
from migrations.roles import OWNER, ensure_roles
from search.client import make_client
from search.mapping import ensure_template
from workers.topic import ensure_topics


async def migrate_all(settings: MigrationSettings) -> dict[str, str]:
    """Bring all three servers up to date; returns what each now has, by name."""
    revision = await migrate_postgres(settings)
    topics = (settings.raw_topic, settings.dead_letter_topic, settings.replay_topic)
    made = await ensure_topics(
        settings.kafka_bootstrap,
        topics,
        partitions=settings.topic_partitions,
        replication=settings.topic_replication,
    )
    client = make_client(settings.elasticsearch_url.get_secret_value())
    try:
        await ensure_template(
            client, settings.index_prefix, shards=settings.index_shards, replicas=settings.index_replicas
        )
    finally:
        await client.close()
    return {
        "postgres": f"revision {revision}",
        "kafka": ", ".join(f"topic {topic} {'made' if topic in made else 'exists'}" for topic in topics),
        "elasticsearch": f"template {settings.index_prefix}",
    }


async def migrate_postgres(settings: MigrationSettings, revision: str = "head") -> str:
    """Bring roles up to date, and tables to `revision` if they are behind it; returns the schema's revision."""
    url = settings.postgres_url.get_secret_value()
    connection = await asyncpg.connect(url, timeout=10)
    try:
        await ensure_roles(
            connection,
            {
                "sluice_app": settings.postgres_app_url.get_secret_value(),
                "sluice_worker": settings.postgres_worker_url.get_secret_value(),
                "sluice_auth": settings.postgres_auth_url.get_secret_value(),
            },
        )
    finally:
        await connection.close()
    engine = create_async_engine(url.replace("postgresql://", "postgresql+asyncpg://", 1))
    try:
        async with engine.connect() as upgrading:
            # Two migrations at once: the second waits here, then finds nothing to do.
            await upgrading.execute(text("select pg_advisory_lock(hashtext('sluice migrate'))"))
            await upgrading.execute(text(f"set role {OWNER}"))
            await upgrading.commit()
            await upgrading.run_sync(_upgrade, revision)
            reached = await upgrading.scalar(text("select version_num from alembic_version"))
    finally:
        await engine.dispose()
    return str(reached)


def _upgrade(connection: Connection, revision: str) -> None:
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent))
    config.attributes["connection"] = connection
    command.upgrade(config, revision)
