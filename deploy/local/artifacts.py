"""What an artifact is: the shapes of the catalogue. Owns no pins and no downloading."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Jar:
    """A whole file of the repository."""

    coordinate: str
    sha256: str
    size: int


@dataclass(frozen=True)
class Member:
    """One file out of an archive, fetched by a range request. `sha256` and `size` are of the unpacked file."""

    archive: str
    name: str
    sha256: str
    size: int


@dataclass(frozen=True)
class Tree:
    """A folder out of an archive, in one range request. `sha256` is over the "<sha256>  <path>" lines of its files."""

    archive: str
    prefix: str
    sha256: str
    size: int


@dataclass(frozen=True)
class Artifact:
    """What one folder of the cache is made from. `unpack`: how the parts become that folder."""

    name: str
    version: str
    parts: tuple[Jar | Member | Tree, ...]
    unpack: Literal["program", "tarball", "jars", "tree"]
    licence: str
    title: str

    @property
    def size(self) -> int:
        """Bytes to fetch, roughly: what the progress bar counts to."""
        return sum(part.size for part in self.parts)
