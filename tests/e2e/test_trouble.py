"""What the world does to a manager, and what it is given that it must refuse."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from queue_manager.core.manifest import Phase, encode
from queue_manager.core.requests import Request
from tests.e2e.runs import Run, World, job, manifest, until, wait_for

HOLD = until("{}")


@pytest.fixture
def small_disk(world: World) -> Iterator[Path]:
    """A disk of 4 MiB, where the run will lie."""
    directory = world.root / "run"
    directory.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", str(directory)], check=True)
    yield directory
    world.close_processes()
    subprocess.run(["umount", "-l", str(directory)], check=True)


def test_a_full_disk_is_named_and_the_queue_goes_on_when_there_is_room(world: World, small_disk: Path) -> None:
    go = world.root / "go"
    run = world.run(
        manifest(job("runs", f"{HOLD.format(go)}; exit 5"), job("next", "echo ran", depends_on=()), max_parallel=1)
    )
    run.start()
    run.wait_running("runs")
    filler = small_disk / "filler"
    with filler.open("wb", buffering=0) as file, contextlib.suppress(OSError):
        while file.write(b"\0" * 4096):
            pass
    wait_for(lambda: any(alert["kind"] == "disk" for alert in run.alerts()), say="the alert")
    wait_for(lambda: "disk is full" in json.dumps(run.state()["meta"]["conditions"]), say="the condition")
    wait_for(lambda: "disk is full" in str(run.jobs()["next"]["waiting"]), say="what the job waits for")
    go.touch()
    filler.unlink()
    assert run.finish() == 3, run.stderr
    rows = run.jobs()
    assert (rows["runs"]["status"], rows["runs"]["exit_code"]) == ("stuck", 5)
    assert (rows["next"]["status"], rows["next"]["attempts"]) == ("completed", 1)
    assert run.state()["meta"]["conditions"] == []


def test_a_job_that_dies_of_a_full_disk_is_tried_again_later(world: World) -> None:
    run = world.run(manifest(job("one", "echo 'OSError: [Errno 28] No space left on device'; exit 1")))
    run.start()
    row = run.wait_status("one", "failed_other")
    assert row["failure"] == "disk_full"
    run.ask(Request("c", "cancel", ("one",)))
    assert run.finish() == 3


def test_on_complete_runs_once_at_the_end(world: World) -> None:
    command = (
        "echo $WAVEQUEUE_RUN_ID $WAVEQUEUE_STATUS $WAVEQUEUE_COMPLETED $WAVEQUEUE_STUCK >> completed; echo to the log"
    )
    run = world.run(manifest(job("one", "true"), on_complete=command))
    assert run.go() == 0
    assert run.go() == 0
    assert (run.directory / "completed").read_text() == run.state()["meta"]["run_id"] + " completed 1 0\n"
    assert "to the log" in run.story()


def refused(run: Run) -> str:
    """Start a manager that must refuse, and write nothing. Returns what it says."""
    before = {path: path.read_bytes() for path in run.directory.rglob("*") if path.is_file()}
    assert run.go() == 2
    after = {path: path.read_bytes() for path in run.directory.rglob("*") if path.is_file()}
    assert after == before
    assert len(run.stderr.strip().splitlines()) == 1
    return run.stderr


def test_a_changed_manifest_is_refused_with_what_to_do(world: World) -> None:
    run = world.run(manifest(job("one", "exit 1")))
    assert run.go() == 3
    run.paths.manifest.write_text(encode(manifest(job("one", "exit 1"), job("two", "true"))))
    message = refused(run)
    assert "was changed after run" in message
    assert "wavequeue add SPEC --run " in message
    assert "wavequeue retry JOB --run " in message


def test_a_state_file_that_is_not_ours_is_refused(world: World) -> None:
    run = world.run(manifest(job("one", "true")))
    run.paths.state.write_text('{"jobs": []}')
    assert "is not a state file of wavequeue" in refused(run)


def test_an_empty_state_file_after_a_power_cut_is_no_hindrance(world: World) -> None:
    run = world.run(manifest(job("one", "exit 1")))
    assert run.go() == 3
    run.paths.state.write_bytes(b"")
    assert run.go() == 3
    assert run.statuses() == {"one": "stuck"}


def test_a_lost_journal_is_refused(world: World) -> None:
    run = world.run(manifest(job("one", "true")))
    assert run.go() == 0
    run.paths.journal.unlink()
    assert "has lost its journal.jsonl" in refused(run)


def test_a_journal_with_a_broken_line_is_refused(world: World) -> None:
    run = world.run(manifest(job("one", "true")))
    assert run.go() == 0
    lines = run.paths.journal.read_text().splitlines(keepends=True)
    run.paths.journal.write_text("".join([lines[0], "garbage\n", *lines[1:]]))
    assert "line 2" in refused(run)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "not valid JSON"),
        ("[]", "not a manifest"),
        ('{"format": "wavequeue-manifest", "version": 9}', "version 9"),
        (encode(manifest(job("a", "x"), job("a", "y"))), "two jobs have the id 'a'"),
        (encode(manifest(job("a/b", "x"))), "not a safe file name"),
        (encode(manifest(job("a", "x", depends_on=("b",)), job("b", "x", depends_on=("a",)))), "circular"),
        (encode(manifest(job("a", "x", depends_on=("zz",)))), "'zz', which does not exist"),
        (encode(manifest(job("a", "x"), phases=(Phase("main", ("other",)),))), "'other', which does not exist"),
    ],
)
def test_manifests_that_cannot_run(world: World, text: str, message: str) -> None:
    run = world.run(manifest(job("one", "true")))
    run.paths.manifest.write_text(text)
    assert message in refused(run)


def test_requests_wait_for_the_manager_and_are_done_once(world: World) -> None:
    run = world.run(manifest(job("one", "exit 1"), job("two", "true", depends_on=("one",))))
    assert run.go() == 3
    run.start()
    first = run.ask(Request("same", "retry", ("one",)))
    assert first.jobs == ("one",)
    assert run.finish() == 3
    assert run.jobs()["one"]["attempt"] == 2
    run.paths.answer("same").unlink()
    run.start()
    assert run.ask(Request("same", "retry", ("one",))) == first
    assert run.finish() == 3
    assert run.jobs()["one"]["attempt"] == 2


def test_jobs_added_to_a_running_queue_run(world: World) -> None:
    go = world.root / "go"
    run = world.run(manifest(job("one", HOLD.format(go))))
    run.start()
    run.wait_running("one")
    more = (job("two", "true", phase="more"), job("three", "true", phase="more", depends_on=("two",)))
    answer = run.ask(Request("a", "add", phases=(Phase("main"), Phase("more", ("main",))), specs=more))
    assert answer.ok, answer.text
    assert not run.ask(Request("b", "add", phases=(Phase("main"),), specs=(job("one", "true"),))).ok
    run.kill()
    run.start()
    go.touch()
    assert run.finish() == 0
    assert run.statuses() == {"one": "completed", "two": "completed", "three": "completed"}


def test_an_unreadable_request_is_answered(world: World) -> None:
    go = world.root / "go"
    run = world.run(manifest(job("one", HOLD.format(go))))
    run.start()
    run.wait_running("one")
    (run.paths.inbox / "odd.json").write_text("{")
    run.ask(Request("p", "pause"))
    assert json.loads(run.paths.answer("odd").read_text())["ok"] is False
    run.ask(Request("r", "resume"))
    go.touch()
    assert run.finish() == 0


def test_nothing_is_left_of_a_run_but_its_files(world: World) -> None:
    run = world.run(manifest(*[job(f"j{n}", "sleep 0.05") for n in range(6)], max_parallel=3))
    assert run.go() == 0
    assert sorted(os.listdir(run.directory)) == [
        "alerts.jsonl", "answers", "attempts", "bell", "inbox", "journal.jsonl", "logs", "manager.lock",
        "manifest.json", "queue_mgr.log", "queue_state.json", "screenrc", "summary.md", "wrapper.sh",
    ]  # fmt: skip
    assert list((run.directory / "attempts").iterdir()) == []
    assert world.sessions() == []
    assert list(world.host.leases.iterdir()) == []


def test_a_run_that_is_deleted_ends_its_manager_and_leaves_no_session(world: World) -> None:
    go = world.root / "go"
    run = world.run(manifest(job("one", HOLD.format(go)), job("two", "true"), max_parallel=2), poll=0.2)
    run.start()
    run.wait_running("one")
    run.wait_status("two", "completed")
    shutil.rmtree(run.directory)
    assert run.finish() == 1
    assert "was deleted" in run.stderr
    go.touch()
    wait_for(lambda: world.sessions() == [], say="the job's own end")
