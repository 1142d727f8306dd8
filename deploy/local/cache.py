"""The per-user cache of server distributions. Owns layout, lock and atomic publication; refuses to know any server.

A folder in it is complete or absent: it is made under another name and renamed. Its name carries the pins' digest.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import sys
import tarfile
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx

from deploy.local.download import Fetcher, Stopped
from deploy.local.errors import LocalError
from deploy.local.progress import Meter, meter
from deploy.local.trust import context

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from deploy.local.artifacts import Artifact


def default_cache(environ: Mapping[str, str], *, system: str = sys.platform) -> Path:
    """SLUICE_CACHE, else the platform's folder for caches of this user."""
    if given := environ.get("SLUICE_CACHE"):
        return Path(given).expanduser().resolve()
    home = Path(environ["HOME"]) if environ.get("HOME") else Path.home()
    if system == "darwin":
        return home / "Library" / "Caches" / "sluice"
    return Path(environ.get("XDG_CACHE_HOME") or home / ".cache") / "sluice"


def folder_of(cache: Path, artifact: Artifact) -> Path:
    """Where the artifact lies, or will lie, unpacked."""
    pins = hashlib.sha256("".join(part.sha256 for part in artifact.parts).encode()).hexdigest()
    return cache / f"{artifact.name}-{artifact.version}-{pins[:12]}"


def ensure(
    cache: Path, artifacts: Sequence[Artifact], report: Callable[[str], None], stop: threading.Event
) -> dict[str, Path]:
    """Each artifact's folder by name, downloading what is missing. No network where nothing is.

    Raises LocalError with one line for a failed download, a wrong checksum or a full disk.
    """
    folders = {artifact.name: folder_of(cache, artifact) for artifact in artifacts}
    missing = [artifact for artifact in artifacts if not folders[artifact.name].is_dir()]
    if not missing:
        return folders
    try:
        cache.mkdir(parents=True, exist_ok=True)
        with meter(report) as shown, ThreadPoolExecutor(len(missing)) as pool:
            jobs = [pool.submit(_make, folders[artifact.name], artifact, shown, stop) for artifact in missing]
            wait(jobs, return_when=FIRST_EXCEPTION)
            failed = [error for job in jobs if job.done() and (error := job.exception())]
            if failed:
                stop.set()
                raise failed[0]
    except OSError as error:
        raise LocalError(f"Can't write the cache {cache}: {error.strerror or error}") from error
    return folders


def _make(folder: Path, artifact: Artifact, shown: Meter, stop: threading.Event) -> None:
    with locked(_beside(folder, ".lock"), stop):
        if folder.is_dir():  # another first run was faster
            return
        advance = shown.begin(f"{artifact.name} {artifact.version}", artifact.size)
        building = _beside(folder, ".part")
        shutil.rmtree(building, ignore_errors=True)
        building.mkdir()
        try:
            with httpx.Client(follow_redirects=True, timeout=30, verify=context()) as client:
                fetcher = Fetcher(client, stop, advance)
                for part in artifact.parts:
                    fetcher.fetch(part, building)
            if artifact.unpack == "tarball":
                _untar(building)
            elif artifact.unpack == "program":
                (program,) = building.iterdir()
                program.rename(building / "redis-server").chmod(0o755)
            elif artifact.unpack == "tree":
                (building / "plugins").mkdir(exist_ok=True)
            open_to_all(building)
            building.rename(folder)
        finally:
            shutil.rmtree(building, ignore_errors=True)


def _beside(folder: Path, ending: str) -> Path:
    return folder.with_name(folder.name + ending)


def _untar(building: Path) -> None:
    """Unpack the archive in place and drop it and the one folder that everything in it lies in."""
    (archive,) = building.iterdir()
    with tarfile.open(archive) as tar:
        # Python has the filter from 3.11.4 on; what is unpacked has the pinned checksum either way.
        safely: dict[str, Any] = {"filter": "data"} if hasattr(tarfile, "data_filter") else {}
        tar.extractall(building, **safely)  # noqa: S202
    archive.unlink()
    (top,) = building.iterdir()
    for path in list(top.iterdir()):
        path.rename(building / path.name)
    top.rmdir()


def open_to_all(folder: Path) -> None:
    """Distributions are public: whatever the umask, the servers' account must be able to read them."""
    for path in (folder, *folder.rglob("*")):
        if not path.is_symlink():
            path.chmod(path.stat().st_mode | (0o755 if path.is_dir() else 0o644))


@contextmanager
def locked(path: Path, stop: threading.Event) -> Iterator[None]:
    """Hold the lock file; its text is never read, and the kernel frees it when a holder dies."""
    with os.fdopen(os.open(path, os.O_RDWR | os.O_CREAT, 0o600)) as file:
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if stop.wait(0.2):
                    raise Stopped from None
        yield
