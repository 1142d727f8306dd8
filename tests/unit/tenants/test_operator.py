"""Who typed a command, as the audit log names them."""

from __future__ import annotations

import os
import pwd
from typing import TYPE_CHECKING

from tenants.audit import Actor

if TYPE_CHECKING:
    import pytest


def test_an_operator_is_the_account_that_runs_the_command_whatever_the_environment_says(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in ("LOGNAME", "USER", "LNAME", "USERNAME"):
        monkeypatch.setenv(name, "somebody-else")
    assert Actor.operator() == Actor("operator", pwd.getpwuid(os.getuid()).pw_name)
