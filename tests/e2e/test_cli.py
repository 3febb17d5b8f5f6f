"""The command as people use it: real managers, real screens, real terminals."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from queue_manager.core.layout import RunPaths
from tests import forked, in_process, nvml
from tests.e2e.runs import PATIENCE, ROOT, World, pause, until, wait_for
from tests.e2e.terminal import Terminal

TWO_PHASES = """
project: small
max_parallel: 2
phases:
  - name: teachers
    grid: {N: [1, 2]}
    template: {id: "t${N}", cmd: "echo teaching ${N}; echo x > t${N}", gpus: 0, expected_output: "t${N}"}
  - name: students
    depends_on: teachers
    match: [N]
    grid: {N: [1, 2], seed: [7, 8]}
    template:
      id: "s${seed}_N${N}"
      cmd: cat t${N}; echo '{"accuracy":' 0.${N}${seed} '}' > s${seed}_N${N}.json
      gpus: 0
      expected_output: "s${seed}_N${N}.json"
"""
BROKEN = """
project: broken
jobs:
  - {id: bad, cmd: "echo one; echo ValueError: no such layer; test -e mended", gpus: 0}
  - {id: after, cmd: "echo two", gpus: 0, depends_on: [bad]}
"""
LONG = """
project: long
max_parallel: 2
jobs:
  - {id: one, cmd: "echo begun; until [ -e stop ]; do PAUSE; done; echo ended", gpus: 0}
  - {id: two, cmd: "until [ -e stop ]; do PAUSE; done", gpus: 0}
  - {id: three, cmd: "echo three", gpus: 0}
""".replace("PAUSE", pause())
STARTS_NOTHING = frozenset({"build", "cancel", "init", "logs", "pause", "plan", "report", "status", "watch", "why"})
"""Verbs that start no manager."""


class Desk:
    """A person's directory on a host, and the command there."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.place = world.root / "my work"
        self.place.mkdir()

    def argv(self, *arguments: str) -> list[str]:
        return [sys.executable, "-m", "skill", *arguments]

    def call(self, *arguments: str, code: int = 0) -> in_process.Ended:
        """Run the command to its end: in this process, if it starts no manager, whose parent it would be."""
        if arguments[0] in STARTS_NOTHING:
            done = in_process.run(arguments, self.place, self.world.environment)
        else:
            process = forked.start("skill", list(arguments), self.place, self.world.environment)
            out, err = process.communicate(2 * PATIENCE)
            done = in_process.Ended(process.wait(), out, err)
        assert done.returncode == code, (arguments, done)
        return done

    def terminal(self, *arguments: str, kind: str = "xterm-256color") -> Terminal:
        """The command on a terminal of its own; `kind`: what TERM says."""
        return Terminal(self.argv(*arguments), self.place, self.world.environment, kind)

    def spec(self, text: str, name: str = "spec.yaml") -> str:
        (self.place / name).write_text(text)
        return name

    def detach(self, spec: str, *options: str) -> RunPaths:
        """Start a run without a view."""
        done = self.call("run", self.spec(spec), "--detach", "--json", *options)
        return RunPaths.of(Path(json.loads(done.stdout)["directory"]))

    def document(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.call("status", "--json").stdout)
        return found

    def wait(self, **statuses: str) -> dict[str, Any]:
        """Wait until these jobs have these statuses."""

        def there() -> dict[str, Any] | None:
            document = self.document()
            now = {row["id"]: row["status"] for row in document["jobs"]}
            return document if statuses.items() <= now.items() else None

        found: dict[str, Any] = wait_for(there, say=str(statuses))
        return found

    def finish(self, code: int = 0) -> dict[str, Any]:
        """Wait for the run's end."""
        self.call("watch", code=code)
        return self.document()


@pytest.fixture
def desk(world: World) -> Desk:
    return Desk(world)


def test_a_run_ends_with_the_summary_there_is_a_report_of_it_and_add_brings_what_is_new(desk: Desk) -> None:
    done = desk.call("run", desk.spec(TWO_PHASES))
    assert done.stderr == ""
    assert "\x1b" not in done.stdout
    lines = done.stdout.splitlines()
    completed = [line.split()[2] for line in lines if re.match(r"\d\d:\d\d:\d\dZ completed ", line)]
    assert sorted(completed) == ["s7_N1", "s7_N2", "s8_N1", "s8_N2", "t1", "t2"]
    assert completed.index("t1") < completed.index("s7_N1")
    assert "# small: 6 of 6 jobs completed" in lines
    assert "| students | 4 | 4 |" in done.stdout
    (directory,) = (desk.place / "experiment_queue").glob("[!.]*")
    assert lines[-1] == str(directory / "summary.md")
    link = desk.world.host.runs / directory.name
    assert link.resolve() == directory
    assert re.fullmatch(r"small-\d{8}-\d{6}", directory.name)
    assert json.loads((directory / "manifest.json").read_text())["cwd"] == str(desk.place)

    document = desk.document()
    assert document["meta"]["manager"] == "finished"
    report = json.loads(desk.call("report", "--json").stdout)
    assert [(group["params"], group["metrics"]["accuracy"]["n"]) for group in report["metrics"]] == [
        ({"N": "1"}, 2),
        ({"N": "2"}, 2),
    ]
    assert report["metrics"][0]["metrics"]["accuracy"]["mean"] == pytest.approx(0.175)
    assert "how long: about" in desk.call("plan", "spec.yaml").stdout
    assert desk.call("logs", "t1").stdout == "teaching 1\n"
    assert desk.call("logs", "t1", "-f").stdout == "teaching 1\n"
    assert "completed after" in desk.call("why", "s7_N1").stdout
    assert desk.call("add", "spec.yaml").stdout.endswith("nothing to add: it has every job of spec.yaml\n")

    desk.spec(TWO_PHASES.replace("seed: [7, 8]", "seed: [7, 8, 9]"))
    assert "added: 2 jobs" in desk.call("add", "spec.yaml").stdout
    document = desk.finish()
    assert document["counts"] == {"completed": 8}
    assert {row["id"]: row["attempts"] for row in document["jobs"]}["s7_N1"] == 1
    desk.spec(TWO_PHASES.replace("cat t${N};", "true;"))
    done = desk.call("add", "spec.yaml", code=2)
    assert "4 of the jobs of spec.yaml are in run" in done.stderr
    assert "s7_N1" in done.stderr
    assert "wavequeue run spec.yaml" in done.stderr


def test_a_run_tells_when_it_will_have_ended_and_the_next_one_from_what_it_took(desk: Desk) -> None:
    spec = """
project: timed
max_parallel: 1
grid: {n: [1, 2, 3]}
template: {id: "j${n}", cmd: "until [ -e go ]; do PAUSE; done", gpus: 0, est_minutes: 2}
""".replace("PAUSE", pause())
    run = desk.detach(spec)

    def estimate() -> dict[str, Any] | None:
        found: dict[str, Any] | None = json.loads(desk.call("status", "--json").stdout)["estimate"]
        return found

    found = wait_for(estimate, say="an estimate")
    assert (found["basis"], found["note"], found["cost_usd"]) == (["est_minutes for jobs"], None, None)
    assert 300 < found["eta_s"] < found["makespan_s"] <= 361
    shown = r"  ETA \d\d:\d\d:\d\dZ, in about [56] min \d\d s \(from est_minutes for jobs\)\n"
    assert re.search(shown, desk.call("status").stdout)
    assert not run.durations.exists()
    (desk.place / "go").touch()
    desk.finish()
    assert json.loads(desk.call("status", "--json").stdout)["estimate"] is None
    (desk.place / "go").unlink()
    again = desk.detach(spec)
    assert sorted(json.loads(again.durations.read_text())["jobs"]) == ["j1", "j2", "j3"]
    found = wait_for(estimate, say="an estimate")
    assert found["basis"] == ["3 completed jobs of jobs in earlier runs"]
    (desk.place / "go").touch()
    desk.finish()


def test_a_failed_run_exits_3_says_why_and_goes_on_after_a_retry(desk: Desk) -> None:
    done = desk.call("run", desk.spec(BROKEN), "--json", code=3)
    document = json.loads(done.stdout)
    assert document["counts"] == {"blocked": 1, "stuck": 1}
    assert "stuck        bad  exit code 1: ValueError: no such layer" in done.stderr
    story = json.loads(desk.call("why", "after", "--json").stdout)
    assert [root["id"] for root in story["roots"]] == ["bad"]
    text = desk.call("why", "bad").stdout
    assert "  | ValueError: no such layer" in text
    retry = next(line for line in text.splitlines() if "retry it" in line).partition(": ")[2]
    (desk.place / "mended").touch()
    done = desk.call(*retry.split()[1:])
    assert "retried: 1 job" in done.stdout
    assert "the manager was not running; started it again" in done.stderr
    document = desk.finish()
    assert document["counts"] == {"completed": 2}
    assert [row["status"] for row in json.loads(desk.call("why", "bad", "--json").stdout)["attempts"]] == [
        "stuck", "completed",
    ]  # fmt: skip
    assert desk.call("logs", "bad", "--attempt", "1").stdout == desk.call("logs", "bad").stdout


def test_a_machine_without_a_gpu_starts_nothing(desk: Desk) -> None:
    done = desk.call("run", desk.spec(TWO_PHASES.replace("gpus: 0, expected", "expected")), code=1)
    assert done.stdout == ""
    assert done.stderr.startswith("wavequeue: this machine has no GPU (")
    assert "2 of 6 jobs ask for one, in phase teachers" in done.stderr
    assert [path.name for path in desk.place.iterdir()] == ["spec.yaml"]
    assert not desk.world.host.runs.exists()
    plan = desk.call("plan", "spec.yaml", code=1)
    assert "it cannot run here: this machine has no GPU" in plan.stderr
    assert "students" in plan.stdout


@pytest.mark.parametrize(
    ("line", "says"),
    [("cwd: nowhere", "/nowhere does not exist"), ("venv: .venv", "create it with: python3 -m venv")],
)
def test_a_directory_that_is_missing_is_reported_before_anything_starts(desk: Desk, line: str, says: str) -> None:
    done = desk.call("run", desk.spec(f"{TWO_PHASES}{line}\n"), code=2)
    assert says in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert [path.name for path in desk.place.iterdir()] == ["spec.yaml"]


def test_jobs_share_two_cards_and_what_can_never_run_is_named_first(desk: Desk, tmp_path: Path) -> None:
    standin = nvml.Standin(tmp_path, nvml.cards(2))
    desk.world.environment.update(standin.env)
    spec = """
project: cards
jobs:
  - {id: a, cmd: 'echo "$CUDA_VISIBLE_DEVICES" > card_a'}
  - {id: b, cmd: 'echo "$CUDA_VISIBLE_DEVICES" > card_b'}
  - {id: wide, cmd: echo, gpus: 3}
"""
    done = desk.call("run", desk.spec(spec), "--poll", "0.2", code=3)
    assert "1 job can never run here (wide): needs 3 GPUs; this host has 2 GPUs" in done.stderr
    assert "stuck        wide  needs 3 GPUs" in done.stdout
    assert {(desk.place / f"card_{name}").read_text() for name in "ab"} <= {"0\n", "1\n"}
    plan = json.loads(desk.call("plan", "spec.yaml", "--json").stdout)
    assert plan["phases"][0]["at_once"] == 2
    assert any("wide" in warning for warning in plan["warnings"])


def test_pause_add_cancel_and_resume_steer_a_run(desk: Desk) -> None:
    run = desk.detach(LONG)
    desk.wait(one="running", two="running")
    assert "paused: running jobs continue" in desk.call("pause").stdout
    done = desk.call(
        "add", "--id", "extra", "--cmd", 'echo "$WAVEQUEUE_JOB_ID"', "--gpus", "0", "--depends-on", "three"
    )
    assert done.stdout == f"{run.root.name}: added: 1 job\n"
    assert "this command asks for confirmation" in desk.call("cancel", "tw*", code=2).stderr
    assert "cancelled: 1 job" in desk.call("cancel", "tw*", "--yes").stdout
    document = desk.wait(two="cancelled")
    assert {row["id"]: row["status"] for row in document["jobs"]}["three"] == "pending"
    assert "the run is paused" in desk.call("why", "three").stdout
    assert "resumed" in desk.call("resume").stdout
    desk.wait(extra="completed")
    assert "unchanged: two is already cancelled" in desk.call("cancel", "two", code=1).stderr
    (desk.place / "stop").touch()
    desk.finish(code=3)
    assert desk.call("logs", "extra").stdout == "extra\n"
    assert desk.call("cancel", "--all", "--yes").stdout.endswith("none of these jobs is running or waiting\n")


def test_a_mistaken_output_is_corrected_while_its_job_runs(desk: Desk) -> None:
    spec = f"project: p\njobs:\n- {{id: a, cmd: '{until('go')}; echo > right', gpus: 0, %s}}\n"
    desk.detach(spec % "expected_output: wrong")
    desk.wait(a="running")
    desk.spec(spec % "expected_output: right, timeout: 1h")
    assert "wavequeue add spec.yaml --update" in desk.call("add", "spec.yaml", code=2).stderr
    assert "changed: 1 job" in desk.call("add", "spec.yaml", "--update").stdout
    desk.spec(spec % "expected_output: right, timeout: 1h, retries: 2")
    (desk.place / "go").touch()
    assert desk.finish()["jobs"][0]["expected_output"] == "right"
    assert "unchanged, since has completed: a" in desk.call("add", "spec.yaml", "--update", code=1).stderr


def test_a_killed_manager_is_noticed_and_resume_goes_on(desk: Desk) -> None:
    run = desk.detach(LONG)
    document = desk.wait(one="running", two="running")
    os.kill(document["meta"]["pid"], signal.SIGKILL)
    wait_for(lambda: not desk.document()["manager_alive"])
    done = desk.call("watch", code=1)
    assert f"has died; running jobs continue. Start it again: wavequeue resume --run {run.root.name}" in done.stderr
    assert "takes effect when the run continues" in desk.call("cancel", "three").stdout
    desk.world.environment["NEW_NAME"] = "its value"
    done = desk.call("resume")
    assert "the manager was not running; started it again" in done.stderr
    assert "these variables differ: NEW_NAME (a new run uses the new values)" in done.stderr
    assert "its value" not in done.stderr
    document = desk.wait(one="running", two="running", three="cancelled")
    desk.call("pause")
    os.kill(document["meta"]["pid"], signal.SIGKILL)
    wait_for(lambda: not desk.document()["manager_alive"])
    run.state.write_text("damaged\n")
    assert f"from the journal: wavequeue resume --run {run.root.name}" in desk.call("status", code=2).stderr
    done = desk.call("resume")
    assert "these variables differ: NEW_NAME" in done.stderr
    assert "resumed" in done.stdout
    wait_for(lambda: not desk.document()["meta"]["paused"])  # the answer may come before the state that says so
    (desk.place / "stop").touch()
    document = desk.finish(code=3)
    assert {row["id"]: row["attempts"] for row in document["jobs"]} == {"one": 1, "two": 1, "three": 0}


def test_a_spec_whose_run_is_live_runs_again_only_where_that_is_meant_and_what_is_done_can_be_skipped(
    desk: Desk,
) -> None:
    (desk.place / "train.py").write_text("old code\n")
    os.utime(desk.place / "train.py", (1, 1))
    held = TWO_PHASES.replace("echo teaching ${N};", f"{until('go')}; echo once >> ran${{N}};")
    first = desk.detach(held)
    done = desk.call("run", "spec.yaml", "--detach", code=2)
    assert f"{first.root.name} is live on this machine and runs the jobs of spec.yaml" in done.stderr
    assert f"{first.root.name} is live" in desk.call("plan", "spec.yaml", code=1).stderr
    assert [path.name for path in (desk.place / "experiment_queue").glob("[!.]*")] == [first.root.name]
    second = desk.detach(held, "--again")
    (desk.place / "go").touch()
    for run in (first, second):
        desk.call("watch", "--run", str(run.root))
    assert desk.document()["meta"]["run_id"] == second.root.name
    (desk.place / "t2").unlink()
    assert "5 of 6 outputs already exist here" in desk.call("plan", "spec.yaml").stderr
    done = desk.call("run", "spec.yaml", "--skip-done", "--json")
    assert "5 jobs (t1, s7_N1, s8_N1, … (5 in all)) not run" in done.stderr
    rows = {row["id"]: (row["status"], row["attempts"], row["code"] is None) for row in json.loads(done.stdout)["jobs"]}
    assert rows.pop("t2")[:2] == ("completed", 1)
    assert set(rows.values()) == {("completed", 0, True)}
    assert [len((desk.place / name).read_text().splitlines()) for name in ("ran1", "ran2")] == [2, 3]
    assert "not run: its output already existed" in desk.call("why", "t1").stdout


def test_the_live_view_draws_takes_keys_and_ctrl_c_leaves_the_run_going_as_attach_leaves_its_job(desk: Desk) -> None:
    terminal = desk.terminal("run", desk.spec(LONG))
    terminal.wait_for("begun")  # the last line of a running job's log
    for part in ("phases", "running", "1 pending", "q leave (the run continues)", "▓"):
        assert part in terminal.text
    for keys, shown in (
        (b"?", "needs a person"),
        (b"q/three", "/three_"),
        (b"\r", "1 of 3 jobs match three"),
        (b"k", "cancel three? y: yes"),
        (b"y", "cancelled: 1 job"),
        (b"\x1b\x1b[H\r", "log of one: arrows"),
    ):
        terminal.type(keys)
        terminal.wait_for(shown)
    terminal.type(b"\x03")
    assert terminal.end() == 130
    assert re.search(r"left the view; long-\S+ continues\. follow it: wavequeue watch --run long-", terminal.text)
    assert "Traceback" not in terminal.text
    document = desk.document()
    assert document["manager_alive"]
    assert document["counts"] == {"cancelled": 1, "running": 2}

    wait_for(lambda: next(row for row in desk.document()["jobs"] if row["id"] == "one")["screen_pid"])
    terminal = desk.terminal("attach", "one", kind="known-to-nobody")
    terminal.wait_for("Ctrl-a d detaches")
    terminal.wait_for("begun")
    terminal.type(b"\x01d")
    assert terminal.end() == 0
    assert desk.document()["counts"]["running"] == 2
    assert "attach needs a terminal" in desk.call("attach", "one", code=2).stderr
    (desk.place / "stop").touch()
    desk.finish(3)


def test_watch_on_a_terminal_ends_with_the_run(desk: Desk) -> None:
    desk.detach(BROKEN)
    terminal = desk.terminal("watch")
    assert terminal.end() == 3
    assert "need a person" in terminal.text
    assert "finished, 0 of 2 jobs completed" in terminal.text


def test_without_a_terminal_attach_says_what_to_use_instead(desk: Desk) -> None:
    desk.detach(LONG + "launcher: process\n")
    desk.wait(one="running")
    errors = desk.call("attach", "one", code=2).stderr
    assert (
        "job one has no terminal to attach to (launcher: process); follow its log instead: wavequeue logs one" in errors
    )
    assert errors.rstrip().endswith("-f")
    (desk.place / "stop").touch()
    desk.finish()


def test_logs_are_followed_to_the_end_over_attempts(desk: Desk) -> None:
    spec = """
project: again
jobs:
  - id: a
    cmd: printf '10%%\\r20%%\\n'; echo attempt $WAVEQUEUE_ATTEMPT; test $WAVEQUEUE_ATTEMPT = 2
    gpus: 0
    retries: 1
"""
    desk.detach(spec)
    done = desk.call("logs", "a", "-f")
    assert done.stdout == "20%\nattempt 1\n20%\nattempt 2\n"
    assert "-- a: failed_other: exit code 1" in done.stderr
    assert "-- a: attempt 2 begins" in done.stderr
    assert done.stderr.endswith("-- a: completed, exit code 0\n")


def test_a_reader_that_has_seen_enough_ends_the_command_quietly(desk: Desk) -> None:
    desk.spec(
        "project: many\ngrid: {n: [" + ", ".join(map(str, range(1200))) + "]}\ntemplate: {id: 'j${n}', cmd: echo}\n"
    )
    line = f"{sys.executable} -m skill build spec.yaml | head -c 10"
    done = subprocess.run(
        ["bash", "-c", line],
        cwd=desk.place,
        env=desk.world.environment,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
    )
    assert (done.stdout, done.stderr) == ('{"format":', "")


def test_a_checkout_works_from_any_directory(desk: Desk) -> None:
    """The shipped demo's spec is found and planned from elsewhere."""
    plan = json.loads(desk.call("plan", str(ROOT / "manifests" / "demo.yaml"), "--json").stdout)
    assert plan["totals"]["jobs"] == 8
    assert plan["cwd"] == str(ROOT / "manifests" / "demo")
