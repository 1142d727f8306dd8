from __future__ import annotations

import json
import stat
from typing import TYPE_CHECKING

from deploy.local.cache import default_cache
from deploy.local.passwords import Secrets, write_private
from deploy.local.places import arrange, copy_tree, settle
from deploy.local.users import Account

if TYPE_CHECKING:
    from pathlib import Path

STRANGER = Account("stranger", 54_321, 54_321)


def test_the_cache_follows_the_platform_s_habits(tmp_path: Path) -> None:
    home = {"HOME": str(tmp_path)}

    assert default_cache(home, system="linux") == tmp_path / ".cache" / "sluice"
    assert default_cache(home, system="darwin") == tmp_path / "Library" / "Caches" / "sluice"
    assert default_cache(home | {"XDG_CACHE_HOME": str(tmp_path / "x")}, system="linux") == tmp_path / "x" / "sluice"
    assert default_cache({"SLUICE_CACHE": str(tmp_path / "mine")}, system="darwin") == tmp_path / "mine"


def test_an_ordinary_user_s_servers_lie_in_the_home_which_is_closed_to_others(tmp_path: Path) -> None:
    places = arrange(tmp_path / "home", {"SLUICE_CACHE": str(tmp_path / "cache")}, None)

    assert places.servers == tmp_path / "home" / "servers"
    assert places.moved == ()
    assert stat.S_IMODE(places.home.stat().st_mode) == 0o700


def test_a_home_that_the_servers_account_can_t_reach_is_replaced_and_said(tmp_path: Path) -> None:
    tmp_path.chmod(0o700)
    environ = {"SLUICE_CACHE": str(tmp_path / "cache"), "TMPDIR": str(tmp_path)}

    one = settle(tmp_path / "one", environ, STRANGER)
    two = settle(tmp_path / "two", environ, STRANGER)

    assert not one.servers.is_relative_to(one.home)
    assert one.servers != two.servers
    assert [line.split()[0] for line in one.moved] == ["data", "distributions"]
    assert not (tmp_path / "one").exists()


def test_secrets_stay_the_same_and_are_readable_by_their_owner_only(tmp_path: Path) -> None:
    first = Secrets(tmp_path).passwords(["a", "b"])
    keys = Secrets(tmp_path).keys(["k"])

    assert Secrets(tmp_path).passwords(["b", "a"]) == first
    assert Secrets(tmp_path).keys(["k"]) == keys
    assert first["a"] != first["b"]
    assert stat.S_IMODE((tmp_path / "secrets.json").stat().st_mode) == 0o600


def test_a_private_file_is_replaced_whole(tmp_path: Path) -> None:
    path = tmp_path / "state.json"
    for number in range(3):
        write_private(path, json.dumps(number))

    assert json.loads(path.read_text()) == 2
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert list(tmp_path.iterdir()) == [path]


def test_a_copied_distribution_is_whole_and_copied_once(tmp_path: Path) -> None:
    source = tmp_path / "source"
    (source / "bin").mkdir(parents=True)
    (source / "bin" / "postgres").write_text("program")

    for _ in range(2):
        assert (copy_tree(source, tmp_path / "cache" / "copy") / "bin" / "postgres").read_text() == "program"
    assert [path.name for path in (tmp_path / "cache").iterdir()] == ["copy"]
