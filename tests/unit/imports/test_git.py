"""A repository's history as events, from repositories made here by the real git."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

from app.imports.failures import SourceError
from app.imports.git import GitSource

Git = Callable[..., str]


@pytest.fixture
def git(tmp_path: Path) -> Git:
    """git in a new repository; keywords are environment variables."""
    folder = tmp_path / "repository"
    folder.mkdir()
    environ = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")} | {
        "GIT_CONFIG_GLOBAL": os.devnull,
        "GIT_AUTHOR_NAME": "A",
        "GIT_AUTHOR_EMAIL": "Some.One@Example.COM",
        "GIT_COMMITTER_NAME": "C",
        "GIT_COMMITTER_EMAIL": "c@example.com",
        "GIT_AUTHOR_DATE": "2024-02-29T12:00:00+08:00",
        "GIT_COMMITTER_DATE": "2024-03-01T00:00:00+00:00",
    }

    def run(*arguments: str, **more: str) -> str:
        done = subprocess.run(
            ["git", *arguments], cwd=folder, env=environ | more, check=True, capture_output=True, text=True
        )
        return done.stdout.strip()

    run("init", "--initial-branch=main")
    return run


def commit(git: Git, message: str, **more: str) -> str:
    git("commit", "--allow-empty", "--cleanup=verbatim", "-m", message, **more)
    return git("rev-parse", "HEAD")


def events(tmp_path: Path) -> list[Any]:
    source = GitSource.open(tmp_path / "repository")
    read = [json.loads(line.body) for line in source.lines(lambda: False)]
    assert source.position == source.size
    return read


def test_a_commit_becomes_an_event(git: Git, tmp_path: Path) -> None:
    first = commit(git, "feat(api)!: a thing\n\nWhy: 为了\nmore\n")
    assert events(tmp_path) == [
        {
            "event_id": first,
            "event_type": "commit.feat",
            "user_id": sha256(b"some.one@example.com").hexdigest()[:16],
            "timestamp": "2024-02-29T12:00:00+08:00",
            "metadata": {"subject": "feat(api)!: a thing", "body": "Why: 为了\nmore", "parents": 0, "merge": False},
        }
    ]


def test_addresses_are_not_sent(git: Git, tmp_path: Path) -> None:
    commit(git, "fix: a")
    (line,) = GitSource.open(tmp_path / "repository").lines(lambda: False)
    assert b"@" not in line.body
    assert b"example" not in line.body.lower()


@pytest.mark.parametrize(
    ("subject", "kind"),
    [
        ("fix: a", "fix"),
        ("Docs(readme): a", "docs"),
        ("chore(deps)!: a", "chore"),
        ("fix a bug", "other"),
        ("fix(no space):a", "other"),
        ("feature: a", "other"),
        ("fixup! fix: a", "other"),
        ("Merge branch 'x'", "other"),
    ],
)
def test_the_type_is_the_conventional_kind(git: Git, tmp_path: Path, subject: str, kind: str) -> None:
    commit(git, subject)
    assert events(tmp_path)[0]["event_type"] == f"commit.{kind}"


def test_a_merge_has_its_number_of_parents_and_all_of_its_history(git: Git, tmp_path: Path) -> None:
    commit(git, "root")
    git("checkout", "-q", "-b", "side")
    commit(git, "on the side")
    git("checkout", "-q", "main")
    commit(git, "on main")
    git("merge", "--no-ff", "-m", "merged", "side")
    read = events(tmp_path)
    assert {event["metadata"]["subject"] for event in read} == {"root", "on the side", "on main", "merged"}
    assert read[0]["metadata"] == {"subject": "merged", "body": "", "parents": 2, "merge": True}


def test_a_long_body_is_cut_so_that_the_event_stays_sendable(git: Git, tmp_path: Path) -> None:
    commit(git, "docs: long\n\n" + "长" * 40_000)
    (line,) = GitSource.open(tmp_path / "repository").lines(lambda: False)
    assert len(line.body) < 48 * 1024
    assert json.loads(line.body)["metadata"]["body"].endswith("长…")


def fast_import(tmp_path: Path, git: Git, messages: list[bytes]) -> None:
    """Commits with exactly these messages: `git commit` would correct some."""
    stream = b"".join(
        b"commit refs/heads/main\ncommitter C <c@example.com> %d +0000\ndata %d\n%b\n"
        % (1_700_000_000 + number, len(message), message)
        for number, message in enumerate(messages)
    )
    subprocess.run(["git", "fast-import", "--quiet"], cwd=tmp_path / "repository", input=stream, check=True)
    git("reset", "-q", "--hard", "main")


def test_bytes_that_are_not_utf8_and_odd_characters_survive_as_text(git: Git, tmp_path: Path) -> None:
    fast_import(tmp_path, git, [b'caf\xe9 \x01 "quoted" \\ \xf0\x9f\x8e\x89\n'])
    assert events(tmp_path)[0]["metadata"]["subject"] == 'caf\ufffd \x01 "quoted" \\ \N{PARTY POPPER}'


def test_many_commits_are_streamed_whole_and_in_order(git: Git, tmp_path: Path) -> None:
    fast_import(tmp_path, git, [b"feat: %d\n\nbody %d" % (number, number) for number in range(3000)])
    assert [(event["metadata"]["subject"], event["metadata"]["body"]) for event in events(tmp_path)] == [
        (f"feat: {number}", f"body {number}") for number in range(2999, -1, -1)
    ]


def test_another_repository_in_the_environment_is_not_read(
    git: Git, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    commit(git, "fix: mine")
    monkeypatch.setenv("GIT_DIR", str(tmp_path / "elsewhere"))
    assert events(tmp_path)[0]["metadata"]["subject"] == "fix: mine"


def test_a_reader_who_stops_early_leaves_no_process(git: Git, tmp_path: Path) -> None:
    for number in range(3):
        commit(git, f"fix: {number}")
    lines = GitSource.open(tmp_path / "repository").lines(lambda: False)
    next(lines)
    running = lines.gi_frame.f_locals["running"]  # type: ignore[attr-defined]
    lines.close()  # type: ignore[attr-defined]
    assert running.process.poll() is not None


def test_a_folder_that_is_no_repository_is_one_line_with_gits_words(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"git says fatal: not a git repository") as caught:
        GitSource.open(tmp_path)
    assert "\n" not in str(caught.value)


@pytest.mark.usefixtures("git")
def test_a_repository_without_commits_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="git says fatal") as caught:
        GitSource.open(tmp_path / "repository")
    assert "\n" not in str(caught.value)


def test_without_git_the_line_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(SourceError, match="is it installed"):
        GitSource.open(tmp_path)
