"""Generated secrets of one home, kept in one 0600 file. Owns their making and keeping; prints none."""

from __future__ import annotations

import base64
import json
import os
import secrets
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable


def write_private(path: Path, text: str) -> None:
    """Replace the file at once, readable by its owner only."""
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")  # mkstemp's mode is 0600
    temporary = Path(name)
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:  # however the write ended, no half-written secret stays; then it is raised on
        temporary.unlink(missing_ok=True)
        raise


class Secrets:
    """Named secrets in `secrets.json` of the home; each is made when first asked for and stays."""

    def __init__(self, home: Path) -> None:
        self._path = home / "secrets.json"

    def passwords(self, names: Iterable[str]) -> dict[str, str]:
        """Passwords that need no escaping in a URL."""
        return self._take({name: secrets.token_urlsafe(24) for name in names})

    def keys(self, names: Iterable[str]) -> dict[str, str]:
        """Base64 of 32 random bytes each."""
        return self._take({name: base64.b64encode(secrets.token_bytes(32)).decode() for name in names})

    def _take(self, fresh: dict[str, str]) -> dict[str, str]:
        kept: dict[str, str] = json.loads(self._path.read_text(encoding="utf-8")) if self._path.exists() else {}
        merged = {**fresh, **kept}
        if merged != kept:
            write_private(self._path, json.dumps(merged, indent=1))
        return {name: merged[name] for name in fresh}
