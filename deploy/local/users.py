"""Under which account servers run and what that account can reach. Owns the choice; creates no accounts."""

from __future__ import annotations

import os
import pwd
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from deploy.local.errors import LocalError

if TYPE_CHECKING:
    from collections.abc import Mapping


@dataclass(frozen=True)
class Account:
    name: str
    uid: int
    gid: int


def service_account(environ: Mapping[str, str], uid: int) -> Account | None:
    """As root, who runs the servers: SLUICE_SERVICE_USER, else `sluice`, else `nobody`. Otherwise None: ourselves.

    PostgreSQL and Elasticsearch refuse to run as root.
    """
    if uid != 0:
        return None
    named = environ.get("SLUICE_SERVICE_USER")
    for name in (named,) if named else ("sluice", "nobody"):
        try:
            entry = pwd.getpwnam(name)
        except KeyError:
            continue
        if entry.pw_uid == 0:
            raise LocalError(f"SLUICE_SERVICE_USER={name} is root, and the servers refuse to run as root")
        return Account(entry.pw_name, entry.pw_uid, entry.pw_gid)
    raise LocalError(
        f"There is no user {named or 'nobody'} to run the servers as: set SLUICE_SERVICE_USER to an unprivileged user"
    )


def reaches(account: Account | None, path: Path) -> bool:
    """Whether the account may pass through every folder down to `path`; parts that don't exist yet will be ours."""
    if account is None:
        return True
    path = Path(os.path.abspath(path))  # noqa: PTH100 - links are followed below, one by one
    for place in dict.fromkeys((*reversed(path.parents), path, *reversed(path.resolve().parents), path.resolve())):
        try:
            status = place.stat()
        except FileNotFoundError:
            continue
        if not stat.S_ISDIR(status.st_mode):
            continue
        if status.st_uid == account.uid:
            bit = stat.S_IXUSR
        elif status.st_gid == account.gid:
            bit = stat.S_IXGRP
        else:
            bit = stat.S_IXOTH
        if not status.st_mode & bit:
            return False
    return True
