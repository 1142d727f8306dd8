"""The issuer's URL as a gateway accepts it: over plain http only where nobody else can listen."""

from __future__ import annotations

import base64

import pytest
from authlib.common.security import is_secure_transport
from pydantic import ValidationError

from app.settings import GatewaySettings


def settings(issuer: str) -> GatewaySettings:
    key = base64.b64encode(bytes(32)).decode()
    return GatewaySettings.model_validate(
        {
            "postgres_app_url": "postgresql://a",
            "postgres_auth_url": "postgresql://a",
            "redis_url": "redis://a",
            "kafka_bootstrap": "a:9",
            "elasticsearch_url": "http://a",
            "key_encryption_key": key,
            "secret_hash_key": key,
            "issuer": issuer,
        }
    )


@pytest.mark.parametrize(
    "issuer",
    [
        "https://events.example.com",
        "https://example.com:8443/tenant",
        "http://127.0.0.1:8000",
        "http://127.9.9.9",
        "http://[::1]:8000",
        "http://localhost:8000",
    ],
)
def test_an_issuer_that_authlib_will_serve_is_accepted(issuer: str) -> None:
    assert settings(issuer).issuer == issuer
    assert is_secure_transport(issuer)


@pytest.mark.parametrize(
    ("issuer", "reason"),
    [
        ("http://events.example.com", "must be https"),
        ("http://10.0.0.1:8000", "must be https"),
        ("http://localhost.example.com", "must be https"),
        ("http://0.0.0.0:8000", "must be https"),
        ("events.example.com", "must be a URL"),
        ("ftp://127.0.0.1", "must be a URL"),
        ("https://", "must be a URL"),
        ("https://me:secret@example.com", "must be a URL"),
        ("https://example.com/?a=b", "neither query nor fragment"),
        ("https://example.com/#a", "neither query nor fragment"),
        ("https://example.com:port", "is not a URL"),
        ("http://[::1", "is not a URL"),
        ("", "at least 1 character"),
    ],
)
def test_any_other_is_refused_with_the_reason(issuer: str, reason: str) -> None:
    with pytest.raises(ValidationError, match=reason) as refusal:
        settings(issuer)
    assert "secret" not in str(refusal.value)
