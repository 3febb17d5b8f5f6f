"""The verbs about all runs: ls, rm, gc."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from queue_manager.core import events as ev
from queue_manager.core.layout import HostPaths
from queue_manager.core.times import iso
from skill.cli import main
from skill.common.errors import DONE, USE
from skill.operations import list_runs
from skill.runs import assignment, directory, local_manager, state_cache
from skill.runs.assignment import Assigned, Part
from skill.runs.directory import Run
from skill.runs.state_cache import HostSnapshot
from tests.skill.story import Story, job, manifest

Command = Callable[..., int]


@pytest.fixture(autouse=True)
def work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory to stand in, and a home."""
    for name in ("home", "work"):
        (tmp_path / name).mkdir()
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path / "work")
    return tmp_path / "work"


def wavequeue(*arguments: str) -> int:
    return main.main(list(arguments))


def story(name: str, folder: Path | None = None, age: float = 0.0) -> Story:
    """A run on disk with the jobs a and b, made `age` seconds ago; write what is told of it."""
    folder = folder or Path.cwd()
    run = directory.create(name, folder, HostPaths.of(Path.home()), time.time() - age)
    made = Story(manifest(job("a"), job("b")), run.root)
    made.write()
    os.utime(run.paths.manifest, (time.time() - age,) * 2)
    return made


def finished(name: str, age: float = 0.0, folder: Path | None = None) -> Run:
    """A run that finished `age` seconds ago."""
    made = story(name, folder, age)
    made.complete("a", "b").tell(ev.RunFinished())
    made.write("finished")
    document = json.loads(made.paths.state.read_text())
    document["meta"]["finished"] = iso(time.time() - age)
    made.paths.state.write_text(json.dumps(document))
    os.utime(made.paths.manifest, (time.time() - age,) * 2)
    return Run.at(made.paths.root)


def on_hosts(name: str, manager: str | None = None) -> Run:
    """A run whose job a is on gpu-a; `manager`: how it was when it was last read, None if it never was."""
    run = finished(name)
    recorded = Story(manifest(job("a")), run.root)
    recorded.complete("a")
    document: dict[str, Any] = recorded.document(manager or "finished")
    part = Part("gpu-a", ("a",), "submitted", "~/w", "~/w", python="python3", runtime="x")
    run.paths.manifest.write_text((run.paths.manifest).read_text())
    assignment.write(run, Assigned(run.id, "demo", "sha", iso(time.time()) or "", str(Path.cwd()), (part,)))
    if manager is not None:
        snapshot = HostSnapshot(document, manager == "running")
        state_cache.keep(assignment.host_folder(run, "gpu-a"), snapshot, time.time() - 90)
    return run


def with_results(name: str) -> Run:
    """A run in whose own directory results are."""
    run = finished(name)
    (run.root / "results").mkdir()
    (run.root / "results" / "a.json").write_text("{}")
    return run


def listed() -> dict[str, list_runs.ListedRun]:
    return {directory.title(row.run.id): row for row in list_runs.list_runs(everything=True).runs}


def test_runs_are_listed_with_how_they_stand_the_newest_first(work: Path) -> None:
    (work.parent / "else").mkdir()
    finished("old", age=900, folder=work.parent / "else")
    stuck = story("stuck", age=600).complete("a").start("b").end("b", "stuck", error="boom")
    os.utime(stuck.write().manifest, (time.time() - 600,) * 2)
    finished("new", age=300)
    rows = list_runs.list_runs().runs
    assert [directory.title(row.run.id) for row in rows] == ["new", "stuck", "old"]
    assert [row.status for row in rows] == ["finished", "died", "finished"]
    assert rows[1].counts == {"completed": 1, "stuck": 1}
    assert {row.hosts for row in rows} == {()}


def test_a_broken_run_is_named_and_the_others_are_shown(capsys: pytest.CaptureFixture[str]) -> None:
    run, bad = finished("good"), finished("bad")
    bad.paths.state.write_text("{")
    left = run.root.with_name("left-20260101-000000")
    left.mkdir()
    assert wavequeue("ls") == DONE
    shown = capsys.readouterr()
    assert "bad-" in shown.err
    assert "cannot be read" in shown.err
    assert "left-20260101-000000 cannot be read: it has no manifest.json" in shown.err
    assert f"{run.id}  here   finished  2/2" in shown.out
    assert wavequeue("ls", "--json") == DONE
    rows = {row["name"]: row for row in json.loads(capsys.readouterr().out)["runs"]}
    assert rows["bad"]["status"] == rows["left"]["status"] == "broken"
    assert (rows["good"]["status"], rows["good"]["counts"], rows["good"]["fault"]) == (
        "finished",
        {"completed": 2},
        None,
    )


def test_hosts_are_shown_as_they_were_last_seen() -> None:
    on_hosts("never")
    on_hosts("going", "running")
    rows = listed()
    assert (rows["never"].status, rows["never"].seen_s, rows["never"].hosts) == ("unknown", None, ("gpu-a",))
    assert rows["going"].status == "running"
    assert 80 < (rows["going"].seen_s or 0) < 1000


def test_older_runs_are_counted_and_those_that_go_on_are_always_shown(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(list_runs, "SHOWN", 2)
    for number in range(4):
        finished(f"r{number}", age=100 * number)
    assert wavequeue("ls") == DONE
    shown = capsys.readouterr().out
    assert "r1-" in shown
    assert "r2-" not in shown
    assert "and 2 older runs: wavequeue ls --all" in shown
    assert len(listed()) == 4


def test_a_run_that_has_ended_is_removed_with_its_names_and_nothing_else(capsys: pytest.CaptureFixture[str]) -> None:
    run, other = finished("gone"), finished("stays")
    Path("result.json").write_text("{}")
    assert wavequeue("rm", "gone") == USE, "nobody is there to ask"
    assert "add --yes" in capsys.readouterr().err
    assert run.root.exists()
    assert wavequeue("rm", "gone", "--yes", "--json") == DONE
    assert [row["run_id"] for row in json.loads(capsys.readouterr().out)["removed"]] == [run.id]
    assert sorted(path.name for path in run.root.parent.iterdir()) == [".gitignore", other.id]
    assert os.listdir(HostPaths.of(Path.home()).runs) == [other.id]
    assert Path("result.json").exists()


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: on_hosts("x", "running"), "it is not known to have ended on gpu-a (running"),
        (lambda: on_hosts("x"), "it is not known to have ended on gpu-a (never asked)"),
        (lambda: on_hosts("x", "finished"), "gpu-a: nothing of it was pulled yet; pull: wavequeue pull --run x-"),
        (lambda: with_results("x"), "its results were pulled into its own directory; move them away first: "),
    ],
)
def test_a_run_whose_results_are_not_here_is_kept(
    make: Callable[[], Run], says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    run = make()
    assert wavequeue("rm", "x", "--yes") == USE
    assert says in capsys.readouterr().err
    wavequeue("gc", "--older", "1s", "--yes")
    assert run.paths.manifest.exists()


def test_a_live_run_and_one_that_cannot_be_read_are_kept(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    bad = finished("bad", age=9000)
    bad.paths.state.write_text("{")
    assert wavequeue("rm", "bad", "--yes") == USE
    assert f"delete its directory yourself: {bad.root}" in capsys.readouterr().err
    going = story("left").start("a")
    going.write()
    monkeypatch.setattr(local_manager, "note_gone", lambda _document: None)
    assert wavequeue("rm", "left", "--yes") == USE
    assert "1 of its jobs may still be running" in capsys.readouterr().err
    live = finished("live", age=9000)
    monkeypatch.setattr(local_manager, "is_alive", lambda run: run.root == live.root)
    assert wavequeue("rm", "live", "bad", "--yes") == USE
    assert "is not removed: it is live" in capsys.readouterr().err
    assert wavequeue("gc", "--older", "1h", "--yes") == DONE
    assert {path.name for path in live.root.parent.iterdir()} >= {live.id, bad.id}


def test_gc_removes_what_ended_long_ago_and_shows_it_first(capsys: pytest.CaptureFixture[str]) -> None:
    old, new = finished("old", age=40 * 86400), finished("new", age=86400)
    (old.root / "big").write_bytes(b"x" * 3_000_000)
    assert wavequeue("gc") == USE, "nobody is there to ask"
    shown = capsys.readouterr().out
    assert f"{old.id}  2.9 MiB" in shown
    assert new.id not in shown
    assert old.root.exists()
    assert wavequeue("gc", "--yes") == DONE
    assert "removed 1 run, 2.9 MiB" in capsys.readouterr().out
    assert (old.root.exists(), new.root.exists()) == (False, True)
    assert wavequeue("gc", "--yes") == DONE
    assert "nothing to remove: no run that may go ended more than 30 d ago" in capsys.readouterr().out


def test_a_verb_says_which_run_it_means_where_none_is_near(
    work: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    run = finished("far")
    (work / "deep").mkdir()
    monkeypatch.chdir(work / "deep")
    assert wavequeue("status") == DONE
    assert capsys.readouterr().err == ""
    (work.parent / "else").mkdir()
    monkeypatch.chdir(work.parent / "else")
    assert wavequeue("status") == DONE
    assert capsys.readouterr().err == f"wavequeue: no run here; this is your newest: {run.id} in {work}\n"
    assert wavequeue("status", "--run", "far") == DONE
    assert capsys.readouterr().err == ""
