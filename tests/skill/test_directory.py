"""Runs are found by the names people use, and a new one never takes another's place."""

from __future__ import annotations

import os
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from queue_manager.core.events import JobsAdded
from queue_manager.core.layout import LOCAL_RUNS, HostPaths
from queue_manager.core.manifest import Phase
from skill.common.errors import UseError
from skill.runs import directory
from tests.skill.story import RUN_ID, T0, Story, job, manifest


def make(folder: Path, home: Path, project: str = "demo", now: float = T0, age: int = 0) -> directory.Run:
    """A run with a manifest that is `age` seconds old."""
    run = directory.create(project, folder, HostPaths.of(home), now)
    run.paths.manifest.write_text("{}")
    os.utime(run.paths.manifest, (T0 - age, T0 - age))
    return run


@pytest.fixture
def home(tmp_path: Path) -> Path:
    (tmp_path / "home").mkdir()
    return tmp_path / "home"


@pytest.fixture
def work(tmp_path: Path) -> Path:
    (tmp_path / "work" / "deep" / "er").mkdir(parents=True)
    return tmp_path / "work"


def test_a_run_is_named_by_project_and_utc_time_and_has_both_places(work: Path, home: Path) -> None:
    run = directory.create("demo", work, HostPaths.of(home), T0)
    assert run.id == "demo-20260101-100000"
    assert run.root == work / LOCAL_RUNS / run.id
    link = HostPaths.of(home).runs / run.id
    assert link.is_symlink()
    assert link.resolve() == run.root


def test_a_name_that_is_taken_in_either_place_gets_a_number(work: Path, home: Path) -> None:
    assert directory.create("demo", work, HostPaths.of(home), T0).id == "demo-20260101-100000"
    assert directory.create("demo", work, HostPaths.of(home), T0).id == "demo-20260101-100000-2"
    elsewhere = work / "deep"
    assert directory.create("demo", elsewhere, HostPaths.of(home), T0).id == "demo-20260101-100000-3"
    assert [path.name for path in (elsewhere / LOCAL_RUNS).glob("[!.]*")] == ["demo-20260101-100000-3"]


def test_runs_made_at_once_never_share_a_name(work: Path, home: Path) -> None:
    with ThreadPoolExecutor(8) as pool:
        made = list(pool.map(lambda _: directory.create("demo", work, HostPaths.of(home), T0), range(40)))
    assert len({run.id for run in made}) == 40
    assert len({run.root for run in made}) == 40


def test_a_discarded_run_leaves_nothing(work: Path, home: Path) -> None:
    run = make(work, home)
    directory.discard(run, HostPaths.of(home))
    assert [path.name for path in (work / LOCAL_RUNS).iterdir()] == [".gitignore"]
    assert (work / LOCAL_RUNS / ".gitignore").read_text() == "*\n"
    assert list(HostPaths.of(home).runs.iterdir()) == []


def test_a_run_for_hosts_is_there_with_all_its_files_or_not_at_all(work: Path, home: Path) -> None:
    def cut(run: directory.Run, run_id: str) -> None:
        run.paths.manifest.write_text(run_id)
        assert list(directory.in_folder(work / LOCAL_RUNS)) == []
        raise KeyboardInterrupt

    def fill(run: directory.Run, run_id: str) -> None:
        run.paths.manifest.write_text(run_id)

    with pytest.raises(KeyboardInterrupt):
        directory.create_filled(directory.run_id("demo", T0), work, cut)
    assert list(directory.in_folder(work / LOCAL_RUNS)) == []
    made = [directory.create_filled(directory.run_id("demo", T0), work, fill) for _ in range(2)]
    assert [run.id for run in made] == [RUN_ID, f"{RUN_ID}-2"]
    assert [run.paths.manifest.read_text() for run in made] == [run.id for run in made]
    assert sorted(path.name for path in (work / LOCAL_RUNS).glob("[!.]*")) == [run.id for run in made]
    assert not HostPaths.of(home).runs.exists()


def test_the_newest_here_is_meant_then_the_newest_of_a_parent_then_of_the_user(work: Path, home: Path) -> None:
    far = make(home, home, now=T0 + 9)
    old, new = make(work, home, age=50), make(work, home, age=20, now=T0 - 5)
    deep = make(work / "deep", home, age=90, now=T0 + 1)
    assert directory.find(None, work, home).root == new.root
    assert directory.find(None, work / "deep" / "er", home).root == deep.root
    assert directory.find(None, home.parent, home).root == far.root
    assert old.root != new.root


def test_the_newest_run_below_the_directory_is_meant(work: Path, home: Path) -> None:
    make(work, home, age=100)
    (work / "specs").mkdir()
    below = make(work / "specs", home, age=50, now=T0 + 1)
    make(home, home, now=T0 + 2)
    assert directory.find(None, work, home).root == below.root
    here = make(work, home, now=T0 + 3)
    assert directory.find(None, work, home).root == here.root


def test_a_run_is_meant_by_its_name_whatever_begins_with_it(work: Path, home: Path) -> None:
    base, other = make(work, home, "base"), make(work, home, "base-2")
    assert directory.title("base-2-20260101-100000-3") == "base-2"
    assert directory.find("base", work, home).root == base.root
    assert directory.find("base-2", work, home).root == other.root


def test_a_link_to_a_run_that_was_removed_is_passed_over(work: Path, home: Path) -> None:
    gone, stays = make(work, home), make(work, home, age=100, now=T0 + 1)
    gone.paths.manifest.unlink()
    gone.root.rmdir()
    assert directory.find(None, home, home).root == stays.root


def test_a_run_is_found_by_id_by_its_beginning_and_by_its_directory(work: Path, home: Path) -> None:
    one, other = make(work, home, "demo"), make(work, home, "sweep")
    for name in (one.id, "demo", "dem", str(one.root), str(HostPaths.of(home).runs / one.id)):
        assert directory.find(name, work, home).root == one.root
    assert directory.find("s", work, home).root == other.root


def test_an_exact_name_wins_over_a_longer_one(work: Path, home: Path) -> None:
    one = make(work, home)
    make(work, home)
    assert directory.find(one.id, work, home).root == one.root


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("demo", "2 runs begin with demo: demo-20260101-100000"),
        ("demo-20260101-100001", "did you mean demo-20260101-100000"),
        ("zzz", "there is no run zzz; there are: demo-"),
        ("./deep", "not the directory of a run"),
    ],
)
def test_a_name_that_fits_none_or_several_is_refused(
    work: Path, home: Path, monkeypatch: pytest.MonkeyPatch, name: str, says: str
) -> None:
    make(work, home)
    make(work, home)
    monkeypatch.chdir(work)
    with pytest.raises(UseError, match=says):
        directory.find(name, work, home)


def test_without_any_run_the_message_says_how_to_start_one(work: Path, home: Path) -> None:
    with pytest.raises(UseError, match=r"no run yet.*wavequeue run SPEC"):
        directory.find(None, work, home)


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"meta": {}}', '{"meta": {"format": "other"}}', "{"])
def test_a_file_that_is_not_ours_is_no_state(tmp_path: Path, text: str) -> None:
    run = directory.Run.at(tmp_path)
    run.paths.state.write_text(text)
    with pytest.raises(UseError, match="not a state file of wavequeue"):
        directory.read_state(run)


def test_a_state_of_a_newer_version_is_refused(tmp_path: Path) -> None:
    run = directory.Run.at(tmp_path)
    run.paths.state.write_text('{"meta": {"format": "wavequeue-state", "version": 99}}')
    with pytest.raises(UseError, match="newer wavequeue"):
        directory.read_state(run)


def test_a_run_without_a_state_says_how_to_start_its_manager(tmp_path: Path) -> None:
    with pytest.raises(UseError, match="wavequeue resume --run"):
        directory.read_state(directory.Run.at(tmp_path))


def test_the_manifest_of_a_run_has_what_was_added(tmp_path: Path) -> None:
    story = Story(manifest(job("a")), tmp_path / RUN_ID)
    story.tell(JobsAdded((Phase("more", ("main",)),), {"g": ("a", "b")}, (job("b", "more", depends_on=("g",)),)))
    story.write()
    found = directory.read_manifest(directory.Run.at(tmp_path / RUN_ID))
    assert [one.id for one in found.jobs] == ["a", "b"]
    assert [phase.name for phase in found.phases] == ["main", "more"]
    assert found.groups == {"g": ("a", "b")}


def test_a_last_line_that_the_manager_is_still_writing_is_left_out(tmp_path: Path) -> None:
    story = Story(manifest(job("a")), tmp_path / RUN_ID).complete("a")
    paths = story.write()
    paths.journal.write_text(paths.journal.read_text() + '{"seq":99,"job":"a"')
    found = directory.records(directory.Run.at(tmp_path / RUN_ID), ['"job":"a"'])
    assert [type(record.event).__name__ for record in found] == [
        "AttemptStarting", "AttemptStarted", "AttemptEnded",
    ]  # fmt: skip


def test_a_run_on_hosts_is_found_from_anywhere_before_the_part_of_it_that_this_machine_has(tmp_path: Path) -> None:
    home, work = tmp_path / "home", tmp_path / "work"
    work.mkdir()

    def fill(run: directory.Run, _run_id: str) -> None:
        run.paths.manifest.write_text("{}")

    made = directory.create_filled(directory.run_id("demo", T0), work, fill)
    part = home / ".wavequeue" / "runs" / made.id
    part.mkdir(parents=True)
    (part / "manifest.json").write_text("{}")
    for _ in range(2):
        directory.note_submitted(made, home)
    assert directory.find(None, home, home).root == made.root
    assert [run.root for run in directory.known(home, home)] == [made.root]
    shutil.rmtree(made.root)
    assert directory.find(None, home, home).root == part


def test_runs_of_machines_that_have_this_home_are_found_last(tmp_path: Path) -> None:
    folders = [tmp_path / ".wavequeue" / "hosts" / "node-7-0123abcd" / "runs", tmp_path / ".wavequeue" / "runs"]
    parts = [folder / name for folder in folders for name in ("both", folder.parent.name)]
    for part in parts:
        part.mkdir(parents=True)
        (part / "manifest.json").write_text("{}")
    found = [run.root for run in directory.known(tmp_path, tmp_path)]
    assert set(found) == set(parts)
    assert set(found[:2]) == set(parts[2:])
    assert directory.find("both", tmp_path, tmp_path).root == parts[2]
