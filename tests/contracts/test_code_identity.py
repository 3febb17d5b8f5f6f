"""Which code lies in a directory, by a real git and without one."""

from __future__ import annotations

import json
import os
import subprocess
from functools import partial
from pathlib import Path

import pytest

from queue_manager import code_watch
from queue_manager.adapters import code_identity
from queue_manager.adapters.code_identity import UnknownCodeError, identify, newest_source
from queue_manager.adapters.existing import OutputTest
from queue_manager.core.boundary import CodeReading
from queue_manager.core.manifest import JobSpec
from queue_manager.core.model import QueueState
from queue_manager.remote import pushed_code
from skill.runs import local_code
from tests.core.states import manifest, spec
from tests.e2e.runs import wait_for


def git(folder: Path, *arguments: str) -> str:
    names = ("-c", "user.name=n", "-c", "user.email=e@example.com", "-c", "commit.gpgsign=false")
    environment = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    return subprocess.run(
        ["git", *names, *arguments], cwd=folder, env=environment, check=True, capture_output=True, text=True
    ).stdout.strip()


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A repository with one commit, whose jobs write out/."""
    (tmp_path / "sub").mkdir()
    (tmp_path / "out").mkdir()
    for name in ("train.py", "sub/model.py", "out/a.json"):
        (tmp_path / name).write_text("1\n")
    git(tmp_path, "init", "-q")
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "-q", "-m", "first")
    return tmp_path


def nothing(_path: str) -> bool:
    return False


def outputs(folder: Path) -> OutputTest:
    return OutputTest(str(folder)).of(lambda: [JobSpec("a", "x", "p", expected_output="out/*.json")])


def test_a_repository_is_known_by_its_commit_and_by_what_is_changed(project: Path) -> None:
    head = git(project, "rev-parse", "HEAD")[:12]
    assert identify(str(project), nothing) == head
    (project / "train.py").write_text("2\n")
    changed = identify(str(project / "sub"), nothing)  # from below it is the same tree
    assert changed is not None
    assert changed.startswith(f"{head}+")
    (project / "train.py").write_text("3\n")
    assert identify(str(project), nothing) not in (head, changed)
    (project / "train.py").write_text("2\n")
    assert identify(str(project), nothing) == changed
    (project / "train.py").unlink()
    assert identify(str(project), nothing) not in (head, changed)
    git(project, "checkout", "-q", "train.py")
    assert identify(str(project), nothing) == head


def test_a_repository_around_code_that_it_does_not_track_is_another_matter(project: Path) -> None:
    (project / "workspace").mkdir()
    (project / "workspace" / "train.py").write_text("1\n")
    assert (identify(str(project / "workspace"), nothing) or "").startswith("files:")


def test_what_jobs_write_is_no_code_though_git_tracks_it(project: Path) -> None:
    before = identify(str(project), outputs(project))
    (project / "out" / "a.json").write_text("2\n")
    assert identify(str(project), outputs(project)) == before
    assert identify(str(project), nothing) != before


def test_it_takes_no_lock_of_the_repository_and_writes_nothing_into_it(project: Path) -> None:
    index = project / ".git" / "index"
    os.utime(project / "train.py", (1, 1))  # git would note that the file was looked at
    before = index.read_bytes()
    (project / ".git" / "index.lock").touch()
    assert identify(str(project), nothing) is not None
    assert index.read_bytes() == before


def test_without_a_repository_the_source_files_are_the_code(tmp_path: Path) -> None:
    for name in ("train.py", "lib/deep/model.py", "result.json", "log.txt", ".hidden/x.py", "__pycache__/x.py"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("1\n")
    before = identify(str(tmp_path), nothing)
    assert before is not None
    assert before.startswith("files:")
    for name in ("result.json", "log.txt", ".hidden/x.py", "__pycache__/x.py"):
        (tmp_path / name).write_text("2\n")
    assert identify(str(tmp_path), nothing) == before
    (tmp_path / "lib" / "deep" / "model.py").write_text("2\n")
    assert identify(str(tmp_path), nothing) != before
    assert identify(str(tmp_path / "absent"), nothing) is None


def test_git_is_asked_wherever_it_would_find_a_repository_and_nowhere_else(
    project: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    head, elsewhere = git(project, "rev-parse", "HEAD")[:12], tmp_path_factory.mktemp("elsewhere")
    git(project, "worktree", "add", "-q", "--detach", str(elsewhere / "tree"))  # its .git is a file
    (elsewhere / "link").symlink_to(project / "sub")
    assert identify(str(elsewhere / "tree" / "sub"), nothing) == identify(str(elsewhere / "link"), nothing) == head
    monkeypatch.setattr(subprocess, "run", lambda *_argv, **_options: pytest.fail("a process where no repository is"))
    (elsewhere / "train.py").write_text("1\n")
    assert (identify(str(elsewhere), nothing) or "").startswith("files:")


def test_a_copy_has_the_name_of_what_was_pushed_until_it_is_changed(tmp_path: Path) -> None:
    (tmp_path / "train.py").write_text("1\n")
    content = pushed_code.identify(str(tmp_path), nothing)
    assert content is not None
    for name in ("3f9c2d1a7b0e", "3f9c2d1a7b0e+5b21c09e"):
        pushed_code.note(str(tmp_path), name)
        assert pushed_code.identify(str(tmp_path), nothing) == name
    pushed_code.note(str(tmp_path), "$(anything)")
    assert pushed_code.identify(str(tmp_path), nothing) == name
    (tmp_path / "train.py").write_text("2\n")
    assert (pushed_code.identify(str(tmp_path), nothing) or "").startswith("files:")
    (tmp_path / "train.py").write_text("1\n")
    (tmp_path / ".wavequeue" / "pushed_code.json").write_text(json.dumps({content: "\33[2J", "x": 3}))
    assert pushed_code.identify(str(tmp_path), nothing) == content
    (tmp_path / ".wavequeue" / "pushed_code.json").unlink()
    os.mkfifo(tmp_path / ".wavequeue" / "pushed_code.json")
    assert pushed_code.identify(str(tmp_path), nothing) == content


def test_what_is_edited_after_a_launch_is_not_what_the_attempt_ran(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(code_watch, "AT_LAUNCH", 60.0)
    (tmp_path / "train.py").write_text("1\n")
    watch = code_watch.CodeWatch(QueueState(manifest(spec("a"))), {}, str(tmp_path), 100.0, lambda: None)

    def looked(now: float) -> CodeReading:
        found: CodeReading = wait_for(lambda: watch.look(now), say="a look at the code")
        return found

    first = watch.at_launch(100.0)
    assert first is not None
    assert looked(100.1) == CodeReading(first, 0.0)
    assert watch.at_launch(100.2) == first, "looked at a moment ago"
    assert watch.due() == 100.5
    assert looked(100.6).name == first
    (tmp_path / "train.py").write_text("2\n")
    second = watch.at_launch(200.0)
    assert second not in (None, first)
    # What began at 100.0 and a little later began before 100.6, when the code was still the first.
    assert looked(200.1) == CodeReading(second, 100.6)


def test_what_the_last_jobs_ran_is_looked_at_when_the_run_ends(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The look before was a moment ago, and the next would come after the end."""
    monkeypatch.setattr(code_watch, "AT_LAUNCH", 60.0)
    (tmp_path / "train.py").write_text("1\n")
    watch = code_watch.CodeWatch(QueueState(manifest(spec("a"))), {}, str(tmp_path), 100.0, lambda: None)
    first = watch.at_launch(100.0)
    wait_for(lambda: watch.look(100.1), say="a look at the code")
    (tmp_path / "train.py").write_text("2\n")
    watch.at_launch(101.0)
    found = watch.at_end(101.2)
    assert found is not None
    assert found.name not in (None, first)
    assert found.since == 100.0
    assert watch.at_end(101.3) is None, "nothing was launched since"


def test_what_would_take_too_long_is_unknown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "train.py").write_text("1\n")
    assert identify(str(tmp_path), nothing, patience=-1.0) is None
    (tmp_path / "large.py").write_bytes(b"x" * 100)
    monkeypatch.setattr(code_identity, "MOST_BYTES", 50)
    assert identify(str(tmp_path), nothing) is None


def test_the_newest_source_is_found_past_what_jobs_write(project: Path) -> None:
    for number, name in enumerate(("train.py", "sub/model.py", "out/a.json")):
        os.utime(project / name, (1000 + number, 1000 + number))
    (project / "untracked.py").write_text("no code of this repository\n")
    found = newest_source([str(project)], outputs(project))
    assert found == (str(project / "sub" / "model.py"), 1001.0)
    assert newest_source([str(project / "out")], outputs(project)) == ("", 0.0)
    assert newest_source([str(project)], outputs(project), patience=-1.0) is None


def test_what_git_refuses_to_tell_is_reported_in_its_own_words(
    project: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    (project / ".git" / "index").write_bytes(b"broken")
    with pytest.raises(UnknownCodeError, match=r"cannot be identified: git says .*index file"):
        identify(str(project), nothing)
    with pytest.raises(UnknownCodeError, match="git says"):
        newest_source([str(project)], nothing)
    # As a repository of another user ("dubious ownership"), whose words are several lines.
    tools = tmp_path_factory.mktemp("bin")
    (tools / "git").write_text(
        "#!/bin/sh\necho \"fatal: detected dubious ownership in repository at '/x'\" >&2\n"
        "echo 'To add an exception for this directory, call:' >&2\necho >&2\n"
        "echo 'git config --global --add safe.directory /x' >&2\nexit 128\n"
    )
    (tools / "git").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tools}:{os.environ['PATH']}")
    with pytest.raises(UnknownCodeError, match=r"dubious ownership .* safe\.directory /x$"):
        identify(str(project), nothing)
    assert local_code.name(project) is None
    monkeypatch.setenv("PATH", str(tools.parent / "none"))
    assert (identify(str(project), nothing) or "").startswith("files:"), "no git is no refusal"
    assert not local_code.is_commit(local_code.name(project) or ""), "a host finds this name by itself"


def test_a_manager_logs_once_why_the_code_is_unknown(project: Path, caplog: pytest.LogCaptureFixture) -> None:
    (project / ".git" / "index").write_bytes(b"broken")
    watch = code_watch.CodeWatch(QueueState(manifest(spec("a"))), {}, str(project), 0.0, lambda: None)

    def answer(now: float) -> CodeReading:
        assert watch.look(now) is None
        found = wait_for(partial(watch.look, now), say="the answer")
        assert isinstance(found, CodeReading)
        return found

    assert answer(1.0).name is None
    watch.at_launch(100.0)
    wait_for(lambda: watch.look(100.0), say="the next answer")
    assert ["git says" in record.getMessage() for record in caplog.records] == [True]
