"""A git repository's history as events: one a commit reachable from HEAD, the latest first.

`event_id` is the commit's hash, so importing a grown history adds only what is new. Authors' addresses are not
sent: `user_id` is the start of a hash of them. Reads through the git command, as a stream.
"""

from __future__ import annotations

import os
import re
import subprocess
import tempfile
from hashlib import sha256
from typing import TYPE_CHECKING, BinaryIO, cast

import msgspec

from app.imports.failures import SourceError
from app.imports.lines import Line, Where

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

# Conventional Commits 1.0.0; the kinds are those of commitlint's config-conventional. Others would give each
# author's spelling a type of its own.
_KINDS = ("build", "chore", "ci", "docs", "feat", "fix", "perf", "refactor", "revert", "style", "test")
_SUBJECT = re.compile(rf"({'|'.join(_KINDS)})(\([^()]*\))?!?: ", re.IGNORECASE)

_FIELDS = ("%H", "%P", "%ae", "%aI", "%s", "%b")
_LOG = (
    *("log", "-z", f"--format=tformat:{'%x00'.join(_FIELDS)}", "--encoding=UTF-8"),
    *("--no-patch", "--no-color", "--no-notes", "--no-show-signature", "--no-mailmap", "HEAD", "--"),
)
_MAX_TEXT_BYTES = 24 * 1024
"""Of a subject or a body: both, escaped as usual text is, stay well below the API's 64 KiB an event."""

_ELSEWHERE = frozenset(
    f"GIT_{name}"
    for name in (
        *("DIR", "WORK_TREE", "COMMON_DIR", "INDEX_FILE", "PREFIX", "NAMESPACE"),
        *("OBJECT_DIRECTORY", "ALTERNATE_OBJECT_DIRECTORIES"),
    )
)
"""Variables that point git at another repository than the one it is told of."""

_NOMINAL_BYTES = 300
_CHUNK_BYTES = 2**16


class GitSource:
    """The history of one repository. `size` and `position` count a nominal number of bytes for each commit."""

    def __init__(self, path: Path, commits: int) -> None:
        self.name = str(path)
        self.size = commits * _NOMINAL_BYTES
        self.position = 0

    @classmethod
    def open(cls, path: Path) -> GitSource:
        """Count the commits, so that what is wrong is said before anything is sent.

        Raises:
            SourceError: git is not installed, `path` is in no repository that it reads, or there is no commit.
        """
        done = _started(path, "rev-list", "--count", "HEAD", "--")
        out, _ = done.process.communicate()
        done.check()
        return cls(path, int(out))

    def lines(self, stopped: Callable[[], bool]) -> Iterator[Line]:
        """Its commits.

        Raises:
            SourceError: git failed on the way.
        """
        del stopped  # git answers at once; who stops closes the iterator
        running = _started(self.name, *_LOG)
        try:
            records = _records(cast("BinaryIO", running.process.stdout))
            for fields in records:
                self.position += _NOMINAL_BYTES
                yield Line(Where(self.name, fields[0].decode()[:12]), event_of(fields))
            running.process.wait()
            running.check()
        finally:
            running.end()


def event_of(fields: list[bytes]) -> bytes:
    """The event of a commit as JSON. Fields: hash, parents' hashes, author's e-mail, ISO 8601 date, subject, body."""
    commit, parents, email, date, subject, body = (field.decode(errors="replace") for field in fields)
    kind = _SUBJECT.match(subject)
    number = len(parents.split())
    metadata = {"subject": _cut(subject), "body": _cut(body.strip()), "parents": number, "merge": number > 1}
    return msgspec.json.encode(
        {
            "event_id": commit,
            "event_type": f"commit.{kind[1].lower() if kind else 'other'}",
            "user_id": sha256(email.lower().encode()).hexdigest()[:16],
            "timestamp": date,
            "metadata": metadata,
        }
    )


def _cut(text: str) -> str:
    raw = text.encode()
    return text if len(raw) <= _MAX_TEXT_BYTES else raw[:_MAX_TEXT_BYTES].decode(errors="ignore") + "…"


def _records(stream: BinaryIO) -> Iterator[list[bytes]]:
    """The commits' fields: each field ends in NUL, which git lets into none of them."""
    fields: list[bytes] = []
    rest = b""
    while chunk := stream.read(_CHUNK_BYTES):
        *whole, rest = (rest + chunk).split(b"\0")
        for field in whole:
            fields.append(field)
            if len(fields) == len(_FIELDS):
                yield fields
                fields = []


class _Running:
    """A git process and its error output, which goes to a file because nobody reads it meanwhile."""

    def __init__(self, process: subprocess.Popen[bytes], errors: BinaryIO, path: str) -> None:
        self.process = process
        self._errors = errors
        self._path = path

    def check(self) -> None:
        """Raise SourceError with git's last words if it failed."""
        status = self.process.returncode
        self._errors.seek(0)
        said = self._errors.read().decode(errors="replace").split("\n")
        self._errors.close()
        if status != 0:
            words = next((line.strip() for line in said if line.startswith(("fatal:", "error:"))), f"status {status}")
            raise SourceError(f"{self._path}: git says {words}")

    def end(self) -> None:
        if self.process.poll() is None:
            self.process.terminate()
        self.process.communicate()
        self._errors.close()


def _started(path: Path | str, *arguments: str) -> _Running:
    # Where to look is said by `path` alone; how to read it (safe.directory and the like) stays the person's to set.
    environ = {name: value for name, value in os.environ.items() if name not in _ELSEWHERE}
    errors = cast("BinaryIO", tempfile.TemporaryFile())  # noqa: SIM115  _Running closes it
    try:
        process = subprocess.Popen(  # noqa: S603  no shell, and the path can't be taken for an option
            ["git", "--no-pager", "-C", str(path), *arguments],  # noqa: S607  the person's own git
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=errors,
            env=environ | {"LC_ALL": "C", "GIT_TERMINAL_PROMPT": "0", "GIT_OPTIONAL_LOCKS": "0"},
            start_new_session=True,  # Ctrl-C is for the import, which ends git itself
        )
    except OSError as error:
        errors.close()
        raise SourceError(f"{path}: git can't be run ({error.strerror}): is it installed?") from error
    return _Running(process, errors, str(path))
