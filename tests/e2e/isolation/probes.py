"""What a scenario is made of: probes, and values that some syntax somewhere gives a meaning to."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from tests.e2e.isolation.names import Names
from tests.system import MadeTenant

Probe = tuple[str, str, dict[str, Any]]
"""Method, path, and what httpx is told further."""

Scenario = Callable[[Names, MadeTenant], Iterator[Probe]]
"""Probes that use these names, by this stranger, whose token they are sent with."""

HOSTILE = (
    '" OR *', "*", "*:*", "tenant_id:*", '{"match_all":{}}', "') OR 1=1 --", "\\", "a AND b", "_exists_:x", "/.*/",
    '"}}],"should":[{"match_all":{}}', "{!all}", "%00", "..", "\u202e",
)  # fmt: skip


def whose(names: Names) -> tuple[tuple[str, str], ...]:
    """Members that would say whose something is, if the token didn't."""
    return ("tenant_id", names.tenant_id), ("tenantId", names.tenant_id), ("client_id", names.client_id)
