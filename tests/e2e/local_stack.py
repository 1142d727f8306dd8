"""The shared system as a local stack: a folder with the stack.json that `sluice up` would have written."""

from __future__ import annotations

import json
from pathlib import Path
from urllib.parse import urlsplit

from deploy.local.stack import ApplicationPorts, described
from tests.system import MadeTenant, System


async def write_stack(system: System, folder: Path) -> MadeTenant:
    """Write `stack.json` about `system` into `folder`; its demo tenant is a fresh one, which is returned."""
    tenant = await system.tenant("demo")
    credentials = {"client_id": tenant.client_id, "client_secret": tenant.client_secret}
    stack = described(
        system.endpoints,
        {"admin": credentials, "demo": {"tenant_id": tenant.tenant_id, **credentials}},
        ApplicationPorts(api=urlsplit(system.url).port or 0),
    )
    (folder / "stack.json").write_text(json.dumps(stack))
    return tenant
