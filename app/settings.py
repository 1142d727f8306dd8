"""What a process is told from outside: environment variables named SLUICE_…, read once, frozen.

Each kind of process has its own class, so that it is given only what it needs (a gateway never holds the
owner's password) and a missing or blank value stops it at once, by name. Nothing here has a secret default.
"""

from __future__ import annotations

import base64
import binascii
import os
from functools import cached_property
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network
from pathlib import Path
from typing import Annotated, Self
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field, SecretStr, StringConstraints, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

NonBlank = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1)]


def _not_blank(value: SecretStr) -> SecretStr:
    if not value.get_secret_value().strip():
        raise ValueError("is blank")
    return value


def _key_of_32_bytes(value: SecretStr) -> SecretStr:
    try:
        raw = base64.b64decode(value.get_secret_value(), validate=True)
    except binascii.Error as error:
        raise ValueError("is not base64") from error
    if len(raw) != 32:  # noqa: PLR2004  AES-256 and HMAC-SHA-256 keys
        raise ValueError("must be the base64 of 32 bytes")
    return value


RequestLimit = Annotated[
    str, StringConstraints(strip_whitespace=True, pattern=r"^[1-9][0-9]{0,8}/(second|minute|hour|day)$")
]
ProduceTimeout = Annotated[float, Field(gt=0, le=30)]
"""Of gateways; `workers.shards` has to know it, and to be done long before `tenants.snapshot.DRAIN_SECONDS`."""
MAX_TOKEN_LIFETIME_SECONDS = 3600
"""For so long keys that sign no longer are believed (`auth.rotation`)."""

SecretUrl = Annotated[SecretStr, AfterValidator(_not_blank)]
SecretKey = Annotated[SecretStr, AfterValidator(_key_of_32_bytes)]


class SettingsError(Exception):
    """Settings are missing or wrong; the text is one line that names each variable."""


def home() -> Path:
    """The folder of the local stack: SLUICE_HOME, or `.sluice` in the working directory."""
    return Path(os.environ.get("SLUICE_HOME") or ".sluice").absolute()


class Settings(BaseSettings):
    """Names and limits that gateway, workers and commands have to agree on."""

    model_config = SettingsConfigDict(
        env_prefix="SLUICE_", frozen=True, extra="ignore", env_ignore_empty=False, hide_input_in_errors=True
    )

    topic_prefix: NonBlank = "events"
    topic_partitions: int = Field(default=8, ge=1, le=1024)
    topic_replication: int = Field(default=1, ge=1, le=32)
    index_prefix: NonBlank = "sluice-events"
    index_shards: int = Field(default=1, ge=1, le=1024)
    index_replicas: int = Field(default=0, ge=0, le=32)
    log_format: Annotated[str, StringConstraints(pattern="^(json|console)$")] = "json"
    metrics_host: NonBlank = "127.0.0.1"
    metrics_port: int = Field(default=9464, ge=0, le=65535)

    @property
    def raw_topic(self) -> str:
        """The topic of accepted events; see docs/architecture.md for its records."""
        return f"{self.topic_prefix}.raw"

    @property
    def dead_letter_topic(self) -> str:
        """The topic with a copy of each dead letter; PostgreSQL holds the truth."""
        return f"{self.topic_prefix}.dead-letter"

    @property
    def replay_topic(self) -> str:
        """The topic that replays go to: never `raw_topic`, so nothing that is sent again can be counted again."""
        return f"{self.topic_prefix}.replay"

    def group(self, worker: str) -> str:
        """The Kafka consumer group of a worker; it goes with the topic, so that two systems can share a cluster."""
        return f"sluice.{self.topic_prefix}.{worker}"

    @classmethod
    def load(cls) -> Self:
        """Read the environment, then `env` in the local stack's folder; the environment wins.

        Raises:
            SettingsError: a value is missing or wrong.
        """
        env_file = home() / "env"
        try:
            return cls(_env_file=env_file if env_file.is_file() else None)  # type: ignore[call-arg]
        except ValidationError as error:
            faults = (f"SLUICE_{str(e['loc'][0]).upper()}: {_reason(e['type'], e['msg'])}" for e in error.errors())
            raise SettingsError("; ".join(faults)) from None


def _reason(kind: str, message: str) -> str:
    return "is missing" if kind == "missing" else message.removeprefix("Value error, ").lower()


def _networks(value: str) -> str:
    for part in filter(None, (part.strip() for part in value.split(","))):
        try:
            ip_network(part)
        except ValueError as error:
            raise ValueError(f"{part} is not a network such as 10.0.0.0/8") from error
    return value


Networks = Annotated[str, AfterValidator(_networks)]


def parsed_networks(value: str) -> tuple[IPv4Network | IPv6Network, ...]:
    """The networks that such a setting names, with commas between them."""
    return tuple(ip_network(part.strip()) for part in value.split(",") if part.strip())


class OperatorSettings(Settings):
    """For commands that manage tenants, clients and keys."""

    postgres_auth_url: SecretUrl
    key_encryption_key: SecretKey
    secret_hash_key: SecretKey
    webhook_networks: Networks = ""


def _issuer(value: str) -> str:
    try:
        parts = urlsplit(value)
        host, _port = parts.hostname, parts.port
    except ValueError as error:
        raise ValueError("is not a URL") from error
    if parts.scheme not in {"http", "https"} or not host or parts.username is not None:
        raise ValueError("must be a URL such as https://events.example.com")
    if parts.query or parts.fragment:
        raise ValueError("must have neither query nor fragment")  # RFC 8414 section 2
    if parts.scheme == "http" and not _is_loopback(host):
        raise ValueError("must be https, unless its host is localhost or a loopback address")
    return value


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


class GatewaySettings(OperatorSettings):
    """For `sluice api`."""

    postgres_app_url: SecretUrl
    redis_url: SecretUrl
    redis_prefix: str = "sluice"
    kafka_bootstrap: NonBlank
    elasticsearch_url: SecretUrl
    issuer: Annotated[NonBlank, AfterValidator(_issuer)]
    api_host: NonBlank = "127.0.0.1"
    api_port: int = Field(default=8000, ge=1, le=65535)
    token_lifetime_seconds: int = Field(default=600, ge=10, le=MAX_TOKEN_LIFETIME_SECONDS)
    assertion_audience_token_url: bool = False
    produce_timeout_seconds: ProduceTimeout = 5.0
    pending_bytes: int = Field(default=64 * 2**20, ge=2**20)
    limiter_timeout_seconds: float = Field(default=0.5, gt=0, le=10)
    gateway_processes: int = Field(default=1, ge=1, le=1024)
    token_limit: RequestLimit = "60/minute"  # noqa: S105  no secret
    admin_limit: RequestLimit = "120/minute"
    query_limit: RequestLimit = "1200/minute"
    failure_limit: RequestLimit = "30/minute"
    trusted_proxies: Networks = ""

    @cached_property
    def trusted_networks(self) -> tuple[IPv4Network | IPv6Network, ...]:
        """Proxies whose `X-Forwarded-For` is believed."""
        return parsed_networks(self.trusted_proxies)


class WorkerSettings(Settings):
    """For `sluice worker`."""

    postgres_worker_url: SecretUrl
    kafka_bootstrap: NonBlank
    elasticsearch_url: SecretUrl


class MaintainSettings(WorkerSettings):
    """For `sluice worker maintain`, which removes what is no longer wanted wherever it is."""

    postgres_auth_url: SecretUrl
    redis_url: SecretUrl
    redis_prefix: str = "sluice"
    produce_timeout_seconds: ProduceTimeout = 5.0


class ReplaySettings(WorkerSettings):
    """For `sluice worker replay`, which finds the jobs of all tenants and signs what webhooks get."""

    postgres_auth_url: SecretUrl
    key_encryption_key: SecretKey
    webhook_networks: Networks = ""


class EveryWorkerSettings(MaintainSettings, ReplaySettings):
    """For a process that runs both of those."""


class VerifySettings(OperatorSettings):
    """For `sluice verify`, `reindex` and `replay --rebuild`, which look after what the workers write."""

    postgres_worker_url: SecretUrl
    elasticsearch_url: SecretUrl
    kafka_bootstrap: NonBlank


class ReplayCommandSettings(OperatorSettings):
    """For `sluice replay`, which counts, and into a file reads, what tenants have stored."""

    postgres_worker_url: SecretUrl


class LettersCommandSettings(Settings):
    """For `sluice dead-letters`, which sees and changes them as the workers do that wrote them."""

    postgres_worker_url: SecretUrl


class MigrationSettings(Settings):
    """For `sluice migrate`: the administrator's URL and the runtime roles' URLs, whose passwords it sets."""

    postgres_url: SecretUrl
    postgres_app_url: SecretUrl
    postgres_worker_url: SecretUrl
    postgres_auth_url: SecretUrl
    kafka_bootstrap: NonBlank
    elasticsearch_url: SecretUrl
