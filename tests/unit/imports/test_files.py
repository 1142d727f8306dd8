"""Files as content: gzip by its first bytes, pipes copied, damage and change said."""

from __future__ import annotations

import gzip
import io
import os
import threading
from pathlib import Path
from types import SimpleNamespace

import pytest

from app.imports.failures import SourceError, StoppedError
from app.imports.files import FileSource

CONTENT = b"".join(b'{"event_type":"t","metadata":{"n":%d}}\n' % number for number in range(1000))


def bodies(path: Path) -> list[bytes]:
    return [line.body for line in FileSource.open(path).lines(lambda: False)]


def test_gzip_is_told_by_its_first_bytes_and_not_by_the_name(tmp_path: Path) -> None:
    plain, packed = tmp_path / "plain.gz", tmp_path / "packed.jsonl"
    plain.write_bytes(CONTENT)
    packed.write_bytes(gzip.compress(CONTENT))
    assert len(bodies(plain)) == 1000
    assert bodies(plain) == bodies(packed)


def test_concatenated_gzip_files_are_one_content(tmp_path: Path) -> None:
    plain, packed = tmp_path / "a", tmp_path / "b"
    plain.write_bytes(CONTENT)
    packed.write_bytes(gzip.compress(CONTENT[:5000]) + gzip.compress(CONTENT[5000:]))
    assert bodies(plain) == bodies(packed)


def test_a_pipe_gives_the_same_ids_as_the_file(tmp_path: Path) -> None:
    plain, pipe = tmp_path / "plain", tmp_path / "pipe"
    plain.write_bytes(CONTENT)
    os.mkfifo(pipe)
    writer = threading.Thread(target=lambda: pipe.write_bytes(CONTENT))
    writer.start()
    source = FileSource.open(pipe)
    writer.join()
    assert source.size == len(CONTENT)
    assert [line.body for line in source.lines(lambda: False)] == bodies(plain)


def test_standard_input_gives_the_same_ids_as_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plain = tmp_path / "plain"
    plain.write_bytes(CONTENT)
    monkeypatch.setattr("sys.stdin", SimpleNamespace(buffer=io.BytesIO(gzip.compress(CONTENT))))
    lines = list(FileSource.open(Path("-")).lines(lambda: False))
    assert [line.body for line in lines] == bodies(plain)
    assert str(lines[0].where) == "standard input:1"


def test_the_position_ends_at_the_size(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_bytes(gzip.compress(CONTENT))
    source = FileSource.open(path)
    list(source.lines(lambda: False))
    assert source.position == source.size == path.stat().st_size


@pytest.mark.parametrize("damage", [slice(0, -20), slice(0, 40)])
def test_damaged_gzip_is_one_line_that_names_the_file(tmp_path: Path, damage: slice) -> None:
    path = tmp_path / "a.gz"
    path.write_bytes(gzip.compress(b"".join(b'{"event_id":"%d"}\n' % n for n in range(1000)))[damage])
    with pytest.raises(SourceError, match=r"a\.gz: the gzip data is damaged or ends too early"):
        bodies(path)


def test_a_file_that_changes_while_its_ids_come_from_its_content_is_said(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_bytes(CONTENT)
    lines = FileSource.open(path).lines(lambda: False)
    next(lines)
    path.write_bytes(CONTENT + b"{}\n")
    with pytest.raises(SourceError, match="changed while it was imported"):
        list(lines)


def test_reading_ahead_for_ids_ends_when_the_import_is_stopped(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_bytes(CONTENT)
    with pytest.raises(StoppedError):
        next(FileSource.open(path).lines(lambda: True))


def test_a_file_that_is_gone_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="absent: No such file or directory"):
        FileSource.open(tmp_path / "absent")
