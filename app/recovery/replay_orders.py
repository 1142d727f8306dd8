"""What a caller asks of a replay, checked: the same over HTTP and by command."""

from __future__ import annotations

from typing import TYPE_CHECKING

from app.errors import Fault, InvalidError
from app.recovery.replays import Order
from app.recovery.selection import Selection
from app.webhooks.addresses import AddressRefusedError, destination

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime
    from uuid import UUID

    from app.addresses import Network
    from app.recovery.replay_answers import NewReplayBody


def order_of(body: NewReplayBody, tenant_id: UUID, requested_at: datetime, allowed: Sequence[Network]) -> Order:
    """What the body orders. Of a webhook's URL the form is looked at here; where it leads, at each delivery.

    Raises:
        InvalidError: the URL may not be called.
    """
    if body.webhook_url is not None:
        try:
            destination(body.webhook_url, allowed)
        except AddressRefusedError as error:
            raise InvalidError("The body is not valid.", (Fault("/webhook_url", str(error)),)) from None
    selection = Selection(tenant_id, requested_at, body.started_at, body.ended_at, body.event_type, body.user_id)
    return Order(body.target, selection, body.events_per_second, body.webhook_url)
