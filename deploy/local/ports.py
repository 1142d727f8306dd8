"""Which TCP ports the servers listen on. Owns defaults, the environment's changes and the check that a port is free."""

from __future__ import annotations

import random
import socket
from dataclasses import asdict, dataclass, fields
from typing import TYPE_CHECKING, Self

from deploy.local.errors import LocalError

if TYPE_CHECKING:
    from collections.abc import Mapping

# Outgoing connections take ports from 32768 up at any moment, so ours lie below.
_LOWEST, _BEYOND = 20_000, 32_768


@dataclass(frozen=True)
class Ports:
    postgres: int = 15432
    redis: int = 16379
    kafka: int = 19092
    elasticsearch: int = 19200

    @classmethod
    def free(cls) -> Self:
        """Ports that nobody listens on now."""
        return cls(*free_ports(len(fields(cls))))

    @classmethod
    def from_environment(cls, environ: Mapping[str, str]) -> Self:
        """The defaults, moved by SLUICE_POSTGRES_PORT, SLUICE_REDIS_PORT and so on."""
        default = cls()
        return cls(**{name: port_from(environ, name, value) for name, value in asdict(default).items()})


def port_from(environ: Mapping[str, str], name: str, default: int) -> int:
    """SLUICE_<NAME>_PORT as a number. Raises LocalError for anything else than 1 to 65535."""
    variable = f"SLUICE_{name.upper()}_PORT"
    text = environ.get(variable, "")
    if not text:
        return default
    if not text.isascii() or not text.isdecimal() or not 0 < int(text) < 65_536:  # noqa: PLR2004
        raise LocalError(f"{variable}={text} isn't a port: give a number from 1 to 65535")
    return int(text)


def free_ports(count: int) -> list[int]:
    """Different free ports of 127.0.0.1 below those of outgoing connections."""
    found: list[int] = []
    while len(found) < count:
        port = random.randrange(_LOWEST, _BEYOND)  # noqa: S311 - no secret
        if port not in found and is_free(port):
            found.append(port)
    return found


def is_free(port: int) -> bool:
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def require_free(wanted: Mapping[str, int]) -> None:
    """Raises LocalError that names the first port which is taken, or wanted twice, and how to move it."""
    taken: dict[int, str] = {}
    for name, port in wanted.items():
        variable = f"SLUICE_{name.split()[0].upper()}_PORT"  # "metrics of a worker" moves with "metrics"
        if port in taken:
            raise LocalError(f"{name} and {taken[port]} both want port {port}: set {variable} to another")
        taken[port] = name
        if not is_free(port):
            raise LocalError(f"Port {port} for {name} is taken by another program: stop it or set {variable}")
