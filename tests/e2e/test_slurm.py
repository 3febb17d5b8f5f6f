"""Runs on a real Slurm cluster of two nodes. Left out where none can be had, see slurm_cluster.missing."""

from __future__ import annotations

import json
import os
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from queue_manager.core.manifest import OomRetry
from queue_manager.core.requests import Request
from skill.operations.attach_job import attach_command
from skill.runs.directory import Run as Attached
from tests import forked
from tests.e2e.runs import PATIENCE, ROOT, World, wait_for
from tests.e2e.slurm_runs import UNTIL_GO, job, on_slurm, ran, small_world, stand_in
from tests.e2e.terminal import Terminal
from tests.laptop import ONCE, SPEC, Laptop, finish, state
from tests.laptop import ran as ran_on
from tests.slurm_cluster import SlurmCluster


@pytest.fixture
def world(tmp_path: Path, cluster: SlurmCluster) -> Iterator[World]:
    made = World(tmp_path, cluster.environment)
    yield made
    made.close()
    cluster.clear()


SECTION = "## From login to results"
TRAIN = """\
import os, sys
given = dict(zip(sys.argv[1::2], sys.argv[2::2]))
os.makedirs(os.path.dirname(given["--out"]), exist_ok=True)
with open(given["--out"], "w") as out:
    out.write(given["--lr"])
"""


def test_the_page_of_slurm_is_true(world: World) -> None:
    """Its spec, on a partition of that name, by its commands."""
    page = (ROOT / "docs/slurm.md").read_text(encoding="utf-8").partition(SECTION)[2].partition("\n## ")[0]
    spec, lines = re.findall(r"^```(?:yaml|sh)\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)
    project = world.root / "project"
    project.mkdir()
    (project / "train.py").write_text(TRAIN)
    (project / "sweep.yaml").write_text(spec.replace("partition: gpu", "partition: main").replace("16G", "100M"))
    wrong = spec.replace("16G", "900G")
    (project / "wrong.yaml").write_text(wrong.replace("partition: gpu", "partition: main"))
    for line in lines.splitlines():
        done = forked.start("skill", line.split()[1:], project, world.environment)
        out, err = done.communicate(PATIENCE)
        assert done.wait() == 0, (line, out, err)
    assert "10 of 10 jobs completed" in out
    plan = forked.start("skill", ["plan", "sweep.yaml", "--engine", "slurm", "--json"], project, world.environment)
    out, err = plan.communicate(PATIENCE)
    options = ["--partition=main", "--time=04:00:00", "--mem=100M", "--gres=gpu:1"]
    (asked,) = json.loads(out)["slurm"]
    assert (asked["options"], asked["jobs"], asked["tasks"], asked["arrays"]) == (options, 10, 10, 1), err
    assert "to start at" in asked["starts"]
    preflight = forked.start("skill", ["preflight", "sweep.yaml", "--engine", "slurm"], project, world.environment)
    out, err = preflight.communicate(PATIENCE)
    assert preflight.wait() == 0, err
    assert re.search(r"Slurm \S+; a task began on n[12] after \S+ s", out)
    assert not list(project.rglob(".wq-preflight-*"))
    build = forked.start(
        "skill", ["build", "sweep.yaml", "--engine", "slurm", "--output", "look"], project, world.environment
    )
    out, err = build.communicate(PATIENCE)
    assert build.wait() == 0, err
    (run,) = (project / "experiment_queue").glob("sweep-*")
    for name in ("task.sh", "attempt.sh", "tasks"):
        shown, used = ((root / "slurm/batches/1" / name).read_text() for root in (project / "look", run))
        tags = re.compile(r"\S+(?=\t\d+$)", re.MULTILINE)
        assert tags.sub("", shown.replace(f"{project}/look", str(run))) == tags.sub("", used)
    refused = forked.start("skill", ["submit", "wrong.yaml", "--engine", "slurm"], project, world.environment)
    out, err = refused.communicate(PATIENCE)
    assert refused.wait() == 1
    assert "Slurm can never run 10 jobs" in err
    assert "--mem=900G" in err
    assert "Nothing was started" in err
    assert len(list((project / "experiment_queue").glob("sweep-*"))) == 1


def test_students_follow_their_teachers(world: World) -> None:
    run = small_world(world)
    assert run.go() == 0, run.story()
    assert set(run.statuses().values()) == {"completed"}
    assert set(ran(run).values()) == {1}
    assert len(ran(run)) == 8
    # What is ready together and asks for the same goes as one array.
    assert len(list((run.directory / "slurm/batches").iterdir())) < 8
    assert not list((run.directory / "slurm/claimed").iterdir())
    # Wrappers of the last jobs may leave their marks after the manager has had their exit codes and has ended.
    assert all(path.name.startswith("s") for path in (run.directory / "slurm/ended").iterdir())


def test_each_end_is_judged_as_on_a_host(world: World) -> None:
    words = "torch.OutOfMemoryError: CUDA out of memory."
    oom = f'if [ "$WAVEQUEUE_ATTEMPT" = 1 ]; then echo "{words}"; exit 1; fi; echo > oom'
    run = on_slurm(
        world,
        job("gpus", 'echo "$GPU/$GPU_INDEX/$CUDA_VISIBLE_DEVICES/$SLURM_EXPORT_ENV"', slurm={"gres": "gpu:2"}),
        job("oom", oom, expected_output="oom", slurm={"mem": "100M", "mem_max": "150M"}),
        job("fails", "exit 3"),
        job("no_output", "true", expected_output="never"),
        job("late", "sleep 60", timeout=0.5),
        job("dies", "kill -9 $$"),
        job("never", "true", depends_on=("fails",)),
        oom_retry=OomRetry(0.1, 3),
    )
    assert run.go() == 3, run.story()
    rows = run.jobs()
    assert {name: row["status"] for name, row in rows.items()} == {
        "gpus": "completed", "oom": "completed", "fails": "stuck", "no_output": "stuck", "late": "stuck",
        "dies": "stuck", "never": "blocked",
    }  # fmt: skip
    first, second, *_ = run.log("gpus").split("/")
    assert len(first.split(",")) == 2
    assert second == "0,1"
    assert run.log("gpus").strip().endswith(f"/{first}/")
    assert rows["oom"]["attempts"] == 2
    assert rows["late"]["failure"] == "timeout"
    assert "exit code 3" in rows["fails"]["error"]
    assert set(ran(run).values()) == {1}


def test_a_batch_that_was_not_handed_over_costs_no_attempt(world: World, cluster: SlurmCluster) -> None:
    """The manager ends when all is on disk and sbatch was not called."""
    run = on_slurm(world, job("one", "true", retries=0))
    run.start(**stand_in(world, cluster, "exec sleep 60\n"))
    batch = run.directory / "slurm/batches/1"
    wait_for((batch / "lock").exists)
    run.kill()
    world.close_processes()
    (batch / "lock").unlink()
    run.start(**stand_in(world, cluster, 'exec REAL "$@"\n'))
    assert run.finish() == 0, run.story()
    row = run.jobs()["one"]
    assert (row["attempt"], row["attempts"]) == (2, 1)
    assert ran(run) == {"one 2": 1}


def test_a_batch_of_a_killed_manager_is_adopted_by_its_name(world: World, cluster: SlurmCluster) -> None:
    """The manager ends after sbatch has submitted and before that is known."""
    run = on_slurm(world, job("one", UNTIL_GO))
    script = f'REAL "$@" >/dev/null\ntouch {world.root}/submitted\nexec sleep 60\n'
    run.start(**stand_in(world, cluster, script))
    wait_for((world.root / "submitted").exists)
    run.kill()
    run.start(**stand_in(world, cluster, "exit 1\n"))
    run.wait_running("one")
    (world.root / "work/go").touch()
    assert run.finish() == 0
    assert ran(run) == {"one 1": 1}


def test_an_unclear_answer_is_no_reason_to_submit_again(world: World, cluster: SlurmCluster) -> None:
    """sbatch submits, and says that it timed out."""
    run = on_slurm(world, *(job(f"j{n}", "true") for n in range(3)))
    words = "sbatch: error: Batch job submission failed: Socket timed out on send/recv operation"
    run.start(**stand_in(world, cluster, f'REAL "$@" >/dev/null\necho "{words}" >&2\nexit 1\n'))
    assert run.finish() == 0, run.story()
    assert ran(run) == {"j0 1": 1, "j1 1": 1, "j2 1": 1}


def test_what_slurm_refuses_is_named_and_tried_again_later(world: World, cluster: SlurmCluster) -> None:
    run = on_slurm(world, job("one", "true"))
    limit = "sbatch: error: AssocMaxSubmitJobLimit"
    script = f'[ -e {world.root}/free ] && exec REAL "$@"\necho "{limit}" >&2\nexit 1\n'
    run.start(**stand_in(world, cluster, script))
    wait_for(lambda: "AssocMaxSubmitJobLimit" in (run.jobs().get("one", {}).get("waiting") or ""))
    (world.root / "free").touch()
    assert run.finish() == 0, run.story()
    row = run.jobs()["one"]
    assert row["attempts"] == 1
    assert len(ran(run)) == 1


def test_cancel_takes_what_was_named_and_nothing_beside_it(world: World) -> None:
    """scancel with some options ends all of an array that wait. Two nodes of 8 CPUs have room for four of these."""
    names = [f"j{n}" for n in range(8)]
    run = on_slurm(world, *(job(name, UNTIL_GO, slurm={"cpus": 4}) for name in names))
    run.start()
    wait_for(lambda: sum(bool(row["pid"]) for row in run.jobs().values()) == 4, say="four to run")
    waiting = [name for name, row in run.jobs().items() if not row["pid"]]
    running = [name for name, row in run.jobs().items() if row["pid"]]
    wait_for(lambda: all("waits in Slurm's queue" in (run.jobs()[name]["waiting"] or "") for name in waiting))
    chosen = (running[0], waiting[1])
    assert run.ask(Request("cancel-1", "cancel", chosen)).ok
    for name in chosen:
        run.wait_status(name, "cancelled")
    (world.root / "work/go").touch()
    assert run.finish() == 3
    assert {name for name, status in run.statuses().items() if status == "cancelled"} == set(chosen)
    assert Counter(run.statuses().values()) == {"completed": 6, "cancelled": 2}
    assert waiting[1] not in {name.split()[0] for name in ran(run)}


def test_a_bundle_runs_in_turn_and_each_of_its_jobs_has_its_own_end(world: World, cluster: SlurmCluster) -> None:
    """A partition that allows 60 minutes has room for six of 10 in a task: seven are four and three."""
    oom = 'if [ "$WAVEQUEUE_ATTEMPT" = 1 ]; then echo "CUDA out of memory"; exit 1; fi; echo > oom'
    settings: dict[str, object] = {"bundle": 20, "time": 10, "partition": "high"}
    commands = {"fails": "exit 3", "oom": oom, "held": UNTIL_GO, "taken": "true", "ended": "sleep 60", "last": "true"}
    asked = (job(name, cmd, slurm=settings) for name, cmd in commands.items())
    run = on_slurm(world, *asked, job("seventh", "true", slurm=settings), oom_retry=OomRetry(0.1, 3))
    run.start()
    run.wait_status("fails", "stuck")
    wait_for(lambda: run.jobs()["held"]["pid"])
    assert "40:00" in cluster.call("squeue", "-r", "-h", "-o", "%l").split()
    assert run.ask(Request("cancel-1", "cancel", ("taken",))).ok
    run.wait_status("taken", "cancelled")
    (world.root / "work/go").touch()
    wait_for(lambda: run.jobs()["ended"]["pid"])
    assert run.ask(Request("cancel-2", "cancel", ("ended",))).ok
    assert run.finish() == 3, run.story()
    assert run.statuses() == {
        "fails": "stuck", "oom": "completed", "held": "completed", "taken": "cancelled", "ended": "cancelled",
        "last": "completed", "seventh": "completed",
    }  # fmt: skip
    rows = run.jobs()
    assert (rows["oom"]["attempts"], rows["last"]["attempts"], rows["last"]["attempt"]) == (2, 1, 1)
    assert set(ran(run).values()) == {1}
    assert not any(one.startswith("taken") for one in ran(run))
    first = (run.directory / "slurm/batches/1/tasks").read_text().splitlines()
    assert [line.split("\t")[3] for line in first] == ["0", "0", "0", "0", "1", "1", "1"]


def test_a_paused_run_starts_nothing_that_waits(world: World, cluster: SlurmCluster) -> None:
    run = on_slurm(world, *(job(f"j{n}", UNTIL_GO, slurm={"cpus": 8}) for n in range(4)))
    run.start()
    wait_for(lambda: sum(bool(row["pid"]) for row in run.jobs().values()) == 2, say="two to run")
    assert run.ask(Request("pause-1", "pause")).ok
    wait_for(lambda: cluster.call("squeue", "-r", "-h", "-o", "%r").count("JobHeld") == 2, say="two to be held")
    (world.root / "work/go").touch()
    wait_for(lambda: Counter(run.statuses().values())["completed"] == 2)
    assert len(ran(run)) == 2
    assert run.ask(Request("resume-1", "resume")).ok
    assert run.finish() == 0
    assert set(ran(run).values()) == {1}


SAVES = """\
python3 - <<'END'
import os, pathlib, signal, sys
saved = pathlib.Path("saved")
if saved.exists():
    pathlib.Path("out").write_text(saved.read_text())
    sys.exit()
signal.signal(signal.SIGUSR1, lambda *_: (saved.write_text("half"), sys.exit(3)))
pathlib.Path("ready").touch()
signal.pause()
END
"""


def test_a_job_saves_its_work_at_usr1_and_goes_on_from_it(world: World, cluster: SlurmCluster) -> None:
    """Slurm keeps time limits by the minute, so that a person sends here what it would send."""
    saves = job("saves", SAVES, expected_output="out", slurm={"requeue_on_timeout": True, "time": "10"})
    run = on_slurm(world, saves)
    run.start()
    wait_for((world.root / "work/ready").exists, say="the job waits for USR1")
    task = cluster.call("squeue", "-h", "-r", "-o", "%i").strip()
    cluster.call("scancel", "--batch", "--signal=USR1", task)
    assert run.finish() == 0, run.story()
    row = run.jobs()["saves"]
    assert (row["attempt"], row["attempts"], row["time_limits"]) == (2, 1, 1)
    assert (world.root / "work/out").read_text() == "half"
    assert "goes on (requeue_on_timeout)" in (run.directory / "journal.jsonl").read_text()


def test_a_shell_is_opened_beside_a_job_on_its_node(world: World) -> None:
    run = on_slurm(world, job("one", UNTIL_GO, slurm={"gres": "gpu:1"}))
    run.start()
    run.wait_running("one")
    attach = attach_command(Attached("test", run.paths), "one")
    environment = {**os.environ, **world.environment, "SHELL": "/bin/sh"}
    terminal = Terminal(attach.command, world.root, environment)
    terminal.type(b"echo on-$SLURMD_NODENAME-$CUDA_VISIBLE_DEVICES-$(tty >/dev/null && pwd); exit 7\n")
    assert terminal.end() == 7
    assert f"on-n1-0-{world.root}/work" in terminal.text
    assert run.statuses() == {"one": "running"}
    (world.root / "work/go").touch()
    assert run.finish() == 0


def test_a_run_on_a_login_node_comes_back_with_its_results(laptop: Laptop, cluster: SlurmCluster) -> None:
    """Submitted over SSH: preflight asks the node's Slurm, its manager submits there, and pull brings the results."""
    node = laptop.host("login", network={"environment": cluster.environment})
    laptop.spec(SPEC.replace("max_parallel: 2\n", "slurm: {partition: main, time: 10}\n"))
    run = laptop.submit("--engine", "slurm", "--host", "login")
    assert len(finish(node, run["run_id"])) == 4
    assert ran_on(node) == ONCE
    laptop.call("pull")
    assert (laptop.project / "code/out1").read_text() == "one\n"
    there = state(node, run["run_id"])
    assert there is not None
    assert there["meta"]["launcher"] == "slurm"
    laptop.spec(SPEC.replace("max_parallel: 2\n", "slurm: {partition: nowhere}\n"))
    out, err = laptop.call("submit", "spec.yaml", "--engine", "slurm", "--host", "login", code=1)
    assert out == ""
    assert "Slurm can never run 4 jobs (j1, j2, j3, j4): invalid partition specified: nowhere" in err


SAME = """\
project: same
launcher: process
oom_retry: {delay: 0.1, max_attempts: 3}
metrics: {loss: {json: "out/${id}.json", key: loss, goal: min}}
slurm: {mem: 100M}
phases:
  - name: teach
    grid: {n: [1, 2]}
    template: {id: "t${n}", gpus: 0, cmd: "echo ${n}00 > t${n}", expected_output: "t${n}", metrics: {}}
  - name: learn
    depends_on: teach
    match: [n]
    grid: {n: [1, 2], seed: [0..2]}
    template:
      id: "s${n}_${seed}"
      gpus: 0
      cmd: sh learn.sh ${n} ${seed}
      expected_output: "out/s${n}_${seed}.json"
  - name: last
    jobs: [{id: never, gpus: 0, cmd: "true", depends_on: [s2_2]}]
"""
LEARN = """\
[ "$1 $2" != "2 2" ] || { echo "ValueError: no" >&2; exit 3; }
[ "$1 $2 $WAVEQUEUE_ATTEMPT" != "1 1 1" ] || { echo "torch.OutOfMemoryError: CUDA out of memory."; exit 1; }
mkdir -p out
echo "{\\"loss\\": $(cat t$1).$2}" > "out/s$1_$2.json"
"""


def test_hosts_and_slurm_give_equal_results(world: World) -> None:
    """Apart from times and places."""
    found = []
    for engine, begin in (("local", ["run"]), ("slurm", ["submit", "--engine", "slurm"])):
        project = world.root / engine
        project.mkdir()
        (project / "same.yaml").write_text(SAME)
        (project / "learn.sh").write_text(LEARN)
        verb, *options = begin

        def call(*line: str, project: Path = project) -> tuple[int, str]:
            process = forked.start("skill", list(line), project, world.environment)
            out, err = process.communicate(PATIENCE)
            return process.wait(), out + err

        assert call(verb, "same.yaml", *options, "--poll", "0.2")[0] in (0, 3)
        while (ended := call("wait"))[0] == 4:  # a job is stuck, and others go on
            pass
        assert ended[0] == 3, ended
        printed = {verb: call(verb, "--json")[1] for verb in ("results", "status")}
        results = json.loads(re.sub(r"same-\d+-\d+", "RUN", printed["results"]))
        kept = [
            "id",
            "phase",
            "status",
            "attempts",
            "oom_attempts",
            "exit_code",
            "failure",
            "error",
            "metrics",
            "outcome",
        ]
        rows = [{key: row[key] for key in kept} for row in json.loads(printed["status"])["jobs"]]
        found.append((results, rows))
    local, slurm = found
    assert local[0]["rows"]
    assert local[0] == slurm[0]
    assert local[1] == slurm[1]
    statuses = {row["id"]: (row["status"], row["attempts"]) for row in slurm[1]}
    assert (statuses["s2_2"], statuses["never"], statuses["s1_1"]) == (("stuck", 1), ("blocked", 0), ("completed", 2))
