"""What a run promises whatever its launcher: kill -9 at any time loses nothing and runs nothing twice."""

from __future__ import annotations

import os
import random
import subprocess
import time
from typing import Any

import psutil
import pytest

from queue_manager.adapters import processes
from queue_manager.core.events import Proc
from queue_manager.core.launchers import LAUNCHERS, OF_SPECS
from queue_manager.core.manifest import JobSpec
from queue_manager.core.requests import Request, encode_request
from queue_manager.launchers import warm
from queue_manager.launchers.process import Process
from tests.e2e.runs import Run, World, job, lives, manifest, until, wait_for

WAIT = until("go")
KILLS = 25


@pytest.fixture(params=OF_SPECS)
def launcher(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


def run_of(world: World, launcher: str, *jobs: JobSpec, **fields: Any) -> Run:
    return world.run(manifest(*jobs, launcher=launcher, **fields))


def sessions(world: World) -> list[str]:
    """Of whatever launcher, of this world's runs."""
    mine = {str(pid) for pid in psutil.pids() if _home(pid) == str(world.home)}
    found = Process({}).sessions()
    assert isinstance(found, dict)
    return [*world.sessions(), *(name for name, pid in found.items() if str(pid) in mine)]


def _home(pid: int) -> str | None:
    try:
        return psutil.Process(pid).environ().get("HOME")
    except psutil.Error:
        return None


def test_managers_killed_at_random_moments(world: World, launcher: str) -> None:
    """Short jobs, so that kills hit launches, sessions that wait and ends alike."""
    names = [f"j{n}" for n in range(150)]
    line = "echo $WAVEQUEUE_JOB_ID >> starts; sleep 0.1; echo done > out_$WAVEQUEUE_JOB_ID"
    jobs = [job(name, line, expected_output=f"out_{name}") for name in names]
    run = run_of(world, launcher, *jobs, max_parallel=3)
    rng, kills = random.Random(11), 0
    while kills < KILLS:
        manager = run.start()
        try:
            manager.wait(timeout=rng.uniform(0.05, 0.5))
            break  # a quiet machine has run them all
        except subprocess.TimeoutExpired:
            run.kill()
            kills += 1
    assert kills > 3
    rest: list[str] = []
    if kills == KILLS:  # those that are far from their turn would only take time
        begun = set((run.directory / "starts").read_text().split())
        rest = names[max((n for n, name in enumerate(names) if name in begun), default=0) + 12 :]
    if rest:
        run.paths.inbox.mkdir(exist_ok=True)
        run.paths.request("c").write_text(encode_request(Request("c", "cancel", tuple(rest))))
    assert (run.finish() if kills < KILLS else run.go()) == (3 if rest else 0), run.stderr
    ran = names[: len(names) - len(rest)]
    rows = run.jobs()
    assert all(rows[name]["status"] == "cancelled" for name in rest)
    assert {(rows[name]["status"], rows[name]["attempts"]) for name in ran} == {("completed", 1)}
    assert sorted((run.directory / "starts").read_text().split()) == sorted(ran)
    wait_for(lambda: not sessions(world), say="the end of all sessions")
    assert list(run.paths.attempts.iterdir()) == []


def test_a_later_manager_adopts_what_runs_and_takes_in_what_ended(world: World, launcher: str) -> None:
    line = "echo $WAVEQUEUE_JOB_ID >> starts; " + WAIT
    run = run_of(
        world, launcher, job("runs", line), job("ends", line.replace("go", "end") + "; exit 4"), max_parallel=2
    )
    run.start()
    before, ends = run.wait_running("runs"), run.wait_running("ends")
    run.kill()
    (run.directory / "end").touch()
    wait_for(lambda: not lives(ends["screen_pid"]), say="the session's end")
    run.start()
    assert run.wait_status("ends", "stuck")["exit_code"] == 4
    assert run.jobs()["runs"]["pid"] == before["pid"]
    (run.directory / "go").touch()
    assert run.finish() == 3
    assert sorted((run.directory / "starts").read_text().split()) == ["ends", "runs"]
    assert run.jobs()["runs"]["attempts"] == 1


def test_a_job_that_is_killed_has_failed(world: World, launcher: str) -> None:
    run = run_of(world, launcher, job("one", "echo here; sleep 1000"))
    run.start()
    psutil.Process(run.wait_running("one")["pid"]).kill()
    assert run.finish() == 3
    assert (run.jobs()["one"]["exit_code"], run.jobs()["one"]["failure"]) == (137, "killed")
    assert run.log("one").split()[0] == "here"


ALONE = (
    "for one in $(cat pids); do grep -q '^State:.[RSD]' /proc/$one/status && echo $one >> beside; done 2>/dev/null\n"
    "echo $$ >> pids\n"
)
"""Begins a job that takes note of earlier attempts that it runs beside."""


@pytest.mark.parametrize("restarted", [False, True])
def test_a_wrapper_that_is_killed_takes_its_job_along(world: World, launcher: str, restarted: bool) -> None:
    """Nobody is left to record how the job ends, so it does not run on, nor beside another attempt of it."""
    line = ALONE + "[ $WAVEQUEUE_ATTEMPT = 2 ] && exit 0\ntrap '' HUP; sleep 1000"
    run = run_of(world, launcher, job("one", line))
    run.start()
    pid = run.wait_running("one")["pid"]
    wrapper = psutil.Process(pid).parent()
    assert wrapper is not None
    if restarted:  # what went down with the manager is done again
        run.kill()
    wrapper.kill()
    if restarted:
        run.start()
    assert run.finish() == (0 if restarted else 3)
    assert not lives(pid)
    assert len((run.directory / "pids").read_text().split()) == (2 if restarted else 1)
    assert not (run.directory / "beside").exists()
    assert not sessions(world)


def test_what_is_written_after_the_command_s_end_is_in_the_log(world: World, launcher: str) -> None:
    line = f"({WAIT}; seq 500) & echo first"
    run = run_of(world, launcher, job("one", line))
    run.start()
    wait_for(
        lambda: run.paths.journal.exists() and '"LeftoversFound"' in run.paths.journal.read_text(),
        say="what the command left running",
    )
    run.kill()
    run.start()
    (run.directory / "go").touch()
    assert run.finish() == 0
    assert run.log("one").split() == ["first", *map(str, range(1, 501))]


def test_a_process_that_lives_on_after_its_output_is_ended(world: World, launcher: str) -> None:
    run = run_of(world, launcher, job("one", "echo > out; sleep 1000", expected_output="out"), stale_after=1.0)
    assert run.go() == 0
    row = run.jobs()["one"]
    assert (row["status"], row["attempts"]) == ("completed", 1)
    assert not sessions(world)


def test_a_job_is_cancelled_with_all_that_it_began(world: World, launcher: str) -> None:
    line = "trap '' TERM; setsid sleep 1000 & echo $! > left; sleep 1000; sleep 1000"
    run = run_of(world, launcher, job("one", line, grace=0.5))
    run.start()
    run.wait_running("one")
    wait_for(lambda: (run.directory / "left").exists() and (run.directory / "left").read_text(), say="what it began")
    left = int((run.directory / "left").read_text())
    run.ask(Request("c", "cancel", ("one",)))
    assert run.finish() == 3
    assert run.statuses() == {"one": "cancelled"}
    assert not lives(left)
    assert not sessions(world)


def test_sessions_that_wait_end_with_their_manager(world: World, launcher: str) -> None:
    """A manager that is killed leaves none, though nobody closes them."""
    short, long = ["true"] * warm.JUDGED_BY, [WAIT] * 2
    jobs = [job(f"j{n}", line) for n, line in enumerate([*short, *long, *short])]
    run = run_of(world, launcher, *jobs, max_parallel=len(long))
    run.start()

    def waiting() -> dict[str, Proc]:
        """Those whose attempts have not begun, by job."""
        begun = {event["job"] for event in run.events() if event["event"] == "AttemptStarting"}
        found = {}
        for directory in run.paths.attempts.glob("*"):
            name = directory.name.partition("~")[0]
            stat = _wrapper(directory)
            if name not in begun and stat is not None and processes.alive(stat.proc) is True:
                found[name] = stat.proc
        return found

    for name in ("j4", "j5"):
        run.wait_running(name)
    left = wait_for(waiting, say="a session that waits")
    run.kill()
    assert not any((run.paths.attempts / f"{name}~1" / "claim").exists() for name in left)
    wait_for(lambda: not any(processes.alive(one) for one in left.values()), say="the end of what waited")
    (run.directory / "go").touch()
    assert run.go() == 0
    assert {row["attempts"] for row in run.jobs().values()} == {1}
    assert not sessions(world)


def _wrapper(directory: os.PathLike[str]) -> processes.Stat | None:
    try:
        names = [name for name in os.listdir(directory) if name.startswith("wrapper.")]
        lines = [open(os.path.join(directory, name)).read() for name in names]  # noqa: SIM115
    except OSError:
        return None
    return next((stat for line in lines if (stat := processes.parse_stat(line)) is not None), None)


def test_a_job_knows_that_it_has_no_terminal_only_without_screen(world: World, launcher: str) -> None:
    line = "if test -t 0 -a -t 1; then echo terminal; else echo none; fi; read -t 5 line; echo $?"
    run = run_of(world, launcher, job("one", line))
    begun = time.monotonic()
    assert run.go() == 0
    first, code = run.log("one").split()
    assert first == ("terminal" if LAUNCHERS[launcher].has_terminal else "none")
    if launcher == "process":  # who asks is answered at once, with the end of input
        assert code == "1"
        assert time.monotonic() - begun < 100
    assert run.state()["meta"]["launcher"] == launcher
