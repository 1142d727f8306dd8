"""THIRD-PARTY-LICENSES says what is really used."""

from __future__ import annotations

import tomllib
from importlib import metadata
from pathlib import Path

import pytest

from deploy import licences


@pytest.fixture(scope="module")
def known(repository: Path) -> dict[str, dict[str, str]]:
    return tomllib.loads((repository / "deploy" / "licences.toml").read_text(encoding="utf-8"))


def test_the_file_is_what_the_generator_writes() -> None:
    assert licences.TARGET.read_text(encoding="utf-8") == licences.generate(), "run python -m deploy.licences"


def test_every_pin_is_listed_with_its_version(repository: Path) -> None:
    lines = licences.TARGET.read_text(encoding="utf-8").splitlines()
    pins = licences.pins((repository / "requirements" / "run.txt").read_text(encoding="utf-8"))
    assert len(pins) > 50
    for name, version in pins.items():
        assert any(line.startswith(f"  {name} {version}: ") for line in lines), name


def test_the_licences_are_those_that_the_packages_state_themselves(known: dict[str, dict[str, str]]) -> None:
    compared = 0
    for name, licence in known["packages"].items():
        try:
            stated = metadata.metadata(name).json.get("license_expression")
        except metadata.PackageNotFoundError:  # for another platform
            continue
        if stated is not None:
            compared += 1
            assert licence == stated, name
    assert compared > 30


def test_a_package_of_unknown_licence_stops_the_generator(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(licences, "pins", lambda _: {"never-heard-of": "1"})
    with pytest.raises(licences.UnknownLicenceError, match="never-heard-of"):
        licences.generate()


def test_our_own_licence_is_the_whole_apache_licence(repository: Path) -> None:
    text = (repository / "LICENSE").read_text(encoding="utf-8")
    assert "Version 2.0, January 2004" in text
    assert "9. Accepting Warranty or Additional Liability." in text
    assert "END OF TERMS AND CONDITIONS" in text
