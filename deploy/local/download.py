"""Fetching parts of artifacts over HTTP, each checked against its pin.

Owns no choice of what is needed and no cache layout. Runs in threads; `stop` ends a transfer between two chunks.
"""

from __future__ import annotations

import hashlib
import re
import struct
import zipfile
import zlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import httpx

from deploy.local.artifacts import Jar, Member, Tree
from deploy.local.errors import LocalError
from deploy.local.trust import session

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable, Iterator
    from pathlib import Path

_ATTEMPTS = 3
_LOCAL_HEADER = struct.Struct("<26xHH")
# Start scripts of Windows: nothing here runs there.
_LEFT_OUT = (".bat", ".exe")


class Stopped(Exception):  # noqa: N818 - not an error: the person asked for it
    """The transfer was ended on request."""


@dataclass
class Fetcher:
    """One HTTP client and where the bytes are counted. `advance` is called with each chunk's length."""

    client: httpx.Client
    stop: threading.Event
    advance: Callable[[int], None] = field(default=lambda _count: None)

    def fetch(self, part: Jar | Member | Tree, folder: Path) -> None:
        """Put one part below `folder`. Raises LocalError where it can't be had or isn't what was pinned."""
        if isinstance(part, Jar):
            self._jar(part, folder)
        elif isinstance(part, Member):
            self._member(part, folder)
        else:
            self._tree(part, folder)

    def _jar(self, part: Jar, folder: Path) -> None:
        url = address(f"{part.coordinate}:jar")
        path = folder / url.rsplit("/", 1)[1]
        digest = hashlib.sha256()
        with path.open("wb") as out:
            for chunk in self._bytes(url, None):
                digest.update(chunk)
                out.write(chunk)
        _check(part.coordinate, digest.hexdigest(), part.sha256)

    def _member(self, part: Member, folder: Path) -> None:
        url = address(part.archive)
        (info,) = (info for info in self._index(url) if info.filename == part.name)
        path = folder / part.name.rsplit("/", 1)[-1]
        self._unpack(url, [info], lambda _info: path)
        _check(part.name, _sha256(path), part.sha256)

    def _tree(self, part: Tree, folder: Path) -> None:
        url = address(part.archive)
        infos = [
            info
            for info in self._index(url)
            if info.filename.startswith(part.prefix) and not info.is_dir() and not info.filename.endswith(_LEFT_OUT)
        ]
        paths = {info.filename: folder / info.filename.removeprefix(part.prefix) for info in infos}
        for path in paths.values():
            if not path.resolve().is_relative_to(folder.resolve()):
                raise LocalError(f"{part.archive} names a file outside its folder: {path}")
            path.parent.mkdir(parents=True, exist_ok=True)
        self._unpack(url, infos, lambda info: paths[info.filename])
        _check(part.prefix, tree_digest(folder), part.sha256)

    def _index(self, url: str) -> list[zipfile.ZipInfo]:
        from remotezip import RemoteIOError, RemoteZip  # noqa: PLC0415 - a second start needs none of it

        try:
            with RemoteZip(url, timeout=30, session=session()) as archive:
                return sorted(archive.infolist(), key=lambda info: info.header_offset)
        except (RemoteIOError, OSError, zipfile.BadZipFile) as error:
            raise _unreachable(url, error) from error

    def _unpack(self, url: str, infos: list[zipfile.ZipInfo], place: Callable[[zipfile.ZipInfo], Path]) -> None:
        """The members lie side by side: one request over their span instead of one for each."""
        start = infos[0].header_offset
        last = infos[-1]
        # A local header is at most 30 bytes, its name and an extra field that the index doesn't tell: allow for it.
        end = last.header_offset + 30 + len(last.filename.encode()) + 1024 + last.compress_size
        stream = _Stream(self._bytes(url, (start, end)), start)
        for info in infos:
            stream.skip_to(info.header_offset)
            name_length, extra_length = _LOCAL_HEADER.unpack(stream.read(30))
            stream.read(name_length + extra_length)
            _inflate(stream, info, place(info))

    def _bytes(self, url: str, span: tuple[int, int] | None) -> Iterator[bytes]:
        """Chunks of the file (of bytes start to end of it). A broken transfer goes on where it stopped."""
        offset, end = span or (0, None)
        for attempt in range(1, _ATTEMPTS + 1):
            headers = (
                {} if span is None and offset == 0 else {"Range": f"bytes={offset}-{'' if end is None else end - 1}"}
            )
            try:
                with self.client.stream("GET", url, headers=headers) as answer:
                    answer.raise_for_status()
                    if headers and answer.status_code != httpx.codes.PARTIAL_CONTENT:
                        raise LocalError(f"The server of {url.rsplit('/', 1)[1]} doesn't answer range requests")
                    for chunk in answer.iter_bytes(1 << 16):
                        if self.stop.is_set():
                            raise Stopped
                        offset += len(chunk)
                        self.advance(len(chunk))
                        yield chunk
            except httpx.HTTPError as error:
                gone = isinstance(error, httpx.HTTPStatusError) and error.response.status_code < 500  # noqa: PLR2004
                if gone or attempt == _ATTEMPTS:
                    raise _unreachable(url, error) from error
                self.stop.wait(attempt)
            else:
                return


class _Stream:
    """Reads forward only through chunks that begin at `position` of a larger file."""

    def __init__(self, chunks: Iterator[bytes], position: int) -> None:
        self._chunks = chunks
        self._buffer = bytearray()
        self._position = position

    def read(self, count: int) -> bytes:
        while len(self._buffer) < count:
            chunk = next(self._chunks, b"")
            if not chunk:
                raise LocalError("A download ended too early: start again")
            self._buffer += chunk
        taken = bytes(self._buffer[:count])
        del self._buffer[:count]
        self._position += count
        return taken

    def skip_to(self, position: int) -> None:
        while self._position < position:
            self.read(min(1 << 16, position - self._position))


def _inflate(stream: _Stream, info: zipfile.ZipInfo, path: Path) -> None:
    raw = info.compress_type == zipfile.ZIP_STORED
    inflater = zlib.decompressobj(-zlib.MAX_WBITS)
    left, crc = info.compress_size, 0
    with path.open("wb") as out:
        while left:
            packed = stream.read(min(1 << 16, left))
            left -= len(packed)
            plain = packed if raw else inflater.decompress(packed)
            crc = zlib.crc32(plain, crc)
            out.write(plain)
        tail = inflater.flush()
        crc = zlib.crc32(tail, crc)
        out.write(tail)
    if crc != info.CRC:
        raise LocalError(f"{info.filename} arrived damaged (its checksum is wrong): start again")


def address(coordinate: str) -> str:
    """Where `group:artifact:version:extension` is, in the resolver library's own default repository."""
    from jgo.constants import MAVEN_CENTRAL_URL  # noqa: PLC0415 - a second start needs none of it

    group, artifact, version, extension = coordinate.split(":")
    return f"{MAVEN_CENTRAL_URL}/{group.replace('.', '/')}/{artifact}/{version}/{artifact}-{version}.{extension}"


def tree_digest(folder: Path) -> str:
    """SHA-256 over the sorted lines "<sha256>  <path>" of every file below the folder."""
    paths = sorted(path for path in folder.rglob("*") if path.is_file())
    lines = (f"{_sha256(path)}  {path.relative_to(folder).as_posix()}\n" for path in paths)
    return hashlib.sha256("".join(sorted(lines)).encode()).hexdigest()


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _check(what: str, found: str, pinned: str) -> None:
    if found != pinned:
        raise LocalError(f"{what} isn't what was pinned: its SHA-256 is {found}, not {pinned}")


def _unreachable(url: str, error: Exception) -> LocalError:
    # The innermost reason says it best ("Connection refused"); the layers around it repeat addresses.
    reason = re.split(r"Caused by |: ", str(error).strip("()'\""))[-1].splitlines() or [type(error).__name__]
    return LocalError(
        f"Can't download {url.rsplit('/', 1)[1]}: {reason[0].strip(chr(34) + chr(39) + ')')[:200]}."
        " Check the network or proxy, then start again"
    )
