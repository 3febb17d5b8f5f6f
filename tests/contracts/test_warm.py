"""Sessions that come up ahead: what waits claims nothing, ends with its manager, and begins by its own word alone."""

from __future__ import annotations

import contextlib
import os
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from queue_manager.adapters.files import open_fifo
from queue_manager.adapters.run_dir import RunDir
from queue_manager.core import events as ev
from queue_manager.core.boundary import Claim
from queue_manager.core.events import Event, Record
from queue_manager.core.layout import AttemptPaths, RunPaths
from queue_manager.core.model import Job, QueueState
from queue_manager.core.status import Status
from queue_manager.launchers import warm
from queue_manager.launchers.warm import Warm
from queue_manager.tidy import Tidy
from tests.core.states import manifest, spec
from tests.e2e.runs import World, job, wait_for
from tests.e2e.runs import manifest as manifest_of

NAMES = ("a", "b", "c", "d", "e", "f", "g", "h")


class Desk:
    """The waiting sessions of a run of eight jobs, of which two run; sessions are processes that do nothing."""

    def __init__(self, root: Path, **fields: Any) -> None:
        self.run_dir = RunDir(RunPaths.of(root / "run"))
        self.run_dir.prepare()
        specs = [spec(name, gpus=0, **fields.pop(name, {})) for name in NAMES]
        self.state = QueueState(manifest(*specs, **fields))
        self.begun: list[str] = []
        self.processes: list[subprocess.Popen[bytes]] = []
        self.fault: OSError | None = None
        self.warm = Warm(self.state, self.run_dir, self._begin)
        for name in NAMES[:2]:
            self.tell(ev.AttemptStarting(name, 1, 1, "s", "boot"))
            self.tell(ev.AttemptStarted(name, 1, ev.Proc(1, 1), ev.Proc(1, 1), None))

    def _begin(self, job: Job, _n: int, files: AttemptPaths, waits: tuple[str, str]) -> subprocess.Popen[bytes]:
        if self.fault is not None:
            raise self.fault
        assert (files.root / waits[1]).samefile(waits[0])
        self.begun.append(job.spec.id)
        self.processes.append(subprocess.Popen(["true"]))
        return self.processes[-1]

    def tell(self, event: Event) -> None:
        self.state.apply(Record(self.state.seq + 1, float(self.state.seq + 1), event))

    def lasted(self, *seconds: float) -> None:
        """Attempts of the first job have ended that took so long."""
        job = self.state.jobs[0]
        for one in seconds:
            job.started, job.attempt_ended = 100.0, 100.0 + one
            self.warm.ended(job)

    def keep(self) -> list[str]:
        """Which sessions wait, once no more are to be started."""
        while self.warm.keep(has_room=True):
            pass
        return self.waiting()

    def waiting(self) -> list[str]:
        return sorted(path.parent.name[:-2] for path in self.run_dir.paths.attempts.glob("*/go.*"))


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    made = Desk(tmp_path)
    yield made
    made.warm.close()
    for process in made.processes:
        process.wait()


def test_sessions_come_up_ahead_only_where_jobs_are_short(desk: Desk) -> None:
    desk.lasted(0.1, 0.1, 0.1)
    assert desk.keep() == []
    desk.lasted(0.1)
    assert desk.keep() == ["c", "d"]  # as many as run
    assert desk.keep() == ["c", "d"] == desk.begun
    desk.lasted(warm.SHORT + 1)
    assert desk.keep() == []
    assert list(desk.run_dir.paths.attempts.iterdir()) == []


def test_what_waits_has_no_gpu_and_no_line_in_the_journal(desk: Desk) -> None:
    desk.lasted(0.1, 0.1, 0.1, 0.1)
    before = desk.state.seq, list(desk.state.live), dict(desk.state.cards.holders)
    assert desk.keep() == ["c", "d"]
    assert (desk.state.seq, list(desk.state.live), dict(desk.state.cards.holders)) == before
    for order in (2, 3):
        job = desk.state.jobs[order]
        assert (job.n, job.attempt, job.status) == (0, None, Status.PENDING)


@pytest.mark.parametrize(
    ("event", "left"),
    [
        (ev.JobCancelled("c"), ["d", "e"]),
        (ev.JobHeld("d", "why"), ["c", "e"]),
        (ev.Paused(), []),
        (ev.JobsChanged({"h": {"priority": 9}}), ["c", "d", "h"]),
    ],
)
def test_what_does_not_come_next_any_more_is_dropped(desk: Desk, event: Event, left: list[str]) -> None:
    desk.lasted(0.1, 0.1, 0.1, 0.1)
    assert desk.keep() == ["c", "d"]
    desk.tell(event)
    assert desk.keep() == left


@pytest.mark.parametrize(
    "fields",
    [{"env_from": {"A": ("", "B", "")}}, {"preconditions": ({"type": "command", "command": "true"},)}],
)
def test_jobs_that_need_more_than_a_word_start_as_ever(tmp_path: Path, fields: dict[str, Any]) -> None:
    desk = Desk(tmp_path, c=fields)
    desk.lasted(0.1, 0.1, 0.1, 0.1)
    assert desk.keep() == ["d"]
    desk.warm.close()


def test_a_barrier_lets_nothing_come_up_ahead(tmp_path: Path) -> None:
    desk = Desk(tmp_path, wave="barrier")
    desk.lasted(0.1, 0.1, 0.1, 0.1)
    assert desk.keep() == []


def test_what_was_there_before_is_left_alone(desk: Desk) -> None:
    desk.lasted(0.1, 0.1, 0.1, 0.1)
    desk.run_dir.prepare_attempt("c", 1, "of an earlier manager", ())
    desk.run_dir.paths.log("d").write_text("")
    assert desk.keep() == []
    assert desk.run_dir.prepare_attempt("d", 1, "true", ()).script.exists()
    assert [path.name for path in desk.run_dir.paths.log_dir.iterdir()] == ["d.log"]


def test_a_session_that_cannot_start_is_not_tried_again_and_again(desk: Desk) -> None:
    desk.lasted(0.1, 0.1, 0.1, 0.1)
    desk.fault = FileNotFoundError(2, "no such file", "screen")
    assert desk.warm.keep(has_room=True) is False
    assert desk.warm.keep(has_room=False) is False
    assert desk.begun == []


def test_nothing_comes_up_while_what_was_launched_has_not_begun(desk: Desk) -> None:
    desk.lasted(0.1, 0.1, 0.1, 0.1)
    desk.tell(ev.AttemptStarting("c", 1, 1, "s", "boot"))
    assert desk.keep() == []


def test_only_the_session_of_the_very_attempt_gets_the_word(desk: Desk) -> None:
    desk.lasted(0.1, 0.1, 0.1, 0.1)
    desk.keep()
    jobs = desk.state.jobs
    assert desk.warm.launch(jobs[4], 1) is None
    assert desk.warm.launch(jobs[2], 1) is desk.processes[0]
    assert desk.warm.launch(jobs[2], 1) is None
    assert desk.warm.launch(jobs[3], 2) is None


def test_a_session_that_was_killed_meanwhile_gets_no_word(desk: Desk) -> None:
    desk.lasted(0.1, 0.1, 0.1, 0.1)
    desk.keep()
    for order, name in ((2, "c"), (3, "d")):
        wrapper = subprocess.Popen(["sleep", "1000"])
        line = Path(f"/proc/{wrapper.pid}/stat").read_text()
        (desk.run_dir.paths.attempt(name, 1).root / f"wrapper.{wrapper.pid}").write_text(line)
        if name == "d":
            wrapper.kill()
            wrapper.wait()
        assert (desk.warm.launch(desk.state.jobs[order], 1) is None) == (name == "d")
        wrapper.kill()
        wrapper.wait()


def test_what_a_killed_manager_got_ready_is_gone_before_anything_begins(desk: Desk) -> None:
    """Else it might be taken away while an attempt of that number begins in it."""
    for name in ("a", "c"):
        desk.run_dir.prepare_attempt(name, 1, "true", ())
    later = Tidy(desk.state, desk.run_dir)
    later.close(finish=False)  # so that nothing is done beside this thread
    later.catch_up()
    assert [path.name for path in desk.run_dir.paths.attempts.iterdir()] == ["a~1"]


# -- the wrapper ------------------------------------------------------------------------------------------------------


@pytest.fixture
def waiting(tmp_path: Path) -> tuple[RunDir, AttemptPaths]:
    run_dir = RunDir(RunPaths.of(tmp_path / "run"))
    run_dir.prepare()
    return run_dir, run_dir.prepare_attempt("a", 1, "echo ran", {"a"})


def _wrapper(run_dir: RunDir, files: AttemptPaths, where: str) -> subprocess.Popen[bytes]:
    argv = ["bash", "-p", str(run_dir.paths.wrapper), str(files.root), "tag", where, "go.1"]
    return subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)


@pytest.mark.parametrize("early", [True, False])
def test_a_wrapper_waits_for_its_word_and_then_claims(waiting: tuple[RunDir, AttemptPaths], early: bool) -> None:
    run_dir, files = waiting
    fd = open_fifo(files.go(1))
    if early:
        os.write(fd, warm.WORD)
    wrapper = _wrapper(run_dir, files, f"/proc/{os.getpid()}/fd/{fd}")
    if not early:
        wait_for(lambda: list(files.root.glob("wrapper.*")), say="the wrapper")
        assert run_dir.claim("a", 1) is None
        os.write(fd, warm.WORD)
    assert wrapper.communicate(timeout=150)[0] == b"ran\n"
    assert isinstance(run_dir.claim("a", 1), Claim)
    assert run_dir.exit_record("a", 1) is not None
    os.close(fd)


@pytest.mark.parametrize("end", ["closed", "never there", "another's", "another word"])
def test_without_its_word_a_wrapper_ends_and_has_claimed_nothing(
    waiting: tuple[RunDir, AttemptPaths], end: str
) -> None:
    run_dir, files = waiting
    fd, other = open_fifo(files.go(1)), open_fifo(files.go(2))
    os.write(other, warm.WORD)
    where = {"never there": "/proc/self/fd/999", "another's": f"/proc/{os.getpid()}/fd/{other}"}
    wrapper = _wrapper(run_dir, files, where.get(end, f"/proc/{os.getpid()}/fd/{fd}"))
    wait_for(lambda: list(files.root.glob("wrapper.*")) or wrapper.poll() is not None, say="the wrapper")
    if end == "another word":
        os.write(fd, b"gone\n")
    if end == "closed":
        os.close(fd)
    assert wrapper.communicate(timeout=150)[0] == b""
    assert run_dir.claim("a", 1) is None
    assert os.read(other, 10) == warm.WORD
    os.close(other)
    if end != "closed":
        os.close(fd)


def test_managers_killed_while_sessions_wait(world: World) -> None:
    """Each job runs once, and no session of a killed manager stays."""
    count, kills = 90, 0
    cmd = "echo $WAVEQUEUE_JOB_ID >> starts; sleep 0.05"
    run = world.run(manifest_of(*(job(f"j{n}", cmd) for n in range(count)), max_parallel=3))

    def ahead() -> bool:
        assert run.manager is not None
        assert run.manager.poll() is None, f"it ended after {kills} kills"
        with contextlib.suppress(FileNotFoundError):  # an attempt's directory goes while it is looked at
            return any(not (go.parent / "claim").exists() for go in run.paths.attempts.glob("*/go.*"))
        return False

    while kills < 6:
        run.start()
        wait_for(ahead, say="a session that waits")
        time.sleep(kills * 0.005)  # at another moment each time
        run.kill()
        kills += 1
    assert run.go() == 0, run.stderr
    assert set(run.statuses().values()) == {"completed"}
    assert sorted((run.directory / "starts").read_text().split()) == sorted(f"j{n}" for n in range(count))
    wait_for(lambda: world.sessions() == [], say="the end of all sessions")
    assert list(run.paths.attempts.iterdir()) == []
