"""How an attempt on Slurm is found to have ended: by its files, the task's output, the listing, and the accounting."""

from __future__ import annotations

import contextlib
import os
import pwd
import signal
import subprocess
from collections.abc import Sequence
from pathlib import Path

import psutil
import pytest

from queue_manager.core.layout import RunPaths
from queue_manager.slurm import accounting, wrapper
from queue_manager.slurm import watch as watching
from queue_manager.slurm.accounting import Accounting
from queue_manager.slurm.batches import Task
from queue_manager.slurm.cluster import Cluster
from queue_manager.slurm.commands import Listed
from queue_manager.slurm.ends import End, end, written
from tests.contracts.test_slurm_watch import START, Desk, listed
from tests.e2e.runs import wait_for
from tests.skill.test_attach_command import program

LIMIT = "slurmstepd-n1: error: *** JOB 8 ON n1 CANCELLED AT 2026-11-29T16:31:33 DUE TO TIME LIMIT ***\n"
PREEMPTED = LIMIT.replace("TIME LIMIT", "PREEMPTION")
CANCELLED = LIMIT.replace(" DUE TO TIME LIMIT", "")
OOM = "slurmstepd-n1: error: Detected 1 oom-kill event(s) in StepId=8.batch. Some of your processes may have been\n"
WATCHED = "slurmstepd: error: Job 8 exceeded memory limit (204800 > 102400), being killed\n"


@pytest.mark.parametrize(
    ("row", "output", "wanted"),
    [
        (None, "", End()),
        (listed("FAILED", "NonZeroExitCode"), "", End()),
        (listed("OUT_OF_MEMORY", "OutOfMemory"), "", End(oom=True, cause="ended by Slurm (OUT_OF_MEMORY)")),
        (None, OOM, End(oom=True)),
        (listed("FAILED", "JobLaunchFailure"), WATCHED, End(oom=True)),
        (listed("TIMEOUT", "TimeLimit"), "", End(limit=True, cause="ended by Slurm (TIMEOUT)")),
        (listed("COMPLETING", "TimeLimit"), "", End(limit=True)),
        (listed("COMPLETING"), LIMIT, End(limit=True, cause="ended by Slurm (TIME LIMIT)")),
        (None, CANCELLED, End(cause="cancelled in Slurm")),
        (listed("CANCELLED", "by alice"), "", End(cause="cancelled in Slurm by alice")),
        (listed("PENDING", "PartitionTimeLimit"), "", End()),
    ],
)
def test_what_slurm_says_of_an_end(row: Listed | None, output: str, wanted: End) -> None:
    assert end(row, output) == wanted


@pytest.mark.parametrize(
    ("output", "state"),
    [("", None), ("hello\n", None), (LIMIT, "TIMEOUT"), (PREEMPTED, "PREEMPTED"), (CANCELLED, "CANCELLED"),
     (OOM, "OUT_OF_MEMORY")],
)  # fmt: skip
def test_what_the_output_of_a_task_tells_once_it_is_not_listed(output: str, state: str | None) -> None:
    found = written(output)
    assert (found.state if found is not None else None) == state


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    made = Desk(tmp_path / "run")
    made.claim()
    made.now = made.files.claim.stat().st_mtime + 1.0
    return made


def output(desk: Desk, text: str) -> None:
    """What Slurm writes of the task."""
    (desk.batch.directory / "0.out").write_text(text)


def mark(desk: Desk, *names: str) -> None:
    """Files that the task leaves in the directory of its attempt."""
    for name in names:
        (desk.files.root / name).touch()


def test_a_killed_job_whose_task_saw_the_kernel_do_it_waits_for_nobody(desk: Desk) -> None:
    """Whether Slurm lists it, and whether its task runs more attempts, says nothing more."""
    desk.end(137)
    assert desk.sees().alive is True, "somebody may have killed it"
    mark(desk, "oom")
    found = desk.sees()
    assert found.ended is not None
    assert found.ended.oom_kill
    assert not found.inherited


def test_a_task_killed_for_its_memory_by_slurm_itself(desk: Desk) -> None:
    """Without cgroups Slurm kills all of the task, so that nothing but its own words is left."""
    output(desk, WATCHED)
    desk.lists(listed("FAILED", "JobLaunchFailure"))
    desk.sees()
    found = desk.sees(watching.SETTLES + 1.0)
    assert found.ended is not None
    assert found.ended.oom_kill


def test_an_end_at_the_time_limit_is_known_at_once(desk: Desk) -> None:
    mark(desk, "told")
    output(desk, LIMIT)
    desk.end(143)
    found = desk.sees()
    assert found.exit is not None
    assert found.ended is not None
    assert found.ended.limit
    assert not found.inherited


def test_another_attempt_of_a_task_that_ended_before_is_not_ended_by_the_limit(desk: Desk) -> None:
    output(desk, LIMIT)
    desk.end(3)
    ended = desk.sees().ended
    assert ended is not None
    assert not ended.limit


def test_one_of_several_in_a_task_had_not_all_of_its_time(desk: Desk) -> None:
    """It runs again, without cost."""
    desk.batch = desk.store.make([[Task("zero", 1, "tag"), Task("one", 1, "tag")]], desk.now)
    desk.watch.sent(desk.batch)
    mark(desk, "told")
    output(desk, LIMIT)
    desk.end(143)
    found = desk.sees()
    assert (found.alive, found.inherited, found.exit) == (False, True, None)


def test_the_output_tells_of_a_task_that_slurm_has_forgotten(desk: Desk) -> None:
    """Without that, it would count as lost by its machine, and be run again and again."""
    output(desk, LIMIT)
    desk.lists(None)
    desk.sees()
    found = desk.sees(watching.SETTLES + 1.0)
    assert not found.inherited
    assert found.ended is not None
    assert found.ended.limit


@pytest.mark.parametrize(("at", "moved"), [(10, False), (90, True)])
def test_what_changed_in_the_second_half_of_its_time_moves(desk: Desk, at: int, moved: bool) -> None:
    began = desk.files.claim.stat().st_mtime
    log = desk.paths.log("one")
    log.write_text("step\n")
    os.utime(log, (began + at, began + at))
    desk.end(3)
    os.utime(desk.files.exit, (began + 100, began + 100))
    (desk.files.root / "warned").write_text("1\n")
    ended = desk.sees().ended
    assert ended is not None
    assert (ended.moved, ended.warned) == (moved, True)


# -- accounting -------------------------------------------------------------------------------------------------------

TOLD = f"""\
7_0|TIMEOUT|n1|ours
7_1|CANCELLED by {os.getuid()}|n1|ours
7_2|CANCELLED by 4000000001|n1|ours
7_3|RUNNING|n1|ours
7_[4-9]|PENDING||ours
8|COMPLETED|n1|interactive
"""


def test_what_sacct_prints() -> None:
    me = pwd.getpwuid(os.getuid()).pw_name
    assert accounting.ended(TOLD) == {
        ("ours", 0): Listed(7, "TIMEOUT", "", "n1"),
        ("ours", 1): Listed(7, "CANCELLED", f"by {me}", "n1"),
        ("ours", 2): Listed(7, "CANCELLED", "by user 4000000001", "n1"),
    }
    assert accounting.command(["a", "b"], START)[-2:] == ["--name=a,b", "--format=JobID,State,NodeList,JobName"]


class Sacct:
    """Answers one after another; the last one stays."""

    def __init__(self, desk: Desk, *answers: subprocess.CompletedProcess[str] | str) -> None:
        self.answers, self.asked = list(answers), 0
        desk.cluster.accounting = desk.watch._ends._accounting = Accounting(self.run, lambda task: task())

    def run(self, argv: Sequence[str]) -> subprocess.CompletedProcess[str] | str:
        assert argv[0] == "sacct"
        self.asked += 1
        return self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]


def printed(text: str, code: int = 0, error: str = "") -> subprocess.CompletedProcess[str]:
    return subprocess.CompletedProcess(["sacct"], code, text, error)


def forgotten(desk: Desk, looks: int) -> None:
    """Slurm's queue has forgotten the task, and is looked at so many times."""
    for _ in range(looks):
        desk.now += 1.0
        desk.lists(None)
        desk.watch.over()
        desk.sees()


def test_the_accounting_tells_of_a_task_that_slurm_has_forgotten(desk: Desk) -> None:
    sacct = Sacct(desk, printed(""), printed(f"7_0|CANCELLED by {os.getuid()}|n1|{desk.batch.name}\n"))
    forgotten(desk, 3)
    assert sacct.asked == 2, "it lagged, and is asked no more once it has told"
    found = desk.sees(watching.SETTLES + 1.0)
    assert not found.inherited
    assert found.ended is not None
    assert found.ended.cause == f"cancelled in Slurm by {pwd.getpwuid(os.getuid()).pw_name}"


@pytest.mark.parametrize(
    ("answer", "asked"),
    [
        (printed("", 1, "Slurm accounting storage is disabled"), 1),
        ("[Errno 2] No such file or directory: 'sacct'", 1),
        (printed("", 1, "sacct: error: slurmdbd: Unable to contact"), 3),
        ("timed out after 60 seconds", 3),
        (printed("nonsense\n"), 3),
    ],
)
def test_an_accounting_that_does_not_tell_changes_nothing(
    desk: Desk, answer: subprocess.CompletedProcess[str] | str, asked: int
) -> None:
    sacct = Sacct(desk, answer)
    forgotten(desk, 3)
    desk.sees()
    assert sacct.asked == asked, "at most once a look, and never again where there is none"
    found = desk.sees(1000.0)
    assert found.inherited, "lost, as without it"


def test_the_accounting_is_not_asked_of_what_is_listed_or_has_left_its_record(desk: Desk) -> None:
    sacct = Sacct(desk, printed(""))
    desk.lists(listed("RUNNING"))
    desk.watch.over()
    desk.sees()
    desk.end(0)
    forgotten(desk, 2)
    assert sacct.asked == 0


def test_sacct_is_called_beside_the_loop(tmp_path: Path) -> None:
    program(tmp_path, "sacct", 'echo "$@" >"${0%/*}/asked"; echo "7_2|TIMEOUT|n1|ours"')
    cluster = Cluster({"PATH": f"{tmp_path}:{os.environ['PATH']}"}, lambda: START)
    assert cluster.accounting.row(("ours", 2), START) is None
    cluster.accounting.look(START)
    wait_for(lambda: cluster.accounting.row(("ours", 2), START) is not None)
    assert cluster.accounting.row(("ours", 2), START) == Listed(7, "TIMEOUT", "", "n1")
    assert "--allocations" in (tmp_path / "asked").read_text()
    cluster.close()


# -- the task's script ------------------------------------------------------------------------------------------------

CATCHES = """\
python3 - <<'END'
import signal, sys
signal.signal(signal.SIGUSR1, lambda *_: sys.exit(7))
open('ready', 'w')
signal.pause()
END
"""
UNTIL_ENDED = "touch ready; until [ -e never ]; do sleep 0.01; done"


def begin(root: Path, script: str) -> tuple[Path, subprocess.Popen[bytes]]:
    """The script of a task runs an attempt of this job. Returns the directory of the attempt, and the process."""
    paths = RunPaths.of(root)
    place = root / "attempts/one~1"
    for folder in (place, paths.log_dir, root / "slurm/claimed", root / "slurm/ended"):
        folder.mkdir(parents=True)
    (place / "job.sh").write_text(script)
    (root / "attempt.sh").write_text(wrapper.attempt_script(paths))
    environment = {**os.environ, "SLURM_JOB_ID": "8", "SLURM_ARRAY_TASK_ID": "0"}
    argv = ["bash", str(root / "attempt.sh"), "one~1", "one", "tag"]
    return place, subprocess.Popen(argv, env=environment, start_new_session=True)


@pytest.mark.parametrize("n", range(8))
def test_a_job_that_slurm_ends_together_with_its_script_keeps_its_code(tmp_path: Path, n: int) -> None:  # noqa: ARG001
    """At a time limit TERM comes to all processes at once. The shell may lose the code of one that ends just then."""
    place, task = begin(tmp_path, "trap 'exit 143' TERM; touch ready; sleep 30")
    try:
        wait_for((place / "ready").exists)
        for child in psutil.Process(task.pid).children(recursive=True):
            with contextlib.suppress(psutil.NoSuchProcess):
                child.terminate()
        task.terminate()
        assert task.wait(30) == 0
    finally:
        task.kill()
    assert (place / "exit").read_text() == "143\n"


@pytest.mark.parametrize(
    ("script", "code", "warned"),
    [
        (CATCHES, 7, True),
        (f"trap 'exit 9' USR1; trap true EXIT; {UNTIL_ENDED}", 9, True),
        (UNTIL_ENDED, 143, False),
        (f"trap true EXIT; {UNTIL_ENDED}", 143, False),
    ],
)
def test_usr1_reaches_what_waits_for_it_and_ends_nothing_else(
    tmp_path: Path, script: str, code: int, warned: bool
) -> None:
    """A shell with a trap for EXIT catches all signals, and would end of this one."""
    place, task = begin(tmp_path, script)
    try:
        wait_for((place / "ready").exists)
        children = Path(f"/proc/{task.pid}/task/{task.pid}/children")
        wait_for(lambda: len(children.read_text().split()) == 2, say="the heartbeat beside the job")
        task.send_signal(signal.SIGUSR1)
        wait_for(lambda: (place / "warned").exists() and (place / "warned").read_text() != "")
        if not warned:
            task.send_signal(signal.SIGTERM)
        assert task.wait(30) == 0
    finally:
        task.kill()
    assert int((place / "exit").read_text()) == code
    assert (place / "warned").read_text() == f"{int(warned)}\n"
