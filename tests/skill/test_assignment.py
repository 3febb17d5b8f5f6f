"""hosts.json, and the part of a manifest that a host gets."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from queue_manager.core import manifest as manifests
from queue_manager.core.manifest import Manifest, Phase, Precondition
from skill.common.errors import FailedError, UseError
from skill.runs import assignment
from skill.runs.assignment import Assigned, Part
from skill.runs.directory import Run
from tests.skill.story import RUN_ID, job, manifest

A = Part(
    "gpu-a", ("t", "x"), "submitted", "wavequeue/demo", "wavequeue/demo", "1f", "/usr/bin/python3", "ab", 12, ("x",)
)
B = Part("gpu-b", ("y",))
PLACED = Assigned(
    RUN_ID, "demo", "sha", "2026-01-01T10:00:00.000Z", "/home/me/ü", (A, B), {"gpu-a": "2026-01-01T11:00:00Z"}
)


def test_what_was_written_is_read_again(tmp_path: Path) -> None:
    run = Run.at(tmp_path)
    assert assignment.read(run) is None
    assignment.write(run, PLACED)
    assert assignment.read(run) == PLACED


def test_a_job_that_moved_belongs_to_its_new_host_only() -> None:
    moved = PLACED.with_part(B._replace(jobs=("y", "x")))
    assert moved.host_of() == {"t": "gpu-a", "y": "gpu-b", "x": "gpu-b"}
    assert PLACED.with_part(Part("gpu-c", ())).part("gpu-c") == Part("gpu-c", ())
    with pytest.raises(UseError, match="no jobs on gpu-z; it is on: gpu-a, gpu-b"):
        PLACED.part("gpu-z")


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"format": "wavequeue-hosts", "version": 1, "parts": [3]}'])
def test_a_file_that_is_no_list_of_hosts_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / assignment.HOSTS).write_text(text)
    with pytest.raises(FailedError, match=r"hosts\.json is not a list of hosts"):
        assignment.read(Run.at(tmp_path))


def test_many_who_change_it_at_once_lose_nothing(tmp_path: Path) -> None:
    run = Run.at(tmp_path)
    assignment.write(run, PLACED)

    def add(number: int) -> None:
        for _ in range(5):
            with assignment.changed(run) as now:
                part = now.assigned.part("gpu-b")
                now.assigned = now.assigned.with_part(part._replace(jobs=(*part.jobs, str(number))))

    threads = [threading.Thread(target=add, args=(n,)) for n in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    found = assignment.read(run)
    assert found is not None
    assert sorted(found.part("gpu-b").jobs) == sorted(["y", *(str(n) for n in range(6) for _ in range(5))])


def test_a_change_that_fails_changes_nothing(tmp_path: Path) -> None:
    run = Run.at(tmp_path)
    with pytest.raises(UseError, match="not on hosts"), assignment.changed(run):
        pass
    assignment.write(run, PLACED)

    def fail() -> None:
        with assignment.changed(run) as now:
            now.assigned = now.assigned._replace(parts=())
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert assignment.read(run) == PLACED


@pytest.mark.parametrize("host", ["gpu-a", "..", "a/../../b", "me@host:22", ".hidden", "%2e"])
def test_a_host_of_any_name_has_a_mirror_of_its_own_below_the_run(tmp_path: Path, host: str) -> None:
    folder = assignment.host_folder(Run.at(tmp_path), host)
    assert folder.parent == tmp_path / "hosts"
    assert folder.resolve() == folder
    assert folder != assignment.host_folder(Run.at(tmp_path), f"{host}2")


TIED = manifest(
    job("t1", "teach", expected_output="t1.pt"),
    job("t2", "teach"),
    job("s1", "learn", depends_on=("both[N=1]",), cwd="sub", preconditions=(Precondition("file_exists", "x"),)),
    job("s2", "learn", depends_on=("t1",)),
    job("s3", "learn", depends_on=("t2",), cwd="/abs"),
    job("end", "close"),
    phases=(Phase("teach"), Phase("learn", ("teach",), ("N",)), Phase("close", ("learn",))),
    groups={"both[N=1]": ("t1", "t2")},
)


def test_a_part_with_all_that_it_needs_is_the_manifest_with_another_cwd() -> None:
    ids = tuple(job.id for job in TIED.jobs)
    part = assignment.part_manifest(TIED, Part("gpu-a", ids, cwd="wavequeue/demo"), RUN_ID)
    assert part == TIED._replace(cwd="~/wavequeue/demo", hosts=("gpu-a",))
    assert assignment.part_manifest(TIED, Part("gpu-a", ids, cwd="/data/x"), RUN_ID).cwd == "/data/x"
    assert assignment.part_manifest(TIED, Part("gpu-a", ids, cwd="."), RUN_ID).cwd == "~"
    assert assignment.marks(TIED, Part("gpu-a", ids), RUN_ID) == ()


def _conditions(part: Manifest) -> dict[str, list[str]]:
    return {job.id: [one.path or one.command or "" for one in job.preconditions] for job in part.jobs}


def test_what_another_host_makes_is_waited_for_by_its_mark() -> None:
    here = Part("gpu-b", ("t2", "s1", "s2", "s3", "end"), cwd="wavequeue/demo")
    part = assignment.part_manifest(TIED, here, RUN_ID)
    group, single = assignment.marks(TIED, here, RUN_ID)
    assert (group.jobs, single.jobs) == (("t1",), ("t1",))
    assert group.path.startswith(f".wavequeue/carried/{RUN_ID}/group-both_N=1_-"), "a precondition's path is a glob"
    assert _conditions(part) == {
        "t2": [],
        "s1": [f"../{group.path}", "x"],
        "s2": [single.path],
        "s3": [],
        "end": [],
    }
    assert [job.depends_on for job in part.jobs] == [(), ("both[N=1]",), (), ("t2",), ()]
    assert part.groups == {"both[N=1]": ("t2",)}
    assert manifests.decode(manifests.encode(part)) == part, "the host's manager can read it"


def test_a_phase_elsewhere_is_waited_for_by_one_mark_and_from_any_cwd() -> None:
    far = Part("gpu-c", ("s3", "end"), cwd="a b/demo")
    part = assignment.part_manifest(TIED, far, RUN_ID)
    for_s3, for_end = assignment.marks(TIED, far, RUN_ID)
    assert for_end.jobs == ("s1", "s2")
    assert _conditions(part) == {
        "s3": [f"~/a b/demo/{for_s3.path}"],
        "end": [for_end.path],
    }
    absolute = assignment.part_manifest(TIED, far._replace(cwd="/w"), RUN_ID)
    assert _conditions(absolute)["s3"] == [f"/w/{for_s3.path}"]
    assert manifests.decode(manifests.encode(part)) == part
