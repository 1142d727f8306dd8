"""Load from the outside: machines that exchange credentials for a token and send single events, as tenants' do.

Run by `make loadtest` against the local stack of this folder; it refuses any other host. Reports what Locust sees; the
figures that the project stands by come from `make bench`.
"""

from __future__ import annotations

import itertools
import json
import os
import secrets
import time
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from locust import FastHttpUser, constant_throughput, events, task
from locust.env import Environment
from locust.exception import StopUser

LONGEST_RUN_SECONDS = 900
RENEW_BEFORE_SECONDS = 30
EVENTS_A_SECOND = 10
"""Of each user, at most."""


def read_stack() -> dict[str, Any]:
    """What `make run` wrote about the running stack."""
    path = Path(os.environ.get("SLUICE_HOME") or ".sluice") / "stack.json"
    try:
        found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise SystemExit(f"There is no {path}: start the stack with `make run` first.") from None
    return found


@events.init.add_listener  # type: ignore[untyped-decorator]  # Locust publishes no types for it
def aim(environment: Environment, **_: Any) -> None:
    """Aim at the local stack. Load is never sent anywhere else, and never without an end."""
    options = environment.parsed_options
    environment.host = environment.host or read_stack()["api"]
    if urlsplit(str(environment.host)).hostname != "127.0.0.1":
        raise SystemExit(f"{environment.host} is not this machine: load is only sent to 127.0.0.1.")
    seconds = options.run_time if options is not None else None
    if options is not None and options.headless and (not seconds or int(seconds) > LONGEST_RUN_SECONDS):
        raise SystemExit(f"Give --run-time, at most {LONGEST_RUN_SECONDS} s.")


class Sender(FastHttpUser):
    """A machine of the demo tenant that sends one event after the other."""

    wait_time = constant_throughput(EVENTS_A_SECOND)

    def on_start(self) -> None:
        self._demo = read_stack()["demo"]
        self._name = f"load-{secrets.token_hex(4)}"
        self._numbers = itertools.count()
        self._renew_at = 0.0
        self._headers: dict[str, str] = {}

    @task
    def send(self) -> None:
        """One event; a refusal by the limit is an answer as good as any, everything else is a failure."""
        if time.monotonic() >= self._renew_at:
            self._authenticate()
        event = {
            "event_type": "load.click",
            "user_id": self._name,
            "event_id": f"{self._name}-{next(self._numbers)}",
            "metadata": {"page": "/pricing", "status": 200, "text": "an event of the load test"},
        }
        with self.client.post("/api/v1/events", json=event, headers=self._headers, catch_response=True) as answer:
            if answer.status_code == 429:  # noqa: PLR2004  HTTP's own number
                answer.success()
                time.sleep(int(answer.headers.get("Retry-After", "1")))

    def _authenticate(self) -> None:
        form = {"grant_type": "client_credentials", "scope": "events:write"}
        auth = (self._demo["client_id"], self._demo["client_secret"])
        # All users are one client, which gets so many tokens a minute.
        while True:
            with self.client.post("/oauth/token", data=form, auth=auth, catch_response=True) as answer:
                if answer.status_code != 429:  # noqa: PLR2004
                    break
                answer.success()
            time.sleep(int(answer.headers.get("Retry-After", "1")))
        if answer.status_code != 200:  # noqa: PLR2004
            raise StopUser
        token = answer.json()
        self._headers = {"Authorization": f"Bearer {token['access_token']}"}
        self._renew_at = time.monotonic() + token["expires_in"] - RENEW_BEFORE_SECONDS
