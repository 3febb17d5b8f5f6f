"""Which files of a project are sent: as git says, nothing where git refuses, and no secrets unasked."""

from __future__ import annotations

import os
import random
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from skill.common.errors import UseError
from skill.transfer import code_files, gitignore
from skill.transfer.git import tracked_files

KEY = "-----BEGIN OPENSSH PRIVATE KEY-----\nb3Bl\n-----END OPENSSH PRIVATE KEY-----\n"


def git(folder: Path, *arguments: str) -> str:
    return subprocess.run(
        ["git", "-C", str(folder), *arguments], check=True, capture_output=True, text=True
    ).stdout.strip()


def write(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text("x")


@pytest.fixture
def no_git(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    empty = tmp_path_factory.mktemp("no programs")
    return lambda: monkeypatch.setenv("PATH", str(empty))


def test_in_a_repository_files_that_are_tracked_or_new_are_sent_and_deleted_ones_are_not(tmp_path: Path) -> None:
    git(tmp_path, "init", "-q")
    write(tmp_path, "tracked.py", "deleted.py", "made.o")
    (tmp_path / ".gitignore").write_text("*.o\n")
    git(tmp_path, "add", ".")
    (tmp_path / "deleted.py").unlink()
    write(tmp_path, "new.py", "inner/x.py")
    git(tmp_path / "inner", "init", "-q")
    assert code_files.select(tmp_path) == [".gitignore", "inner/x.py", "new.py", "tracked.py"]
    assert sorted(tracked_files(tmp_path)) == [".gitignore", "deleted.py", "tracked.py"]


def test_a_project_that_a_repository_above_ignores_is_sent_by_its_own_rules(tmp_path: Path) -> None:
    git(tmp_path, "init", "-q")
    (tmp_path / ".gitignore").write_text("scratch\n")
    write(tmp_path, "scratch/a.py", "scratch/b.o")
    (tmp_path / "scratch" / ".gitignore").write_text("*.o\n")
    assert code_files.select(tmp_path / "scratch") == [".gitignore", "a.py"]


# -- where git refuses ------------------------------------------------------------------------------------------------


def kept_here(folder: Path) -> None:
    """A repository that keeps a file here, and sends one in spite of its .gitignore."""
    git(folder, "init", "-q")
    write(folder, "train.py", "mine.txt", "weights.bin")
    (folder / ".gitignore").write_text("*.bin\n")
    (folder / ".git" / "info" / "exclude").write_text("mine.txt\n")
    git(folder, "add", "-f", "weights.bin", "train.py")
    assert code_files.select(folder) == [".gitignore", "train.py", "weights.bin"]


def other_owner(folder: Path) -> None:
    os.chown(folder / ".git", 12345, 12345)  # as root, who runs these tests
    os.chown(folder, 12345, 12345)


def broken_index(folder: Path) -> None:
    (folder / ".git" / "index").write_bytes(b"DIRC\0\0\0\2garbage")


def broken_config(folder: Path) -> None:
    (folder / ".git" / "config").write_text("[core\n")


def no_head(folder: Path) -> None:
    (folder / ".git" / "HEAD").unlink()


def lost_directory(folder: Path) -> None:
    shutil.rmtree(folder / ".git")
    (folder / ".git").write_text("gitdir: /nonexistent/worktrees/x\n")


def unreadable_format(folder: Path) -> None:
    (folder / ".git" / "config").write_text("[core]\n\trepositoryformatversion = 99\n")


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        (other_owner, "dubious ownership.*safe.directory"),
        (broken_index, "index"),
        (broken_config, "bad config"),
        (no_head, r"\.git is there, and git cannot read it|not a git repository"),
        (lost_directory, "not a git repository"),
        (unreadable_format, "version"),
    ],
    ids=lambda value: getattr(value, "__name__", None),
)
def test_where_git_refuses_nothing_is_chosen_and_its_words_are_reported(
    tmp_path: Path, damage: Callable[[Path], None], says: str
) -> None:
    kept_here(tmp_path)
    damage(tmp_path)
    with pytest.raises(UseError, match=f"(?s){says}") as error:
        code_files.choose(tmp_path)
    assert "\n" not in str(error.value)


def test_a_refusal_within_is_one_as_well(tmp_path: Path) -> None:
    git(tmp_path, "init", "-q")
    (tmp_path / "inner").mkdir()
    kept_here(tmp_path / "inner")
    broken_index(tmp_path / "inner")
    with pytest.raises(UseError, match="inner"):
        code_files.select(tmp_path)


# -- without git ------------------------------------------------------------------------------------------------------


def test_without_git_all_files_are_sent(tmp_path: Path, no_git: Callable[[], None]) -> None:
    write(tmp_path, "a.py", "deep/b.py", "__pycache__/c.pyc")
    (tmp_path / "link").symlink_to("deep")
    no_git()
    assert code_files.select(tmp_path) == ["a.py", "deep/b.py", "link"]


LINES = (
    "*.o", "!keep.o", "/top", "data/", "!data/x", "deep/*.py", "**/cache", "a/**/z", "[ab].py", "\\#x", "#x", "", "b.*",
    "!b.o", "*", "!*/", "!*.py", " ", "sub/.gitignore", "logs", "/deep/x.py", "trailing ",
)  # fmt: skip
NAMES = (
    "a.py", "b.py", "b.o", "keep.o", "top", "deep/top", "data/x", "deep/data/x", "deep/x.py", "deep/er/x.py",
    "deep/cache", "a/z", "a/m/n/z", "#x", "logs/1", "deep/keep.o", "sub/b.o", "trailing",
)  # fmt: skip


@pytest.mark.parametrize("seed", range(15))
def test_without_git_the_answer_is_that_of_git(
    tmp_path: Path, seed: int, no_git: Callable[[], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    chance = random.Random(seed)
    project = tmp_path / "project"
    write(project, *(name for name in NAMES if name != "top" or chance.random() < 0.5))
    for folder in (".", "deep", "sub"):
        if chance.random() < 0.8:
            (project / folder / ".gitignore").write_text("\n".join(chance.sample(LINES, 4)) + "\n")
    home = tmp_path / "home"
    (home / ".config" / "git").mkdir(parents=True)
    (home / ".config" / "git" / "ignore").write_text(chance.choice(LINES) + "\n")
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.delenv("XDG_CONFIG_HOME", raising=False)
    if chance.random() < 0.5:
        git(project, "init", "-q")
        (project / ".git" / "info" / "exclude").write_text(chance.choice(LINES) + "\n")
    expected = code_files.select(project)
    no_git()
    assert code_files.select(project) == expected


# -- what stays here --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("exclude", "left"),
    [("data", True), ("*.npy", True), ("/code/data", True), ("code/data/x.npy", True), ("data/x.npy", False),
     ("code/*/x.npy", True), ("x", False), ("code/", True)],
)  # fmt: skip
def test_excludes(exclude: str, left: bool) -> None:
    assert code_files.left_out("code/data/x.npy", [exclude]) is left


def test_a_project_says_what_stays_here_beside_what_git_ignores(tmp_path: Path) -> None:
    write(tmp_path, "train.py", "notes.md", "data/big.bin", "data/small.csv", "old/data/big.bin")
    (tmp_path / ".wavequeueignore").write_text("# not on the host\n*.md\n\n/data/*.bin\n")
    assert code_files.choose(tmp_path).files == [
        ".wavequeueignore",
        "data/small.csv",
        "old/data/big.bin",
        "train.py",
    ]
    (tmp_path / ".wavequeueignore").write_bytes(b"\xff")
    with pytest.raises(UseError, match="cannot be read"):
        code_files.choose(tmp_path)


SECRET = (
    ".env.local", "secrets.env", "deep/prod.env", ".netrc", "conf/credentials.json", "id_ed25519", "ID_RSA",
    "kaggle.json", ".envrc", "service-account-prod.json", "store.p12", "vast_api_key",
)  # fmt: skip
HARMLESS = (
    ".env.example", "secrets.py", "tokenizer.json", "id_ed25519.pub", "credentials.md", "environment.yml", "key.py",
    "tokens.py", "data.key", "ca.pem", "api_key.sh",
)  # fmt: skip


def test_what_looks_like_a_secret_stays_here_and_is_named(tmp_path: Path) -> None:
    write(tmp_path, *SECRET, *HARMLESS)
    for name in ("deploy_key", "server.pem", "big.pem"):
        (tmp_path / name).write_text(KEY)
    (tmp_path / "big.pem").write_text(KEY + "x" * 100_000)  # no key is as large
    chosen = code_files.choose(tmp_path)
    assert chosen.secrets == sorted([*SECRET, "deploy_key", "server.pem"])
    assert chosen.files == sorted([*HARMLESS, "big.pem"])
    words = code_files.left_out_words(chosen.secrets)
    assert ".env.local" in words
    assert "!.env.local" in words


def test_a_secret_that_is_asked_for_by_name_is_sent(tmp_path: Path) -> None:
    write(tmp_path, "secrets.env", "conf/credentials.json", ".env", "a.py")
    (tmp_path / ".wavequeueignore").write_text("!conf/credentials.json\n!.env\n")
    chosen = code_files.choose(tmp_path)
    assert chosen.files == [".wavequeueignore", "a.py", "conf/credentials.json"]  # .env is read here, for the jobs
    assert chosen.secrets == ["secrets.env"]


def test_sizes_are_reported(tmp_path: Path) -> None:
    write(tmp_path, "a.py", "b.py")
    assert code_files.choose(tmp_path).words() == "2 files, 2 bytes"
    with (tmp_path / "big.npy").open("wb") as file:
        file.truncate(3 << 20)
    assert code_files.choose(tmp_path).words() == "3 files, 3.0 MiB; the largest: big.npy 3.0 MiB"


def test_settings_of_git_that_cannot_be_read_are_not_taken_for_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "code").mkdir()
    assert list(gitignore.listing(tmp_path / "code", ())) == []
    (tmp_path / ".gitconfig").write_text("[core\nexcludesfile = ~/secrets-of-mine\n")
    with pytest.raises(UseError, match=r"\.gitconfig cannot be read, so the files to send are unknown"):
        list(gitignore.listing(tmp_path / "code", ()))
