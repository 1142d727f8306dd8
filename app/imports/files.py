"""Files and standard input as content to read from its start, more than once: plain or gzip, told by their first bytes.

What can't be read twice (a pipe) is first copied to a temporary file without a name. Knows nothing about events but
that they are lines.
"""

from __future__ import annotations

import gzip
import io
import os
import shutil
import stat
import sys
import tempfile
import zlib
from contextlib import contextmanager
from hashlib import sha256
from typing import TYPE_CHECKING, BinaryIO, Self, cast

from app.imports.failures import SourceError, StoppedError
from app.imports.lines import Line, read_lines

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from _typeshed import WriteableBuffer

_GZIP_MAGIC = b"\x1f\x8b"
_CHUNK_BYTES = 2**20
_BUFFER_BYTES = 2**16  # little, so that `position` stays close to what has been sent


class _Reader(io.RawIOBase):
    """An offset of its own over a shared file descriptor, so that one open file can be read twice at once."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self.offset = 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: WriteableBuffer, /) -> int:
        view = memoryview(buffer).cast("B")
        read = os.pread(self._descriptor, len(view), self.offset)
        view[: len(read)] = read
        self.offset += len(read)
        return len(read)


class FileSource:
    """One file to import. `size` and `position`, how far it is read, are in bytes as stored."""

    def __init__(self, name: str, size: int, file: Callable[[], BinaryIO]) -> None:
        self.name = name
        self.size = size
        self.position = 0
        self._open = file

    @classmethod
    def open(cls, path: Path) -> Self:
        """`path`, `-` for standard input. Files stay closed until they are read, so that there can be many; what can't
        be read twice is copied now, which takes as long as it takes.

        Raises:
            SourceError: it can't be found or copied.
        """
        name = "standard input" if str(path) == "-" else str(path)
        with _said(name):
            if str(path) == "-":
                spool = _copied(sys.stdin.buffer)
            elif stat.S_ISREG((state := path.stat()).st_mode):
                return cls(name, state.st_size, lambda: cast("BinaryIO", path.open("rb", buffering=0)))
            else:
                with path.open("rb") as pipe:
                    spool = _copied(pipe)
            return cls(name, os.fstat(spool.fileno()).st_size, lambda: spool)

    def lines(self, stopped: Callable[[], bool]) -> Iterator[Line]:
        """Its events, in order; once only. `stopped` is asked while the whole content is read for its digest.

        Raises:
            SourceError: it can't be read to its end, or has changed so that ids made from its content no longer hold.
            StoppedError: `stopped` said so.
        """
        digest: bytes | None = None
        with _said(self.name), self._open() as file:
            before = os.fstat(file.fileno())

            def digest_of_all() -> bytes:
                nonlocal digest
                digest = digest or _sha256(file.fileno(), stopped)
                return digest

            reader = _Reader(file.fileno())
            for line in read_lines(_content(reader), self.name, digest_of_all):
                self.position = reader.offset
                yield line
            if digest and _changed(before, os.fstat(file.fileno())):
                raise SourceError(
                    f"{self.name} changed while it was imported: its lines without an event_id got ids from what it "
                    "was before, and will count again if the changed file is imported"
                )


def _content(reader: _Reader) -> BinaryIO:
    buffered = io.BufferedReader(reader, _BUFFER_BYTES)
    if buffered.peek(2)[:2] != _GZIP_MAGIC:
        return buffered
    # No buffer of ours around it: that would lose what can be read before damage.
    return cast("BinaryIO", gzip.GzipFile(fileobj=buffered))


def _sha256(descriptor: int, stopped: Callable[[], bool]) -> bytes:
    content = _content(_Reader(descriptor))
    digest = sha256()
    while chunk := content.read(_CHUNK_BYTES):
        if stopped():
            raise StoppedError
        digest.update(chunk)
    return digest.digest()


def _copied(stream: BinaryIO) -> BinaryIO:
    spool = cast("BinaryIO", tempfile.TemporaryFile(prefix="sluice-import-"))  # noqa: SIM115  closed after reading
    try:
        shutil.copyfileobj(stream, spool, _CHUNK_BYTES)
        spool.flush()
    except BaseException:  # Ctrl-C too: the temporary file goes; then it is raised on
        spool.close()
        raise
    return spool


def _changed(before: os.stat_result, after: os.stat_result) -> bool:
    return (before.st_size, before.st_mtime_ns) != (after.st_size, after.st_mtime_ns)


@contextmanager
def _said(name: str) -> Iterator[None]:
    try:
        yield
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise SourceError(f"{name}: the gzip data is damaged or ends too early ({error})") from error
    except OSError as error:
        raise SourceError(f"{name}: {error.strerror or error}") from error
