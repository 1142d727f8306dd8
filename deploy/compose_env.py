"""Writes `.env` for docker-compose.yml: a fresh secret for each variable that it requires. Never overwrites one.

Standard library only, so that it runs before anything is installed. Passwords are URL-safe, because they stand in URLs.
"""

from __future__ import annotations

import base64
import os
import re
import secrets
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
_REQUIRED = re.compile(r"\$\{([A-Z_]+):\?")


def required(compose: str) -> list[str]:
    """The variables without a default in a compose file, sorted."""
    return sorted(set(_REQUIRED.findall(compose)))


def environment(names: list[str]) -> str:
    """NAME=value lines: the base64 of 32 bytes for a key, 32 URL-safe characters for a password."""
    return "".join(f"{name}={_key() if name.endswith('_KEY') else secrets.token_urlsafe(24)}\n" for name in names)


def _key() -> str:
    return base64.b64encode(secrets.token_bytes(32)).decode()


def main(folder: Path) -> int:
    """Write `.env` in `folder`; exit status 1 and one line if it is there already."""
    target = folder / ".env"
    try:
        file = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        print(f"{target} is there already and stays as it is", file=sys.stderr)  # noqa: T201  a command's output
        return 1
    with os.fdopen(file, "w") as opened:
        opened.write(environment(required((ROOT / "docker-compose.yml").read_text(encoding="utf-8"))))
    print(f"wrote {target}: keep it, the data in the volumes can't be read without it")  # noqa: T201
    return 0


if __name__ == "__main__":
    sys.exit(main(ROOT))
