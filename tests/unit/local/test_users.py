import os
from pathlib import Path

import pytest

from deploy.local import users
from deploy.local.errors import LocalError
from deploy.local.users import Account, reaches, service_account

STRANGER = Account("stranger", 54_321, 54_321)


def test_an_ordinary_user_runs_the_servers_itself() -> None:
    assert service_account({"SLUICE_SERVICE_USER": "whoever"}, uid=1000) is None


def test_root_hands_them_to_an_unprivileged_account() -> None:
    account = service_account({"SLUICE_SERVICE_USER": "nobody"}, uid=0)

    assert account is not None
    assert account.uid != 0


@pytest.mark.parametrize("name", ["root", "no-such-account-here"])
def test_root_refuses_an_account_that_is_root_or_doesn_t_exist(name: str) -> None:
    with pytest.raises(LocalError, match="SLUICE_SERVICE_USER"):
        service_account({"SLUICE_SERVICE_USER": name}, uid=0)


def test_a_closed_folder_on_the_way_is_out_of_reach(tmp_path: Path) -> None:
    inner = tmp_path / "closed" / "inner"
    inner.mkdir(parents=True)
    # pytest's own folders above are closed to others: look from here on only.
    account = Account("us", os.geteuid(), os.getegid())
    (tmp_path / "closed").chmod(0o000)
    try:
        assert not reaches(account, tmp_path / "closed" / "not-yet-there")
    finally:
        (tmp_path / "closed").chmod(0o700)
    assert reaches(account, inner)


def test_a_folder_that_is_only_ours_is_out_of_a_stranger_s_reach(tmp_path: Path) -> None:
    tmp_path.chmod(0o700)

    assert not reaches(STRANGER, tmp_path / "not-yet-there")
    assert reaches(None, tmp_path)
    assert users.reaches(STRANGER, Path("/"))
