"""Where replayed events go: search index, Kafka topic, webhook. Each sends one page and says what became of it.

Owns what a fault of each target means. Refuses to read events, to wait and to keep positions.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

from aiokafka.errors import KafkaError

from app.events.record import partition_key, shard_of
from app.events.replayed import message, piece, records
from app.recovery.replays import bound_to
from app.webhooks.delivery import Message as Signed
from app.webhooks.delivery import NotDeliveredError
from app.webhooks.signing import SecretUnreadableError, unseal
from search.bulk import bulk_write
from search.client import IndexUnavailable
from workers.sender import Message

if TYPE_CHECKING:
    from collections.abc import Sequence

    from elasticsearch import AsyncElasticsearch
    from sqlalchemy import RowMapping

    from app.recovery.replays import Replay
    from app.webhooks.delivery import Deliveries
    from workers.replay_claims import Claim
    from workers.sender import Sender

MOST_REFUSALS = 5
"""A webhook that answers so often in a row that it won't is believed."""


class HinderedError(Exception):
    """The target can't take it now; the text is for the tenant. `wait_seconds`: it asked for so much patience."""

    def __init__(self, problem: str, wait_seconds: float = 0.0) -> None:
        super().__init__(problem)
        self.wait_seconds = wait_seconds


class FailedError(Exception):
    """The target never will; the text is for the tenant."""


async def to_index(client: AsyncElasticsearch, index_prefix: str, rows: Sequence[RowMapping]) -> tuple[int, str | None]:
    """Write the documents again, each over itself. How many can't be indexed, and why the first of them.

    Raises:
        HinderedError: Elasticsearch can't now.
    """
    try:
        outcome = await bulk_write(client, index_prefix, rows)
    except IndexUnavailable:
        raise HinderedError("The search index does not answer.") from None
    if outcome.retriable:
        raise HinderedError("The search index can't take more now.")
    if not outcome.refused:
        return 0, None
    row, reason = outcome.refused[0]
    return len(outcome.refused), f"The search index can't take the event {row['event_id']}: {reason}"


async def to_topic(sender: Sender, topic: str, replay: Replay, shards: int, rows: Sequence[RowMapping]) -> int:
    """Send records with the keys that the events had. How many events Kafka can't take.

    Raises:
        HinderedError: not all are on all in-sync replicas in time. Some may be there.
    """
    by_shard: dict[int, list[RowMapping]] = {}
    for row in rows:
        by_shard.setdefault(shard_of(row["user_id"], shards), []).append(row)
    messages = [
        Message(partition_key(replay.tenant_id, shard, shards), value)
        for shard, theirs in sorted(by_shard.items())
        for value in records(replay.tenant_id, replay.replay_id, map(piece, theirs))
    ]
    try:
        taken = await sender.send(topic, messages)
    except (KafkaError, OSError, TimeoutError):
        raise HinderedError("Kafka does not answer.") from None
    # Records hold many small events or a single large one, so one that is too large is one event.
    return taken.count(False)


async def to_webhook(
    deliveries: Deliveries, key_encryption_key: bytes, claimed: Claim, rows: Sequence[RowMapping]
) -> None:
    """One signed message. Sent again after a fault it has the same id.

    Raises:
        HinderedError: the webhook does not take it now.
        FailedError: it never will.
    """
    replay = claimed.replay
    try:
        secret = unseal(key_encryption_key, claimed.sealed or b"", bound_to(replay.tenant_id, replay.replay_id))
    except SecretUnreadableError as error:
        raise HinderedError(str(error)) from None
    body = message(replay.tenant_id, replay.replay_id, datetime.now(UTC), [piece(row) for row in rows])
    try:
        await deliveries.deliver(
            replay.order.webhook_url or "", secret, Signed(f"msg_{replay.replay_id.hex}_{replay.sent}", body)
        )
    except NotDeliveredError as error:
        if error.final or (error.refused and replay.attempts + 1 >= MOST_REFUSALS):
            raise FailedError(str(error)) from None
        raise HinderedError(str(error), error.wait_seconds) from None
