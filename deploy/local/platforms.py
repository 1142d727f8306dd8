"""Which artifacts fit this machine. Owns the choice as a pure function; refuses to download or look at the network."""

from __future__ import annotations

import platform
from dataclasses import dataclass
from pathlib import Path

from deploy.local.errors import LocalError

_MACHINES = {"x86_64": "x86-64", "amd64": "x86-64", "aarch64": "arm64", "arm64": "arm64"}
_SYSTEMS = {"Linux": "linux", "Darwin": "macos"}
# The PostgreSQL wheel is published for these and no others.
_TRIED_OR_BUILT = {("linux", "x86-64"), ("linux", "arm64"), ("macos", "arm64")}


@dataclass(frozen=True)
class Platform:
    """A kind of machine: `key` names it in the catalogue."""

    system: str
    machine: str

    @property
    def key(self) -> str:
        return f"{self.system}-{self.machine}"


def choose(system: str, machine: str, *, musl: bool = False, postgres_given: bool = False) -> Platform:
    """The platform for what `platform.system()` and `platform.machine()` say.

    Raises LocalError, one line, where an artifact is missing. Where PostgreSQL is given by its URL, macOS on
    x86-64 works too: the other artifacts exist for it.
    """
    ours = _SYSTEMS.get(system)
    cpu = _MACHINES.get(machine.lower())
    if ours is None or cpu is None:
        raise LocalError(
            f"The local servers don't exist for {system} on {machine}: point SLUICE_POSTGRES_URL, SLUICE_REDIS_URL,"
            " SLUICE_KAFKA_BOOTSTRAP and SLUICE_ELASTICSEARCH_URL at servers of your own, or use docker compose."
        )
    if musl:
        raise LocalError(
            "The local servers need glibc and this Linux uses musl (Alpine): use docker compose or servers of your own."
        )
    if (ours, cpu) not in _TRIED_OR_BUILT and not postgres_given:
        raise LocalError(
            f"No PostgreSQL build exists for {ours} on {cpu}: set SLUICE_POSTGRES_URL to a server of your own"
            " (Redis, Kafka and Elasticsearch are still started here)."
        )
    return Platform(ours, cpu)


def current(*, postgres_given: bool = False) -> Platform:
    """The platform of this machine."""
    system = platform.system()
    musl = system == "Linux" and any(Path("/lib").glob("ld-musl-*"))
    return choose(system, platform.machine(), musl=musl, postgres_given=postgres_given)
