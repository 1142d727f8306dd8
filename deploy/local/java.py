"""The Java programs' common part: where `java` is and the options that keep a machine small and tidy."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path


def java(jre: Path) -> str:
    """The program in a runtime's folder; macOS keeps it deeper."""
    bundled = jre / "Contents" / "Home" / "bin" / "java"
    return str(bundled if bundled.exists() else jre / "bin" / "java")


# No shared files in the temporary folder; out of memory is an end (and a restart), not a limping process.
COMMON = ("-XX:-UsePerfData", "-XX:+ExitOnOutOfMemoryError", "-Djava.awt.headless=true", "-Dfile.encoding=UTF-8")
