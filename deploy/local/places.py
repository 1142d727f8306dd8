"""Where everything of one local stack lies. Owns paths and file modes; refuses to know what is written there.

As root the servers run under an unprivileged account, which must be able to reach their folders. Where the home (or
the cache) is closed to it, a folder keyed by the home's path stands in, and `moved` says so.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from deploy.local.cache import default_cache
from deploy.local.errors import LocalError
from deploy.local.users import reaches

if TYPE_CHECKING:
    from collections.abc import Mapping

    from deploy.local.users import Account

_SYSTEM_STATE = Path("/var/lib")


@dataclass(frozen=True)
class Places:
    """`home` is the runner's; `servers` holds one folder a server; `cache` the distributions."""

    home: Path
    servers: Path
    cache: Path
    account: Account | None
    moved: tuple[str, ...]

    @property
    def logs(self) -> Path:
        return self.home / "logs"

    def log(self, name: str) -> Path:
        return self.logs / f"{name}.log"

    def folder(self, name: str) -> Path:
        """A server's own folder, there and owned by its account."""
        folder = self.servers / name
        folder.mkdir(parents=True, exist_ok=True)
        self.hand_over(folder, 0o700)
        return folder

    def hand_over(self, path: Path, mode: int) -> None:
        path.chmod(mode)
        if self.account:
            os.chown(path, self.account.uid, self.account.gid)

    def write(self, path: Path, text: str) -> Path:
        """A file that only the servers' account reads: it may hold a password."""
        path.touch(0o600)
        path.write_text(text, encoding="utf-8")
        self.hand_over(path, 0o600)
        return path


def settle(home: Path, environ: Mapping[str, str], account: Account | None) -> Places:
    """Where servers and distributions lie; looks, but makes nothing."""
    home = home.expanduser().resolve()
    servers, cache, moved = home / "servers", default_cache(environ), []
    # The home's own mode is set by `arrange`; what is above it isn't ours.
    if account and not reaches(account, home.parent):
        servers = _stand_in(environ) / _key(home)
        moved.append(f"data is in {servers}, because {account.name} can't reach {home}")
    if account and not reaches(account, cache):
        closed, cache = cache, _stand_in(environ) / "cache"
        moved.append(f"distributions are in {cache}, because {account.name} can't reach {closed}")
    return Places(home, servers, cache, account, tuple(moved))


def arrange(home: Path, environ: Mapping[str, str], account: Account | None) -> Places:
    """Settle, and make the folders. Raises LocalError where they can't be written."""
    places = settle(home, environ, account)
    try:
        places.logs.mkdir(parents=True, exist_ok=True)
        if places.moved:
            _make_stand_in(environ)
        places.servers.mkdir(parents=True, exist_ok=True)
        # Passing through is enough for the servers' account; what is secret in here has a mode of its own.
        for folder in (places.home, places.servers):
            folder.chmod(0o711 if account else 0o700)
        places.logs.chmod(0o700)
    except OSError as error:
        raise LocalError(f"Can't write {error.filename or home}: {error.strerror}") from error
    return places


def _key(home: Path) -> str:
    """Readable and different for each home."""
    return f"{home.name.lstrip('.') or 'home'}-{hashlib.sha256(str(home).encode()).hexdigest()[:12]}"


def _stand_in(environ: Mapping[str, str]) -> Path:
    """A folder that every account can reach."""
    base = _SYSTEM_STATE if os.access(_SYSTEM_STATE, os.W_OK) else Path(environ.get("TMPDIR") or tempfile.gettempdir())
    return base / "sluice"


def _make_stand_in(environ: Mapping[str, str]) -> None:
    folder = _stand_in(environ)
    folder.mkdir(mode=0o755, exist_ok=True)
    if folder.is_symlink() or folder.stat().st_uid != os.geteuid():
        raise LocalError(f"{folder} belongs to somebody else: set SLUICE_HOME to a folder that every user can reach")
    folder.chmod(0o755)


def copy_tree(source: Path, target: Path) -> Path:
    """A complete copy or none: for distributions that lie where the servers' account can't reach."""
    if not target.is_dir():
        target.parent.mkdir(parents=True, exist_ok=True)
        building = Path(tempfile.mkdtemp(dir=target.parent, prefix=f"{target.name}."))
        try:
            shutil.copytree(source, building / "tree", symlinks=True)
            (building / "tree").rename(target)
        except FileExistsError:  # another start was faster
            pass
        finally:
            shutil.rmtree(building, ignore_errors=True)
    return target
