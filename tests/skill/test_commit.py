"""The commit that `--version` names is that of the code, or none."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from skill.common import commit


def git(folder: Path, *words: str) -> str:
    settings = ("-c", "user.name=a", "-c", "user.email=a@example.com", "-c", "init.defaultBranch=main")
    done = subprocess.run(["git", *settings, *words], cwd=folder, capture_output=True, text=True, check=True)
    return done.stdout.strip()


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    folder = tmp_path / "checkout"
    (folder / "skill").mkdir(parents=True)
    (folder / "skill" / "a.py").write_text("a = 1\n")
    (folder / "notes.txt").write_text("mine\n")
    git(folder, "init", "-q")
    git(folder, "add", ".")
    git(folder, "commit", "-qm", "first")
    return folder


def test_in_a_checkout_git_says_it_with_changes_of_what_is_shipped(checkout: Path) -> None:
    number = git(checkout, "rev-parse", "--short=12", "HEAD")
    assert commit.commit(checkout) == number
    (checkout / "notes.txt").write_text("changed\n")
    assert commit.commit(checkout) == number
    (checkout / "skill" / "new.py").write_text("b = 1\n")
    assert commit.commit(checkout) == f"{number} with changes"
    (checkout / "skill" / "new.py").unlink()
    (checkout / "skill" / "a.py").write_text("a = 2\n")
    assert commit.commit(checkout) == f"{number} with changes"


def test_what_was_written_down_is_not_believed_in_a_checkout(checkout: Path) -> None:
    commit.written(checkout).write_text('{"commit": "000000000000"}')
    assert (commit.commit(checkout) or "").startswith(git(checkout, "rev-parse", "--short=12", "HEAD"))


def test_another_repository_is_not_meant(checkout: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    inside = checkout / ".venv" / "site-packages"
    (inside / "skill").mkdir(parents=True)
    assert commit.commit(inside) is None, "where it is installed is of the repository around it"
    monkeypatch.setenv("GIT_DIR", str(tmp_path / "other" / ".git"))
    assert commit.commit(checkout) is not None, "a hook's repository"


@pytest.mark.parametrize(
    ("text", "says"),
    [('{"commit": "1a2b3c4d5e6f"}', "1a2b3c4d5e6f"), ('{"commit": null}', None), ("[]", None), ("", None)],
)
def test_elsewhere_the_build_has_written_it_down(text: str, says: str | None, tmp_path: Path) -> None:
    (tmp_path / "skill").mkdir()
    assert commit.commit(tmp_path) is None
    commit.written(tmp_path).write_text(text)
    assert commit.commit(tmp_path) == says


def test_without_git_nobody_knows(checkout: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert commit.commit(checkout) is None
