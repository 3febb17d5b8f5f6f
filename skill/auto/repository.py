"""What a campaign needs of the user's repository before it begins: where it is, what is uncommitted, and the commit
that the baseline runs. The checkout and the index of the user are only read."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from skill.auto import gate, git
from skill.auto.config import Scope
from skill.auto.source import branch_of, commit_tree
from skill.common.errors import FailedError, UseError

ANCHOR = "anchor"
"""The last part of the branch that keeps the commit of the baseline."""


class Repository(NamedTuple):
    """`root`: its directory; `subdir`: where in it a program lies."""

    root: Path
    subdir: str


def find(directory: Path) -> Repository:
    """The repository that a directory lies in. Raises UseError where there is none, or none with a commit."""
    if not directory.is_dir():
        raise UseError(f"there is no directory {directory}")
    try:
        root = Path(git.text("rev-parse", "--show-toplevel", cwd=directory))
    except FailedError as error:
        if "not a git repository" not in str(error):
            raise UseError(str(error)) from None
        raise UseError(
            f"{directory} is in no git repository; make one: git init && git add . && git commit -m 'Begin'"
        ) from None
    try:
        git.text("rev-parse", "--verify", "--quiet", "HEAD^{commit}", cwd=root)
    except FailedError:
        raise UseError(f"{root} has no commit yet; make one: git add . && git commit -m 'Begin'") from None
    return Repository(root, os.path.relpath(directory.resolve(), root.resolve()))


def uncommitted(root: Path, scope: Scope, aside: Path) -> list[str]:
    """The files in `scope.editable` that differ from HEAD or are new, but for what lies in the directory `aside`.
    Raises FailedError."""
    listed = git.paths("status", "--porcelain", "-z", "--no-renames", "--untracked-files=all", cwd=root)
    inside = os.path.relpath(aside.resolve(), root.resolve())
    names = [entry[3:] for entry in listed]
    return [name for name in names if gate.covers(scope.editable, name) and not gate.covers((inside,), name)]


def files(root: Path, commit: str) -> list[str]:
    """The files of a commit. Raises FailedError."""
    return git.paths("ls-tree", "-r", "-z", "--name-only", commit, cwd=root)


def make_anchor(root: Path, name: str, included: Sequence[str]) -> str:
    """Commit HEAD, with the present content of the files `included`, as the anchor of a campaign on its branch. The
    commit. Raises FailedError."""
    commit = git.text("rev-parse", "--verify", "HEAD^{commit}", cwd=root)
    if included:
        with tempfile.TemporaryDirectory(prefix="wq-index-") as made:
            environment = {"GIT_INDEX_FILE": str(Path(made) / "index")}
            git.run("read-tree", commit, cwd=root, environment=environment)
            words = "\0".join(f":(literal,top){name}" for name in included).encode(errors="surrogateescape")
            git.run(
                "add", "--all", "--pathspec-from-file=-", "--pathspec-file-nul", cwd=root, environment=environment,
                given=words,
            )  # fmt: skip
            tree = git.text("write-tree", cwd=root, environment=environment)
        commit = commit_tree(root, tree, commit, f"Anchor of campaign {name}")
    git.run("update-ref", f"refs/heads/{branch_of(name, ANCHOR)}", commit, cwd=root)
    return commit


def has_branches(root: Path, name: str) -> bool:
    """Whether there are branches of a campaign of this name. Raises FailedError."""
    return bool(git.run("for-each-ref", "--count=1", f"refs/heads/wq/{name}/", cwd=root))


def delete_branch(root: Path, name: str, node: str) -> None:
    """Delete a branch of a campaign, if it is there. Raises FailedError."""
    git.run("update-ref", "-d", f"refs/heads/{branch_of(name, node)}", cwd=root)


def move_anchor(root: Path, name: str, commit: str) -> None:
    """Let another commit be the anchor of a campaign. Raises FailedError."""
    git.run("update-ref", f"refs/heads/{branch_of(name, ANCHOR)}", commit, cwd=root)
