"""Ends what a killed runner leaves, so that servers of a temporary home don't run for ever. Knows only the register.

It is a child that reads from the runner: the end of that stream is the runner's end, however it came. A runner that
stops by itself has emptied the register before, and nothing is left to do.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import deploy
from deploy.local.processes import Register, end_earlier

NAME = "guardian"
_PATIENCE_SECONDS = 10.0


def watch_over(register: Path, log: Path) -> subprocess.Popen[bytes]:
    """Start one for this process. Closing its `stdin` lets it go."""
    here = str(Path(deploy.__file__).parent.parent)
    path = os.pathsep.join(filter(None, (here, os.environ.get("PYTHONPATH"))))
    with log.open("ab") as out:
        return subprocess.Popen(  # noqa: S603 - ourselves
            (sys.executable, "-m", "deploy.local.guardian", str(register)),
            stdin=subprocess.PIPE,
            stdout=out,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            env={**os.environ, "PYTHONPATH": path},
        )


def main(register: Path) -> None:
    for number in (signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    sys.stdin.buffer.read()
    left = [record for record in Register(register).earlier() if record.pid != os.getpid()]
    ended = end_earlier(left, _PATIENCE_SECONDS)
    if ended:
        sys.stdout.write(f"the runner is gone; ended {', '.join(ended)}\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
