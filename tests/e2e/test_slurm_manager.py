"""The manager of a run on Slurm as a job itself, and on one of several login nodes."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from queue_manager.core.layout import STALE_AFTER
from tests import forked
from tests.e2e.runs import PATIENCE, Run, World, until, wait_for
from tests.e2e.slurm_runs import UNTIL_GO, job, on_slurm, ran
from tests.laptop import ONCE, SPEC, Laptop, finish
from tests.laptop import ran as ran_on
from tests.slurm_cluster import SlurmCluster


@pytest.fixture
def world(tmp_path: Path, cluster: SlurmCluster) -> Iterator[World]:
    made = World(tmp_path, cluster.environment)
    yield made
    cluster.clear()
    made.close()


def managers(cluster: SlurmCluster) -> dict[int, str]:
    """The manager jobs that run or wait, by ID."""
    lines = [line.split("|") for line in cluster.call("squeue", "-h", "-o", "%i|%T|%j").splitlines()]
    return {int(job): state for job, state, name in lines if name.endswith(".manager") and state != "COMPLETING"}


def start_job(run: Run, **environment: str) -> None:
    """Start the manager as a job, as a submit does."""
    argv = [sys.executable, "-m", "queue_manager.remote.start", str(run.directory), "--manager", "job", "--poll", "0.2"]
    variables = {**run.world.environment, **environment}
    done = subprocess.run(argv, env=variables, capture_output=True, text=True, timeout=PATIENCE, check=False)
    assert "pid" in json.loads(done.stdout), (done.stdout, done.stderr)


def lives(run: Run) -> list[int]:
    """The processes of the managers that the run has had."""
    return [event["pid"] for event in run.events() if event["event"] == "ManagerStarted"]


def test_three_managers_one_after_the_other_end_a_run(world: World, cluster: SlurmCluster) -> None:
    """The first one's time ends, the second is killed, and the third sees the end; jobs run all the while."""
    names = ("early", "middle", "late", "after")
    run = on_slurm(
        world,
        *(job(name, f"{until(name)}; echo > {name}.out", expected_output=f"{name}.out") for name in names[:3]),
        job("after", "cat late.out", depends_on=("late",)),
    )
    # On a cluster where Slurm sets a limit of some minutes, it ends them by the same signal.
    start_job(run, WAVEQUEUE_MANAGER_LIFETIME="5")
    wait_for(lambda: len(managers(cluster)) == 2, say="the second manager to wait")
    (world.root / "work/early").touch()
    run.wait_status("early", "completed")
    assert len(lives(run)) == 1
    submitted = managers(cluster).keys()
    start_job(run)  # one holds the run: nothing is submitted
    assert managers(cluster).keys() <= submitted
    wait_for(lambda: len(lives(run)) == 2, say="the second manager")
    wait_for(lambda: len(managers(cluster)) == 2, say="the third manager to wait")
    (world.root / "work/middle").touch()
    run.wait_status("middle", "completed")
    # One more that Slurm has started while another lives, as after a crash of its controller: it waits.
    argv = [*run.argv(), "--as-slurm-job"]
    forgotten = subprocess.Popen(argv, env={**world.environment, "SLURM_JOB_ID": "4242"}, stdin=subprocess.DEVNULL)
    time.sleep(1)
    assert forgotten.poll() is None
    assert len(lives(run)) == 2
    os.kill(lives(run)[1], signal.SIGKILL)
    (world.root / "work/late").touch()  # nobody looks while it ends
    wait_for(lambda: run.state()["meta"]["manager"] == "finished", say=run.story())
    assert len(lives(run)) == 3
    assert run.statuses() == dict.fromkeys(names, "completed")
    assert ran(run) == {f"{name} 1": 1 for name in names}
    wait_for(lambda: not managers(cluster), say="the fourth to be cancelled")
    assert forgotten.wait(PATIENCE) == 0
    assert len(lives(run)) == 3
    assert "Traceback" not in run.story()


def test_all_verbs_work_while_the_manager_is_a_job(world: World, cluster: SlurmCluster) -> None:
    """From submit to the end, and while the next manager waits in the queue behind a cluster that is full."""
    (world.root / "spec.yaml").write_text(
        "project: verbs\ngrid: {n: [0..3]}\nslurm: {partition: main, cpus: 1, manager: {time: 60}}\n"
        f"template: {{id: 'j${{n}}', gpus: 0, cmd: '{until('go${n}')}'}}\n"
    )

    def call(*arguments: str, code: int = 0) -> str:
        process = forked.start("skill", list(arguments), world.root, world.environment)
        out, err = process.communicate(PATIENCE)
        assert process.wait() == code, (arguments, out, err)
        return out + err

    assert "--manager is for --engine slurm" in call("submit", "spec.yaml", "--manager", "job", code=2)
    spec = (world.root / "spec.yaml").read_text()
    (world.root / "wrong.yaml").write_text(spec.replace("{time: 60}", "{partition: nowhere}"))
    refused = call("submit", "wrong.yaml", "--engine", "slurm", "--manager", "job", code=1)
    assert "Slurm can never run 1 job (the manager): invalid partition specified: nowhere" in refused
    words = call("submit", "spec.yaml", "--engine", "slurm", "--manager", "job", "--poll", "0.2", "--json")
    output = json.loads(words.splitlines()[-1])
    root = Path(output["directory"])
    state = root / "queue_state.json"
    assert "running, 0 of 4" in call("status")
    (world.root / "go0").touch()
    wait_for(lambda: json.loads(state.read_text())["counts"].get("completed") == 1)
    assert "cancelled" in call("cancel", "j1")
    call("pause")
    call("resume")
    wait_for(lambda: len(managers(cluster)) == 2, say="the next manager to wait")
    # Its time ends, and the next one has to wait, as on a cluster that is full.
    first = min(managers(cluster))
    waiting = max(managers(cluster))
    cluster.call("scontrol", "hold", str(waiting))
    cluster.call("scancel", "--batch", "--signal=TERM", str(first))
    wait_for(lambda: first not in managers(cluster), say="the first manager to end")
    shown = call("status")
    assert "running, 1 of 4" in shown
    assert f"the next manager waits in Slurm's queue (job {waiting}: JobHeld" in shown
    assert "has died" not in shown
    assert f"requested; the next manager waits in Slurm's queue (job {waiting}: JobHeld" in call("retry", "j1")
    assert "requested; the next manager" in call("resume")
    assert managers(cluster) == {waiting: "PENDING"}
    for n in (1, 2, 3):
        (world.root / f"go{n}").touch()
    watch = forked.start("skill", ["wait"], world.root, world.environment)
    time.sleep(0.5)
    assert watch.poll() is None  # the run is not over
    cluster.call("scontrol", "release", str(waiting))
    out, err = watch.communicate(PATIENCE)
    assert watch.wait() == 0, (out, err)
    assert "4 of 4 jobs completed" in call("status")
    wait_for(lambda: not managers(cluster), say="no manager to be left")


NODE = 'hostname login2 && exec "$@"'


def on_login2(run: Run) -> subprocess.Popen[str]:
    """Start a manager on another login node: it has another name, and sees no process of the first one."""
    argv = ["unshare", "--uts", "--pid", "--fork", "--mount-proc", "--kill-child", "sh", "-c", NODE, "-", *run.argv()]
    return subprocess.Popen(
        argv, env=run.world.environment, cwd=run.directory, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE, text=True, start_new_session=True,
    )  # fmt: skip


def test_a_second_login_node_takes_a_run_only_from_a_manager_that_is_gone(world: World) -> None:
    """The first one is stopped, as by its machine, and goes on when another has the run. NFS's locks do not reach."""
    run = on_slurm(world, *(job(name, UNTIL_GO, expected_output="go") for name in ("one", "two")))
    first = run.start()
    run.wait_running("two")
    apart = run.directory / "apart"
    apart.write_text(run.paths.lock.read_text())
    first.send_signal(signal.SIGSTOP)
    apart.replace(run.paths.lock)  # its lock is not seen from there
    refused = on_login2(run)
    _, output = refused.communicate(timeout=PATIENCE)
    assert refused.returncode == 2
    assert f"is held by another manager: process {first.pid} on {os.uname().nodename}, since" in output
    assert "s ago. If that machine is gone, try again in" in output
    beat = run.paths.lock.with_suffix(".beat")
    os.utime(beat, (0, time.time() - STALE_AFTER - 1))
    second = on_login2(run)
    wait_for(lambda: run.state()["meta"]["host"] == "login2", say="the other login node to have the run")
    first.send_signal(signal.SIGCONT)
    assert run.finish() == 1
    assert "another manager has" in run.stderr
    assert "on login2" in run.stderr
    (world.root / "work/go").touch()
    _, output = second.communicate(timeout=PATIENCE)
    assert second.returncode == 0, output
    assert ran(run) == {"one 1": 1, "two 1": 1}
    assert [event["seq"] for event in run.events()] == list(range(1, run.state()["meta"]["seq"] + 1))


def test_a_run_over_ssh_has_its_manager_in_slurm(laptop: Laptop, cluster: SlurmCluster) -> None:
    node = laptop.host("login", network={"environment": cluster.environment})
    laptop.spec(SPEC.replace("max_parallel: 2\n", "slurm: {partition: main, time: 10}\n"))
    run = laptop.submit("--engine", "slurm", "--host", "login", "--manager", "job")
    assert len(finish(node, run["run_id"])) == 4
    assert ran_on(node) == ONCE
    script = node.home / ".wavequeue/runs" / run["run_id"] / "slurm/manager.sh"
    assert "--as-slurm-job" in script.read_text()
    wait_for(lambda: not managers(cluster), say="no manager to be left")
    laptop.call("pull")
    assert (laptop.project / "code/out1").read_text() == "one\n"
