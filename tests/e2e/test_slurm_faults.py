"""Faults of a real Slurm cluster, of its people, and of the manager: no attempt runs twice, and no job is lost."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from queue_manager.core.manifest import JobSpec
from queue_manager.core.requests import Request
from tests import forked
from tests.demo_copy import copy_manifests
from tests.e2e.runs import PATIENCE, Run, World, pause, until, wait_for
from tests.e2e.slurm_runs import UNTIL_GO, job, on_slurm, ran, small_world, stand_in
from tests.impatient import BEAT, MOMENTS
from tests.slurm_cluster import SlurmCluster

KILLS = int(os.environ.get("WAVEQUEUE_SLURM_KILLS", "5"))
"""Random SIGKILLs of the manager in one run; 50 by hand."""
CRASHES = int(os.environ.get("WAVEQUEUE_SLURM_CRASHES", "0"))
"""After how many of them the controller is killed as well, which takes long to be settled; by hand."""


@pytest.fixture
def shaken(tmp_path: Path) -> Iterator[SlurmCluster]:
    """A cluster of its own, for what others could not bear."""
    made = SlurmCluster(tmp_path / "cluster")
    try:
        made.up()
        yield made
    finally:
        made.down()


@pytest.fixture
def world(tmp_path: Path, cluster: SlurmCluster) -> Iterator[World]:
    made = World(tmp_path, cluster.environment)
    yield made
    made.close()
    cluster.clear()


def impatient(world: World, *jobs: JobSpec, **fields: object) -> Run:
    """A run whose manager waits for Slurm for seconds in place of minutes."""
    run = on_slurm(world, *jobs, **fields)  # type: ignore[arg-type]
    run.program = "tests.impatient"
    return run


def go(run: Run) -> None:
    """Have jobs end that wait for it."""
    (run.world.root / "work/go").touch()


def attempts(run: Run) -> dict[str, tuple[int, int]]:
    """Of each job: the number of its last attempt, and how many it was charged for."""
    return {name: (row["attempt"], row["attempts"]) for name, row in run.jobs().items()}


# -- the manager ------------------------------------------------------------------------------------------------------


def test_the_demo_runs_on_a_cluster(world: World) -> None:
    project = world.root / "project"
    copy_manifests(project)
    for line in ("submit demo.yaml --engine slurm --poll 0.2", "watch", "results --json"):
        done = forked.start("skill", line.split(), project, world.environment)
        out, err = done.communicate(PATIENCE)
        assert done.wait() == 0, (line, out, err)
    print(out)


SBATCH = {
    "while sbatch is under way": 'kill -9 $PPID; exec REAL "$@"\n',
    "before sbatch has answered": 'REAL "$@" >answer && kill -9 $PPID; cat answer\n',
}
"""What sbatch does to the manager that calls it."""


def test_a_manager_that_dies_at_each_step_of_a_submission_loses_nothing(world: World, cluster: SlurmCluster) -> None:
    steps = [*list(MOMENTS)[:2], *SBATCH, list(MOMENTS)[2]]
    jobs = [job(f"j{n}", "true", depends_on=(f"j{n - 1}",) if n else ()) for n in range(4)]
    run = impatient(world, *jobs)
    for step in steps:
        # Later managers have the PATH of the first.
        environment = stand_in(world, cluster, SBATCH.get(step, 'exec REAL "$@"\n'))
        manager = run.start(**environment, **({"DIE": step} if step in MOMENTS else {}))
        _, err = manager.communicate(timeout=60)
        assert manager.wait() == -signal.SIGKILL, (step, err, run.story())
    stand_in(world, cluster, 'exec REAL "$@"\n')
    assert run.go() == 0, run.story()
    assert set(ran(run).values()) == {1}
    assert {charged for _, charged in attempts(run).values()} == {1}
    assert len(ran(run)) == 4


def test_a_manager_killed_at_any_moment_loses_nothing_and_runs_nothing_twice(
    world: World, cluster: SlurmCluster
) -> None:
    run = small_world(world, each=KILLS, max_parallel=4)
    run.program = "tests.impatient"
    moments = random.Random(KILLS)
    for n in range(KILLS):
        manager = run.start()
        with pytest.raises(subprocess.TimeoutExpired):  # it is at work
            pytest.fail(f"before kill {n + 1} it ended: {manager.wait(timeout=moments.uniform(0.05, 0.6))}")
        if n < CRASHES:
            cluster.kill("slurmctld")
        run.kill()
        if n < CRASHES:
            cluster.repair()
    assert run.go() == 0, run.story()
    assert set(run.statuses().values()) == {"completed"}
    assert set(ran(run).values()) == {1}
    jobs = Counter(name.split()[0] for name in ran(run).elements())
    assert jobs.keys() == run.jobs().keys()
    assert CRASHES or set(jobs.values()) == {1}


# -- the controller ---------------------------------------------------------------------------------------------------


def test_a_student_waits_for_its_teacher_whose_id_slurm_does_not_know(world: World, shaken: SlurmCluster) -> None:
    """Slurm itself counts a dependency on such an ID as satisfied."""
    world.environment.update(shaken.environment)
    run = impatient(
        world,
        job("good", "echo > good", expected_output="good"),
        job("bad", f"[ $WAVEQUEUE_ATTEMPT = 2 ] && {UNTIL_GO} && echo > bad", expected_output="bad"),
        job("student", "cat good bad", depends_on=("good", "bad")),
    )
    assert run.go() == 3
    assert run.statuses() == {"good": "completed", "bad": "stuck", "student": "blocked"}
    shaken.lose_jobs()
    run.start()
    assert run.ask(Request("retry-1", "retry", ("bad",))).ok
    run.wait_running("bad")
    assert run.statuses()["student"] == "pending"
    go(run)
    assert run.finish() == 0, run.story()
    assert ran(run) == {"good 1": 1, "bad 1": 1, "bad 2": 1, "student 1": 1}


def test_what_the_controller_has_forgotten_is_not_lost_and_not_run_twice(world: World, shaken: SlurmCluster) -> None:
    """It comes back without its jobs, of which two run and one waits, and somebody else's get their IDs."""
    world.environment.update(shaken.environment)
    run = impatient(world, *(job(f"j{n}", UNTIL_GO, slurm={"cpus": 8}) for n in range(3)))
    run.start()
    wait_for(lambda: sum(bool(row["pid"]) for row in run.jobs().values()) == 2, say="two to run")
    shaken.lose_jobs()
    shaken.submit(f"echo >> {world.root}/other", "--array=0-3")
    # Its nodes end what it does not know.
    wait_for(lambda: all(n == 2 for n, _ in attempts(run).values()), say="all to be tried again")
    go(run)
    assert run.finish() == 0, run.story()
    assert attempts(run) == {f"j{n}": (2, 1) for n in range(3)}
    assert set(ran(run).values()) == {1}
    assert len(ran(run)) == 5
    # Slurm itself may have ended a task that has the ID of one that it did not know, or has not begun it yet.
    theirs = shaken.call("squeue", "-h", "--states=all", "--array", "--name=other", "-o", "%T").split()
    assert len(theirs) == 4
    assert "CANCELLED" not in theirs, "somebody else's"


def test_while_the_controller_is_away_nothing_is_concluded(world: World, cluster: SlurmCluster) -> None:
    """What has ended by itself is known by its files; who has ended the other, Slurm alone can tell."""
    run = impatient(
        world,
        job("long", f"{UNTIL_GO}; echo > long", expected_output="long"),
        job("ended", f"{UNTIL_GO}; kill -9 $$"),
        job("after", "cat long", depends_on=("long",)),
    )
    run.start()
    for name in ("long", "ended"):
        run.wait_running(name)
    cluster.kill("slurmctld", signal.SIGTERM)
    go(run)
    run.wait_status("long", "completed")
    wait_for((run.directory / "attempts/ended~1/exit").exists)
    time.sleep(4 * BEAT)
    assert run.statuses()["ended"] == "running"
    cluster.start_controller()
    assert run.finish() == 3, run.story()
    rows = run.jobs()
    assert (rows["ended"]["status"], rows["ended"]["failure"]) == ("stuck", "killed")
    assert sorted(name.split()[0] for name in ran(run).elements()) == ["after", "ended", "long"]


# -- nodes ------------------------------------------------------------------------------------------------------------


def test_a_job_on_a_node_that_slurm_has_lost_goes_on(world: World, cluster: SlurmCluster) -> None:
    """A node's daemon is killed, and Slurm takes its jobs for ended. Of one that is so; two live on, of which one is
    started a second time."""
    run = impatient(
        world,
        job("lives", f"{UNTIL_GO}; echo > lives", expected_output="lives"),
        job("twice", UNTIL_GO),
        job("dies", "[ $WAVEQUEUE_ATTEMPT = 2 ] && exit; echo $$ > pid; sleep 600"),
        job("after", "cat lives", depends_on=("lives",)),
    )
    cluster.call("scontrol", "update", "NodeName=n2", "State=DRAIN", "Reason=test")
    run.start()
    for name in ("lives", "twice", "dies"):
        run.wait_running(name)
    twice = slurm_id(run, "twice")
    cluster.call("scontrol", "update", f"JobId={twice}", "Requeue=1")
    cluster.call("scontrol", "update", "NodeName=n2", "State=RESUME")
    cluster.kill("slurmd-n1")
    kill_task(int((world.root / "work/pid").read_text()))
    cluster.call("scontrol", "update", "NodeName=n1", "State=DOWN", "Reason=test")
    cluster.call("scontrol", "update", f"JobId={twice}", "StartTime=now")
    run.wait_status("dies", "completed")
    wait_for(lambda: "COMPLETED" in cluster.call("squeue", "-h", "-t", "all", "-j", f"{twice},1", "-o", "%T"))
    time.sleep(4 * BEAT)
    assert [run.statuses()[name] for name in ("lives", "twice")] == ["running", "running"]
    go(run)
    assert run.finish() == 0, run.story()
    assert attempts(run) == {"lives": (1, 1), "twice": (1, 1), "dies": (2, 1), "after": (1, 1)}
    assert ran(run) == {"lives 1": 1, "twice 1": 1, "dies 1": 1, "dies 2": 1, "after 1": 1}


def slurm_id(run: Run, name: str) -> str:
    """The ID of the task that runs the first attempt of a job."""
    return (run.directory / f"attempts/{name}~1/claim").read_text().split()[2]


def kill_task(pid: int) -> None:
    """Kill all of a task of which this is a process, as if its node had gone."""
    task = psutil.Process(pid)
    while task.name() != "slurmstepd":
        task = task.parent() or pytest.fail("it is no task of Slurm")
    for process in (task, *task.children(recursive=True)):
        process.kill()


def test_a_drained_node_ends_nothing_and_gets_nothing(world: World, cluster: SlurmCluster) -> None:
    run = on_slurm(world, *(job(f"j{n}", f"{UNTIL_GO}; echo $SLURMD_NODENAME", slurm={"cpus": 8}) for n in range(4)))
    run.start()
    wait_for(lambda: sum(bool(row["pid"]) for row in run.jobs().values()) == 2, say="two to run")
    cluster.call("scontrol", "update", "NodeName=n1", "State=DRAIN", "Reason=test")
    go(run)
    assert run.finish() == 0, run.story()
    assert ran(run) == {f"j{n} 1": 1 for n in range(4)}
    assert Counter(run.log(f"j{n}").split()[0] for n in range(4)) == {"n1": 1, "n2": 3}


# -- people, and others' jobs ----------------------------------------------------------------------------------------


def test_a_preempted_job_runs_again_and_loses_no_attempt(world: World, cluster: SlurmCluster) -> None:
    """A partition of a higher tier takes both nodes from it, in both ways that Slurm has. One job dies of it, and one
    saves its work."""
    jobs = {"dies": UNTIL_GO, "saves": f"trap 'sleep 0.2; exit 0' TERM; {UNTIL_GO}"}
    run = impatient(world, *(job(name, cmd, slurm={"cpus": 8}) for name, cmd in jobs.items()))
    run.start()
    for n, mode in enumerate(("CANCEL", "REQUEUE"), 1):  # the second is the cluster's own
        cluster.call("scontrol", "update", "PartitionName=main", f"PreemptMode={mode}")
        for name in ("dies", "saves"):
            run.wait_running(name)
            assert run.jobs()[name]["attempt"] == n
        cluster.submit(f"touch {world.root}/urgent{n}", "--partition=high", "--cpus-per-task=8", "--nodes=2")
        wait_for((world.root / f"urgent{n}").exists, say="the urgent job")
        wait_for(lambda n=n: all(found == n + 1 for found, _ in attempts(run).values()), say="another attempt")  # type: ignore[misc]
    go(run)
    assert run.finish() == 0, run.story()
    assert attempts(run) == {"dies": (3, 1), "saves": (3, 1)}
    assert ran(run) == {f"{name} {n}": 1 for name in ("dies", "saves") for n in (1, 2, 3)}


def test_a_timeout_ends_a_job_whether_or_not_it_listens(world: World) -> None:
    run = impatient(
        world,
        job("listens", "trap 'echo saved; exit 7' TERM; sleep 60 & wait", timeout=0.5),
        job("deaf", f"trap '' TERM; while :; do {pause()}; done", timeout=0.5),
        grace=0.5,
    )
    assert run.go() == 3, run.story()
    rows = run.jobs()
    assert {row["failure"] for row in rows.values()} == {"timeout"}
    assert run.log("listens").strip() == "saved"
    assert "then it was killed" in rows["deaf"]["error"]
    assert set(ran(run).values()) == {1}


def test_cancel_takes_a_job_wherever_it_is(world: World, cluster: SlurmCluster) -> None:
    """Two nodes have room for two of these: they run, or wait, or are held by a pause, or sbatch has them. One is taken
    out of the queue by Slurm's own command."""
    run = impatient(
        world,
        *(job(name, UNTIL_GO, slurm={"cpus": 8}) for name in ("stays", "runs", "waits", "held", "out")),
        job("sent", UNTIL_GO, slurm={"cpus": 8, "mem": "77M"}),
    )
    slow = f'case "$*" in *--mem=77M*) until [ -e {world.root}/sent ]; do sleep 0.05; done;; esac; exec REAL "$@"\n'
    run.start(**stand_in(world, cluster, slow))
    wait_for(lambda: sum(bool(row["pid"]) for row in run.jobs().values()) == 2, say="two to run")
    array = cluster.call("squeue", "-h", "-o", "%F").split()[0]
    cluster.call("scancel", f"{array}_4")
    assert run.ask(Request("cancel-1", "cancel", ("waits",))).ok
    assert run.ask(Request("cancel-2", "cancel", ("sent",))).ok
    for name in ("waits", "sent", "out"):
        run.wait_status(name, "cancelled")
    assert run.ask(Request("pause-1", "pause")).ok
    wait_for(lambda: "JobHeld" in cluster.call("squeue", "-r", "-h", "-o", "%r"), say="one to be held")
    (world.root / "sent").touch()
    wait_for((run.directory / "slurm/batches/2/code").exists, say="sbatch to answer")
    wait_for(lambda: len(cluster.call("squeue", "-r", "-h").splitlines()) == 3, say="what sbatch had to be taken out")
    assert run.ask(Request("cancel-3", "cancel", ("held", "runs"))).ok
    for name in ("held", "runs"):
        run.wait_status(name, "cancelled")
    wait_for(lambda: len(cluster.call("squeue", "-r", "-h").splitlines()) == 1, say="one to be left")
    assert run.ask(Request("resume-1", "resume")).ok
    go(run)
    assert run.finish() == 3
    assert run.statuses().pop("stays") == "completed"
    assert ran(run) == {"stays 1": 1, "runs 1": 1}


def test_cancel_and_the_end_of_a_job_may_meet(world: World) -> None:
    """Whichever is first, it ends once."""
    names = [f"j{n}" for n in range(12)]
    jobs = [job(name, until(f"{name}.go")) for name in names]
    run = impatient(world, *jobs, job("last", UNTIL_GO))
    run.start()
    for name in names:
        run.wait_running(name)
    for n, name in enumerate(names):
        (world.root / f"work/{name}.go").touch()
        time.sleep(n * 0.003)
        run.ask(Request(f"cancel-{n}", "cancel", (name,)))
    go(run)
    assert run.finish() in (0, 3)
    assert set(run.statuses().values()) <= {"completed", "cancelled"}
    assert ran(run) == {f"{name} 1": 1 for name in (*names, "last")}
