"""What the application's processes are told: the names of app.settings, from endpoints and the home's secrets.

Owns the translation; what a name means is app.settings' business. A name that the person has set wins.
"""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import quote, urlsplit

from deploy.local.passwords import Secrets
from deploy.local.servers import Given

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from deploy.local.servers import Endpoints

_ROLES = ("app", "worker", "auth")
_KEYS = ("key_encryption_key", "secret_hash_key")


def given_from(environ: Mapping[str, str]) -> Given:
    """The servers that the environment points at."""
    return Given(
        environ.get("SLUICE_POSTGRES_URL") or None,
        environ.get("SLUICE_REDIS_URL") or None,
        environ.get("SLUICE_KAFKA_BOOTSTRAP") or None,
        environ.get("SLUICE_ELASTICSEARCH_URL") or None,
    )


def variables(
    home: Path, environ: Mapping[str, str], endpoints: Endpoints, *, api_port: int, metrics_port: int
) -> dict[str, str]:
    """Every SLUICE_… that a process of this stack may read."""
    secrets = Secrets(home)
    passwords = secrets.passwords([f"sluice_{role}" for role in _ROLES])
    values = {
        "SLUICE_POSTGRES_URL": endpoints.postgres_url,
        **{
            f"SLUICE_POSTGRES_{role.upper()}_URL": role_url(
                endpoints.postgres_url, f"sluice_{role}", passwords[f"sluice_{role}"]
            )
            for role in _ROLES
        },
        "SLUICE_REDIS_URL": endpoints.redis_url,
        "SLUICE_KAFKA_BOOTSTRAP": endpoints.kafka_bootstrap,
        "SLUICE_ELASTICSEARCH_URL": endpoints.elasticsearch_url,
        **{f"SLUICE_{name.upper()}": key for name, key in secrets.keys(_KEYS).items()},
        "SLUICE_ISSUER": api_url(api_port),
        "SLUICE_API_HOST": "127.0.0.1",
        "SLUICE_API_PORT": str(api_port),
        "SLUICE_METRICS_PORT": str(metrics_port),
    }
    return {name: environ.get(name) or value for name, value in values.items()}


def api_url(port: int) -> str:
    return f"http://127.0.0.1:{port}"


def role_url(admin: str, role: str, password: str) -> str:
    """The administrator's URL with another login: same server, database and options."""
    parts = urlsplit(admin)
    server = parts.netloc.rpartition("@")[2]
    return parts._replace(netloc=f"{quote(role)}:{quote(password, safe='')}@{server}").geturl()


def env_file(values: Mapping[str, str]) -> str:
    """KEY=value lines, which other `sluice` commands read to find the running stack."""
    return "".join(f"{name}={value}\n" for name, value in values.items())


def child_environ(environ: Mapping[str, str], values: Mapping[str, str], home: Path, name: str) -> dict[str, str]:
    """A component's whole environment: only the migration holds the administrator's URL."""
    told = {**environ, "SLUICE_LOG_FORMAT": environ.get("SLUICE_LOG_FORMAT") or "console", **values}
    if name != "migrate":
        told.pop("SLUICE_POSTGRES_URL")
    return {**told, "SLUICE_HOME": str(home), "PYTHONUNBUFFERED": "1"}
