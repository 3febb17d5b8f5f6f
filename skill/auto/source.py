"""Worktrees and branches for the nodes of a campaign, and the gate that edits pass. The user's checkout and index are
never touched.

An edit is judged by an index of our own, so that what an agent did to that of its worktree (staged, committed, hidden
files) does not matter. A commit depends on its content and on its parent alone: made again, it is the same one.
"""

from __future__ import annotations

import contextlib
import functools
import os
import shutil
import tempfile
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Literal, get_args

from skill.auto import gate, git, process
from skill.auto.config import Config
from skill.auto.layout import WorkDir
from skill.auto.ports import Accepted, Refused
from skill.common import files
from skill.common.errors import FailedError

CHECK_TIMEOUT = 3600.0
"""Seconds that `launch.check` and `launch.build` may take."""
_MOST_SHOWN = 2000
_Command = Literal["build", "check"]
_COMMANDS: tuple[_Command, ...] = get_args(_Command)


class GitSource:
    """The worktrees of one campaign, `code/NODE`, on the branches `wq/CAMPAIGN/NODE` of the user's repository."""

    def __init__(self, config: Config, workdir: WorkDir) -> None:
        self._config, self._workdir = config, workdir
        self._repo = Path(config.repo)

    def directory(self, node: str) -> Path:
        return self._workdir.code / node

    def branch(self, node: str) -> str:
        return branch_of(self._config.name, node)

    def prepare(self, node: str, base: str) -> Path:
        """Give a node a clean worktree at commit `base`, on its branch. What was there and not accepted is dropped.
        Raises FailedError."""
        self.remove(node)
        files.make_directory(self._workdir.code)
        path = self.directory(node)
        self._unlock(node)
        git.run("worktree", "add", "--quiet", "--force", "-B", self.branch(node), str(path), base, cwd=self._repo)
        return path

    def gate(self, node: str, base: str, stop: threading.Event) -> Accepted | Refused:
        """Check what was edited in the worktree against the scope, run `launch.check`, and commit it. Once `stop` is
        set, the check is killed. Raises FailedError, also for that."""
        path = self.directory(node)
        with self._own_index(path) as environment:
            git.run("read-tree", base, cwd=path, environment=environment)
            git.run("add", "--all", ".", cwd=path, environment=environment)
            changes = _changes(base, path, environment)
            if reason := gate.refusal(changes, self._config.scope):
                return Refused(reason)
            tree = git.text("write-tree", cwd=path, environment=environment)
        if (command := self._config.launch.check) and (reason := self._check(command, path, stop)):
            return Refused(reason)
        commit = commit_tree(self._repo, tree, base, f"Node {node} of campaign {self._config.name}")
        self._unlock(node)
        git.run("update-ref", f"refs/heads/{self.branch(node)}", commit, cwd=self._repo)
        self._clean(node, commit)
        lines = [(one.added or 0, one.removed or 0) for one in changes]
        added, removed = (sum(column) for column in zip(*lines, strict=True))
        return Accepted(commit, tree, tuple(one.path for one in changes), added, removed)

    def tree(self, commit: str) -> str:
        """The hash of the content of a commit. Raises FailedError."""
        return git.text("rev-parse", "--verify", "--quiet", f"{commit}^{{tree}}", cwd=self._repo)

    def altered(self, node: str, commit: str) -> list[str]:
        """The protected files of a node's worktree that are not as they are in `commit`. Raises FailedError."""
        path = self.directory(node)
        with self._own_index(path) as environment:
            git.run("read-tree", commit, cwd=path, environment=environment)
            differ = git.paths(
                "diff", "--name-only", "-z", "--no-renames", "--no-ext-diff", commit, "--", cwd=path,
                environment=environment,
            )  # fmt: skip
        return [name for name in differ if gate.covers(self._config.scope.protected, name)]

    def diff(self, base: str, commit: str) -> str:
        """What an edit changed, as a patch. Raises FailedError."""
        return git.text("diff", "--no-ext-diff", "--no-renames", "--no-color", base, commit, "--", cwd=self._repo)

    def remove(self, node: str) -> None:
        """Take a node's worktree away; its branch stays. Raises FailedError."""
        path = self.directory(node)
        if not path.exists() and self._git_dir(path) is None:
            return
        if path.exists():
            shutil.rmtree(path)
        if (made := self._git_dir(path)) is not None:
            shutil.rmtree(made)

    def _clean(self, node: str, commit: str) -> None:
        """Make the worktree of a node what its commit holds, and nothing else."""
        path = self.directory(node)
        environment = self._environment(path)
        for name in ("index", "index.lock", "HEAD.lock"):
            (Path(environment["GIT_DIR"]) / name).unlink(missing_ok=True)
        git.run("symbolic-ref", "HEAD", f"refs/heads/{self.branch(node)}", cwd=path, environment=environment)
        git.run("reset", "--quiet", "--hard", commit, cwd=path, environment=environment)
        git.run("clean", "--quiet", "-ffdx", cwd=path, environment=environment)

    def build(self, node: str, stop: threading.Event) -> str | Refused:
        """Run `launch.build` in the node's worktree; the last line that it prints. Once `stop` is set, it is killed.
        Raises FailedError, also for that."""
        command = self._config.launch.build
        assert command is not None
        ended = self._run(command, self.directory(node), stop, "build")
        if isinstance(ended, str):
            return Refused(ended)
        lines = [line.strip() for line in ended.output.splitlines() if line.strip()]
        return lines[-1] if lines else ""

    def end_leftovers(self) -> None:
        """Kill the builds and checks of a loop that was killed, with all that they started."""
        for what in _COMMANDS:
            process.kill_marked(f"{what} {self._workdir.code.resolve()}/")

    def _check(self, command: str, path: Path, stop: threading.Event) -> str | None:
        """Run the user's check in a worktree; why it did not pass."""
        ended = self._run(command, path, stop, "check")
        return ended if isinstance(ended, str) else None

    def _run(self, command: str, path: Path, stop: threading.Event, what: _Command) -> process.Ended | str:
        """Run a command of the user's in a worktree; why it failed, where it did."""
        environment = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
        ended = process.run(
            ("bash", "-c", command), cwd=path / self._config.subdir, environment=environment,
            mark=f"{what} {path.resolve()}/", timeout=CHECK_TIMEOUT, stop=stop,
        )  # fmt: skip
        if ended.how == "stopped":
            raise FailedError(f"the {what} was ended because the loop stops")
        if ended.how == "timeout":
            return f"the {what} `{command}` took longer than {CHECK_TIMEOUT:g} s"
        if ended.code != 0:
            shown = (ended.output + ended.errors).strip()[-_MOST_SHOWN:]
            return f"the {what} `{command}` failed with exit code {ended.code}:\n{shown}"
        return ended

    @contextlib.contextmanager
    def _own_index(self, path: Path) -> Iterator[dict[str, str]]:
        """The environment in which git knows a worktree by an index that is made for this purpose."""
        with tempfile.TemporaryDirectory(prefix="wq-index-") as made:
            yield {**self._environment(path), "GIT_INDEX_FILE": str(Path(made) / "index")}

    def _environment(self, path: Path) -> dict[str, str]:
        """Where git has to look, whatever was done to `.git` in the worktree: it would search the directories above."""
        made = self._git_dir(path)
        if made is None or not path.is_dir():
            raise FailedError(f"{path} is no worktree of {self._repo} any longer")
        return {"GIT_DIR": str(made), "GIT_WORK_TREE": str(path)}

    def _git_dir(self, path: Path) -> Path | None:
        """Where the repository keeps a worktree."""
        for entry in sorted((self._common_dir / "worktrees").glob("*/gitdir")):
            with contextlib.suppress(OSError, UnicodeDecodeError):
                # git 2.48 may write it relative to its own place
                link = entry.parent / entry.read_text(encoding="utf-8").strip()
                if os.path.realpath(link) == os.path.realpath(path / ".git"):
                    return entry.parent
        return None

    @functools.cached_property
    def _common_dir(self) -> Path:
        """What the repository shares with its worktrees; that of a path does not change."""
        found = git.text("rev-parse", "--git-common-dir", cwd=self._repo)
        return (self._repo / found).resolve()

    def _unlock(self, node: str) -> None:
        """Remove the lock that a git which was killed left on the branch of a node; nobody else writes to it."""
        (self._common_dir / "refs" / "heads" / f"{self.branch(node)}.lock").unlink(missing_ok=True)


def branch_of(campaign: str, node: str) -> str:
    """The branch of a node."""
    return f"wq/{campaign}/{node}"


def commit_tree(repo: Path, tree: str, parent: str, subject: str) -> str:
    """Commit a tree, on no branch, with its parent's date. Raises FailedError."""
    date = git.text("show", "--no-patch", "--format=%cI", parent, cwd=repo)
    environment = {**git.AUTHOR, "GIT_AUTHOR_DATE": date, "GIT_COMMITTER_DATE": date}
    return git.text("commit-tree", tree, "-p", parent, "-m", subject, cwd=repo, environment=environment)


def _changes(base: str, path: Path, environment: Mapping[str, str]) -> list[gate.Change]:
    """What the index holds and `base` does not, file by file."""
    options = ("-z", "--cached", "--no-renames", "--no-ext-diff", "--ignore-submodules=none", base, "--")
    raw = git.paths("diff", "--raw", "--no-abbrev", *options, cwd=path, environment=environment)
    heads = {name: head.split() for head, name in zip(raw[::2], raw[1::2], strict=True)}
    blobs = {name: head[3] for name, head in heads.items() if head[1] not in (gate.GONE, gate.REPOSITORY)}
    asked = "".join(f"{blob}\n" for blob in blobs.values()).encode()
    sizes_text = git.run("cat-file", "--batch-check=%(objectsize)", cwd=path, environment=environment, given=asked)
    sizes = dict(zip(blobs, map(int, sizes_text.split()), strict=True))
    changes = []
    for line in git.paths("diff", "--numstat", *options, cwd=path, environment=environment):
        added, removed, name = line.split("\t", 2)
        gained, lost = (None, None) if added == "-" else (int(added), int(removed))
        changes.append(gate.Change(name, heads[name][1], gained, lost, sizes.get(name, 0)))
    return changes
