import pytest

from deploy.local import catalogue
from deploy.local.artifacts import Jar, Member, Tree
from deploy.local.errors import LocalError
from deploy.local.platforms import Platform, choose

PLATFORMS = [
    ("Linux", "x86_64", "linux-x86-64"),
    ("Linux", "aarch64", "linux-arm64"),
    ("Darwin", "arm64", "macos-arm64"),
]


@pytest.mark.parametrize(("system", "machine", "key"), PLATFORMS)
def test_each_supported_machine_has_its_own_artifacts(system: str, machine: str, key: str) -> None:
    platform = choose(system, machine)

    assert platform.key == key
    assert {artifact.name for artifact in catalogue.everything(platform)} == {
        "elasticsearch",
        "jre",
        "kafka",
        "redis",
    }


def test_the_java_runtime_and_redis_differ_by_platform() -> None:
    platforms = [choose(system, machine) for system, machine, _ in PLATFORMS]

    for made in (catalogue.jre, catalogue.redis):
        assert len({made(platform).parts[0].sha256 for platform in platforms}) == len(platforms)


def test_macos_on_intel_works_where_postgres_is_given_and_says_so_where_not() -> None:
    assert choose("Darwin", "x86_64", postgres_given=True) == Platform("macos", "x86-64")
    with pytest.raises(LocalError, match="SLUICE_POSTGRES_URL"):
        choose("Darwin", "x86_64")


@pytest.mark.parametrize(
    ("system", "machine", "musl"), [("Windows", "AMD64", False), ("Linux", "riscv64", False), ("Linux", "x86_64", True)]
)
def test_an_unsupported_machine_gets_one_line_that_names_a_way_out(system: str, machine: str, musl: bool) -> None:
    with pytest.raises(LocalError) as refused:
        choose(system, machine, musl=musl)

    assert "\n" not in str(refused.value)
    assert "docker compose" in str(refused.value)


@pytest.mark.parametrize(("system", "machine", "key"), PLATFORMS)
def test_everything_is_pinned_by_version_and_sha256(system: str, machine: str, key: str) -> None:
    del key
    for artifact in catalogue.everything(choose(system, machine)):
        assert artifact.version
        assert artifact.licence
        for part in artifact.parts:
            assert len(part.sha256) == 64
            assert int(part.sha256, 16)
            assert part.size > 0
            coordinate = part.coordinate if isinstance(part, Jar) else part.archive
            assert len(coordinate.split(":")) == (3 if isinstance(part, Jar) else 4)
            assert isinstance(part, Jar | Member | Tree)


def test_kafka_s_jars_are_one_version_each() -> None:
    names = [part.coordinate.rsplit(":", 1)[0] for part in catalogue.KAFKA.parts if isinstance(part, Jar)]

    assert len(names) == len(set(names))
    assert "org.apache.kafka:kafka-clients" in names
