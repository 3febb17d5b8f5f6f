"""Where results lie on a host and here, which are asked for, and the summary of a run on several hosts."""

from __future__ import annotations

from pathlib import Path

import pytest

from queue_manager.core.events import JobsAdded
from queue_manager.core.manifest import encode
from skill.runs import directory, summary
from skill.runs.assignment import Assigned, Part, part_manifest
from skill.runs.directory import Run
from skill.runs.merge import Look, merge
from skill.runs.path_map import PathMap, Wanted, map_paths, wanted
from tests.skill.story import RUN_ID, T0, Story, job, manifest

HERE = Path("/home/me/p")
PUSHED = PathMap("wavequeue/p", "code", HERE)
ABSOLUTE = PathMap("/workspace/p", ".", HERE)
HOME = PathMap(".", "code", HERE)


@pytest.mark.parametrize(
    ("where", "cwd", "pattern", "name"),
    [
        (PUSHED, None, "out/*.json", "code/out/*.json"),
        (PUSHED, "sub", "x", "code/sub/x"),
        (PUSHED, None, "../figures/x", "figures/x"),
        (PUSHED, None, "../../other/x", None),
        (PUSHED, None, "/workspace/x", None),
        (PUSHED, "/workspace", "x", None),
        (PUSHED, "~/wavequeue/p/deep", "x", "deep/x"),
        (PUSHED, "~", "x", None),
        (PUSHED, None, "..", "."),
        (ABSOLUTE, None, "out/x", "out/x"),
        (ABSOLUTE, None, "/workspace/p/out/x", "out/x"),
        (ABSOLUTE, None, "/workspace/pp/x", None),
        (ABSOLUTE, "/workspace/p/a", "../x", "x"),
        (HOME, None, "x", "code/x"),
        (HOME, None, "../../x", None),
        (HOME, "~/d", "x", "d/x"),
        (PathMap("/", ".", HERE), None, "x", "x"),
    ],
)
def test_what_a_job_writes_has_a_name_below_the_ground_or_is_elsewhere(
    where: PathMap, cwd: str | None, pattern: str, name: str | None
) -> None:
    assert where.place(cwd, pattern) == name


MADE = manifest(
    job("a", expected_output="a.pt"),
    job("b", expected_output="b.pt", cwd="sub"),
    job("c", expected_output="/far/c.pt"),
    job("d", expected_output="d.pt"),
    job("e"),
)._replace(cwd="code", pull=("figures", "*.csv"))
PART = Part("gpu-a", ("a", "b", "c", "e"), "submitted", "wavequeue/p", "wavequeue/p/code", moved=("b",))
PLACED = Assigned(RUN_ID, "demo", "sha", "2026-01-01T10:00:00.000Z", str(HERE), (PART, Part("gpu-b", ("d", "b"))))


def test_results_of_pushed_code_go_where_a_run_here_would_write_them(tmp_path: Path) -> None:
    run = Run.at(tmp_path)
    assert map_paths(run, PLACED, MADE, PART) == PUSHED
    there = PART._replace(workspace="w", cwd="/workspace/p")
    assert map_paths(run, PLACED, MADE._replace(cwd="/workspace/p"), there) == ABSOLUTE._replace(
        here=tmp_path / "results"
    )
    same = PART._replace(workspace="/w", cwd="/w")
    assert map_paths(run, PLACED, MADE._replace(cwd="."), same) == PathMap("/w", ".", HERE)


def test_a_host_is_asked_for_what_belongs_to_it_now() -> None:
    assert wanted(PUSHED, MADE, PART) == Wanted(
        ("code/a.pt", "code/figures", "code/*.csv"), 1, ("code/sub/b.pt",), ("c",)
    )


def test_what_a_host_says_that_was_added_brings_no_file_here(tmp_path: Path) -> None:
    run = Run.at(tmp_path)
    run.paths.manifest.write_text(encode(MADE))
    directory.note_added(run, JobsAdded((), {}, (job("mine", expected_output="mine.pt"),)), 1.0)
    run_there = Run.at(tmp_path / directory.HOST_FOLDERS / "gpu-a")
    run_there.root.mkdir(parents=True)
    directory.note_added(
        run_there, JobsAdded((), {}, (job("mine", expected_output="**"), job("x", expected_output="**"))), 1.0
    )
    ours = {spec.id: spec.expected_output for spec in directory.read_manifest(run, ours=True).jobs}
    assert ours["mine"] == "mine.pt"
    assert "x" not in ours
    assert {spec.id for spec in directory.read_manifest(run).jobs} == {*ours, "x"}


def test_the_summary_of_several_hosts_says_what_became_of_each() -> None:
    a = Story(part_manifest(MADE, PART, RUN_ID)).complete("a").start("c").end("c", "stuck", error="a | b")
    b = Story(part_manifest(MADE, PLACED.parts[1], RUN_ID)).complete("d")
    looks = [Look("gpu-a", a.document("finished"), T0), Look("gpu-b", b.document(), T0)]
    text = summary.summary(merge(PLACED, MADE, looks, T0 + 60), T0 + 60)
    for line in (
        "# demo: 2 of 5 jobs completed",
        "- end: not yet",
        "| main | 5 | 2 | 0 | 58.0 s |",
        "| gpu-a | 3 | 1 | never |",
        "| gpu-b | 2 | 1 | never |",
        "| c | gpu-a | stuck | 1 | a \\| b |",
        "- `a.pt` (a on gpu-a)",
        f"- see why a job is stuck: `wavequeue why c --run {RUN_ID}`, then `wavequeue retry c --run {RUN_ID}`",
    ):
        assert line in text.splitlines(), text
