"""Worktrees of nodes and the gate: what passes, what is refused, and that the user's checkout is never touched."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import subprocess
import threading
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from skill.auto import gate, store
from skill.auto.campaign import Record
from skill.auto.config import Config, Launch, Scope
from skill.auto.events import CampaignStopped
from skill.auto.journal import Journal
from skill.auto.layout import WorkDir
from skill.auto.ports import Accepted, Refused
from skill.auto.source import GitSource
from skill.common.errors import FailedError
from skill.operations.auto_run import run_campaign
from tests.auto.world import begun, scripted
from tests.e2e.runs import wait_for

CASES = sorted((Path(__file__).parent.parent / "data" / "gate").glob("*.json"))


@pytest.mark.parametrize("case", CASES, ids=lambda path: path.stem)
def test_the_gate_decides(case: Path) -> None:
    case_data = json.loads(case.read_text())
    scope = Scope(tuple(case_data["editable"]), tuple(case_data["protected"]), case_data["max_lines"])
    reason = gate.refusal([gate.Change(**one) for one in case_data["changes"]], scope)
    if case_data["refused"] is None:
        assert reason is None
    else:
        assert reason is not None
        assert case_data["refused"] in reason


def git(repo: Path, *arguments: str) -> str:
    return subprocess.run(["git", *arguments], cwd=repo, check=True, capture_output=True, text=True).stdout.strip()


@pytest.fixture
def repo(tmp_path: Path) -> Path:
    """A repository with uncommitted changes, staged and not, and a hook that must not run."""
    made = tmp_path / "re po"
    made.mkdir()
    git(made, "init", "-q", "-b", "main")
    git(made, "config", "user.name", "Ann")
    git(made, "config", "user.email", "ann@localhost")
    (made / "train.py").write_text("lr = 1\n")
    (made / "prepare.py").write_text("data = 1\n")
    (made / ".gitignore").write_text("*.log\n")
    (made / "data").mkdir()
    (made / "data" / "set.csv").write_text("1,2\n")
    git(made, "add", ".")
    git(made, "commit", "-q", "-m", "Begin")
    hook = made / ".git" / "hooks" / "post-checkout"
    hook.write_text(f"#!/bin/sh\necho ran >> '{tmp_path / 'hook'}'\n")
    hook.chmod(0o755)
    (made / "notes.txt").write_text("mine\n")
    git(made, "add", "notes.txt")
    (made / "prepare.py").write_text("data = 2\n")
    return made


@pytest.fixture
def base(repo: Path) -> str:
    return git(repo, "rev-parse", "HEAD")


def source(repo: Path, check: str | None = None) -> GitSource:
    config: Config = replace(
        begun(scripted(), repo).config,
        scope=Scope(("train.py", "model/"), ("prepare.py", "data/"), 50),
        launch=Launch("python train.py", {}, check=check),
    )
    return GitSource(config, WorkDir(repo.parent / "work"))


def try_edit(made: GitSource, base: str, node: str = "n001", **texts: str) -> Accepted | Refused:
    path = made.prepare(node, base)
    for name, text in texts.items():
        (path / name.replace("_", ".")).write_text(text)
    return made.gate(node, base, threading.Event())


def test_the_checkout_of_the_user_is_not_touched(repo: Path, base: str, tmp_path: Path) -> None:
    def seen() -> tuple[str, bytes, str, str]:
        index = (repo / ".git" / "index").read_bytes()
        return git(repo, "status", "--porcelain=v2", "--branch"), index, git(repo, "stash", "list"), git(repo, "diff")

    git(repo, "status")  # writes what it learnt of the files into the index
    before = seen()
    made = source(repo, check="test -f train.py")
    assert isinstance(try_edit(made, base, train_py="lr = 2\n"), Accepted)
    assert isinstance(try_edit(made, base, "n002", prepare_py="x\n"), Refused)
    made.altered("n001", base)
    made.remove("n002")
    assert seen() == before
    assert not (tmp_path / "hook").exists()
    branches = git(repo, "branch", "--format=%(refname:short)").splitlines()
    assert branches == ["main", "wq/moons/n001", "wq/moons/n002"]


def test_an_edit_is_committed_on_its_branch(repo: Path, base: str) -> None:
    made = source(repo)
    found = try_edit(made, base, train_py="lr = 2\nwd = 0\n")
    assert isinstance(found, Accepted)
    assert (found.files, found.added, found.removed) == (("train.py",), 2, 1)
    assert git(repo, "rev-parse", "wq/moons/n001") == found.commit
    assert git(repo, "rev-parse", f"{found.commit}^{{tree}}") == found.tree == made.tree(found.commit)
    assert git(repo, "log", "-1", "--format=%an %P", found.commit) == f"wavequeue {base}"
    assert "+lr = 2" in made.diff(base, found.commit)
    path = made.directory("n001")
    assert git(path, "status", "--porcelain") == ""
    assert git(path, "symbolic-ref", "HEAD") == "refs/heads/wq/moons/n001"
    assert (path / "prepare.py").read_text() == "data = 1\n", "uncommitted changes are not in a node"


def test_the_same_edit_is_the_same_commit(repo: Path, base: str) -> None:
    """A loop that was killed after the commit and before its journal does all of it again."""
    made = source(repo)
    first = try_edit(made, base, train_py="lr = 2\n")
    assert try_edit(made, base, train_py="lr = 2\n") == first
    assert git(repo, "log", "-1", "--format=%cI %aI", "wq/moons/n001") == git(repo, "log", "-1", "--format=%cI %cI")
    again = try_edit(made, base, "n007", train_py="lr = 2\n")
    assert isinstance(first, Accepted)
    assert isinstance(again, Accepted)
    assert again.tree == first.tree, "another node with the same change set is seen by its tree"


def test_what_was_not_accepted_is_dropped(repo: Path, base: str) -> None:
    made = source(repo)
    found = try_edit(made, base, train_py="lr = 3\n", setup_py="x\n")
    assert isinstance(found, Refused)
    assert "setup.py is outside" in found.reason
    path = made.prepare("n001", base)
    assert (path / "train.py").read_text() == "lr = 1\n"
    assert not (path / "setup.py").exists()


def test_files_that_git_ignores_do_not_stay(repo: Path, base: str) -> None:
    found = try_edit(source(repo), base, train_py="lr = 2\n", x_log="a log\n")
    assert isinstance(found, Accepted)
    assert not (source(repo).directory("n001") / "x.log").exists()


def test_what_an_agent_does_with_git_does_not_matter(repo: Path, base: str) -> None:
    made = source(repo)
    path = made.prepare("n001", base)
    (path / "train.py").write_text("lr = 2\n")
    git(path, "checkout", "-q", "-b", "mine")
    git(path, "-c", "user.name=a", "-c", "user.email=a@b", "commit", "-q", "-am", "Mine")
    found = made.gate("n001", base, threading.Event())
    assert isinstance(found, Accepted)
    assert git(repo, "log", "-1", "--format=%s", "wq/moons/n001") == "Node n001 of campaign moons"
    assert git(path, "symbolic-ref", "HEAD") == "refs/heads/wq/moons/n001"


@pytest.mark.parametrize("flag", ["--skip-worktree", "--assume-unchanged"])
def test_a_change_that_is_hidden_from_git_is_seen(flag: str, repo: Path, base: str) -> None:
    made = source(repo)
    path = made.prepare("n001", base)
    git(path, "update-index", flag, "prepare.py")
    (path / "prepare.py").write_text("data = 3\n")
    assert git(path, "status", "--porcelain") == ""
    found = made.gate("n001", base, threading.Event())
    assert isinstance(found, Refused)
    assert "prepare.py is protected" in found.reason
    assert made.altered("n001", base) == ["prepare.py"]


def test_a_worktree_without_its_git_file_is_not_the_repository_above(repo: Path, base: str) -> None:
    """The work directory may lie in the repository: git would find that one, and stage into its index."""
    config = source(repo)._config
    made = GitSource(config, WorkDir(repo / "work"))
    path = made.prepare("n001", base)
    index = (repo / ".git" / "index").read_bytes()
    (path / ".git").unlink()
    (path / "train.py").write_text("lr = 2\n")
    found = made.gate("n001", base, threading.Event())
    assert isinstance(found, Accepted)
    assert found.files == ("train.py",)
    assert (repo / ".git" / "index").read_bytes() == index


def test_a_link_and_a_repository_are_refused(repo: Path, base: str) -> None:
    made = source(repo)
    path = made.prepare("n001", base)
    (path / "train.py").unlink()
    (path / "train.py").symlink_to("/etc/passwd")
    found = made.gate("n001", base, threading.Event())
    assert isinstance(found, Refused)
    assert "train.py is a link" in found.reason
    path = made.prepare("n001", base)
    git(path, "init", "-q", "model")
    (path / "model" / "a.py").write_text("x\n")
    git(path / "model", "add", ".")
    git(path / "model", "-c", "user.name=a", "-c", "user.email=a@b", "commit", "-q", "-m", "x")
    found = made.gate("n001", base, threading.Event())
    assert isinstance(found, Refused)
    assert "model is a link or a repository" in found.reason


def test_protected_files_are_compared_after_the_run(repo: Path, base: str) -> None:
    made = source(repo)
    path = made.prepare("n001", base)
    assert made.altered("n001", base) == []
    (path / "train.py").write_text("not protected\n")
    (path / "data" / "set.csv").write_text("1,3\n")  # of the same size
    (path / "prepare.py").unlink()
    assert made.altered("n001", base) == ["data/set.csv", "prepare.py"]


def test_the_check_has_to_pass(repo: Path, base: str) -> None:
    found = try_edit(source(repo, check="grep -q 'lr = 1' train.py || { echo no lr; exit 4; }"), base, train_py="x\n")
    assert isinstance(found, Refused)
    assert "failed with exit code 4:\nno lr" in found.reason
    found = try_edit(source(repo, check="echo lr > train.py; touch left"), base, train_py="lr = 2\n")
    assert isinstance(found, Accepted)
    path = source(repo).directory("n001")
    assert (path / "train.py").read_text() == "lr = 2\n", "the check changes nothing of what was judged"
    assert not (path / "left").exists()


def test_a_stop_ends_the_check(repo: Path, base: str) -> None:
    made = source(repo, check="sleep 600")
    (made.prepare("n001", base) / "train.py").write_text("lr = 2\n")
    stop = threading.Event()
    stop.set()
    with pytest.raises(FailedError, match="the loop stops"):
        made.gate("n001", base, stop)


@pytest.mark.parametrize("what", ["build", "check"])
def test_a_build_or_a_check_of_a_loop_that_was_killed_is_ended(what: str, repo: Path, base: str) -> None:
    """It goes on after its loop, and the loop that resumes begins another in the same worktree."""
    said = repo.parent / "said"
    command = f"echo it runs > {shlex.quote(str(said))}; sleep 600"
    config = replace(source(repo)._config, launch=Launch("true", {}, **{what: command}))
    work, other = WorkDir(repo.parent / "work"), WorkDir(repo.parent / "wo")
    made = GitSource(config, work)
    (made.prepare("n001", base) / "train.py").write_text("lr = 2\n")
    stop, ended = threading.Event(), []

    def run() -> None:
        ended.append(made.build("n001", stop) if what == "build" else made.gate("n001", base, stop))

    running = threading.Thread(target=run)
    running.start()
    try:
        wait_for(lambda: said.exists() and said.read_text() == "it runs\n", say=f"the {what} to run")
        GitSource(config, other).end_leftovers()
        assert running.is_alive()
        store.begin(work, config)
        with closing(Journal(work.journal, work.journal.stat().st_size)) as journal:
            journal.append([Record(2, 0.0, CampaignStopped("max_nodes", "enough"))])
        run_campaign(work.root)
        wait_for(lambda: ended, say=f"the {what} to end")
    finally:
        stop.set()
        running.join()
    (found,) = ended
    assert isinstance(found, Refused)
    assert re.search("exit code (-9|137)", found.reason), found.reason


def test_locks_that_a_killed_git_left_are_removed(repo: Path, base: str) -> None:
    made = source(repo)
    assert isinstance(try_edit(made, base, train_py="lr = 2\n"), Accepted)
    locks = [
        repo / ".git" / "refs/heads/wq/moons/n001.lock",
        repo / ".git" / "worktrees/n001/index.lock",
        repo / ".git" / "worktrees/n001/HEAD.lock",
    ]
    for lock in locks:
        lock.touch()
    (made.directory("n001") / "train.py").write_text("lr = 3\n")
    assert isinstance(made.gate("n001", base, threading.Event()), Accepted)
    locks[0].touch()
    assert (made.prepare("n001", base) / "train.py").read_text() == "lr = 1\n"


def test_a_worktree_that_was_deleted_by_hand_comes_back(repo: Path, base: str) -> None:
    made = source(repo)
    shutil.rmtree(made.prepare("n001", base))
    with pytest.raises(FailedError, match="no worktree of"):
        made.gate("n001", base, threading.Event())
    assert (made.prepare("n001", base) / "train.py").exists()
    made.remove("n001")
    made.remove("n001")
    assert not made.directory("n001").exists()
    assert "n001" not in git(repo, "worktree", "list")
