"""One runner a home. Owns the lock, whose text says who holds it; the kernel frees it when the holder dies."""

from __future__ import annotations

import fcntl
import json
import os
import time
from typing import TYPE_CHECKING, Self

from deploy.local.errors import LocalError
from deploy.local.processes import Record

if TYPE_CHECKING:
    from io import TextIOWrapper
    from pathlib import Path

_DYING_SECONDS = 0.5


class HomeLock:
    def __init__(self, file: TextIOWrapper) -> None:
        self._file = file

    @classmethod
    def take(cls, home: Path) -> Self:
        """Raises LocalError where somebody holds it."""
        path = home / "lock"
        try:
            file = os.fdopen(os.open(path, os.O_RDWR | os.O_CREAT, 0o600), "r+", encoding="ascii")
        except OSError as error:
            raise LocalError(f"Can't write {path}: {error.strerror}") from error
        try:
            _lock(file)
            file.truncate()
            file.write(json.dumps(vars(Record.of("runner", os.getpid()))))
            file.flush()
        except BlockingIOError:
            file.close()
            other = holder(home)
            who = f" (process {other.pid})" if other else ""
            raise LocalError(
                f"A stack already runs in {home}{who}: see `sluice status`, or stop it with `sluice down`"
            ) from None
        except OSError as error:
            file.close()
            raise LocalError(f"Can't write {path}: {error.strerror}") from error
        return cls(file)

    def free(self) -> None:
        self._file.close()


def _lock(file: TextIOWrapper) -> None:
    """A holder that was killed a moment ago is still being taken apart: wait for that, not for a living one."""
    deadline = time.monotonic() + _DYING_SECONDS
    while True:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.05)
        else:
            return


def holder(home: Path) -> Record | None:
    """The runner of this home, if it lives."""
    try:
        record = Record(**json.loads((home / "lock").read_text(encoding="ascii")))
    except (OSError, ValueError, TypeError):
        return None
    return record if record.alive() else None
