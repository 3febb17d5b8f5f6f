"""Screens and processes: what ends, what is left alone, and what is taken up again."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
from pathlib import Path

import psutil

from queue_manager.core.requests import Request
from tests.e2e.runs import World, job, manifest, sealed, until, wait_for


def test_a_session_with_a_prefix_of_the_name_is_left_alone(world: World) -> None:
    """seed1 is cancelled while seed10 runs: screen would match both by `seed1`."""
    wait = until("go")
    run = world.run(manifest(job("seed1", "sleep 1000"), job("seed10", wait), max_parallel=2))
    run.start()
    run.wait_running("seed1")
    run.wait_running("seed10")
    assert run.ask(Request("c", "cancel", ("seed1",))).jobs == ("seed1",)
    run.wait_status("seed1", "cancelled")
    assert run.jobs()["seed10"]["status"] == "running"
    (run.directory / "go").touch()
    assert run.finish() == 3
    assert run.statuses() == {"seed1": "cancelled", "seed10": "completed"}


def test_long_ids_keep_their_sessions_apart(world: World) -> None:
    names = ["x" * 110 + str(n) for n in range(3)]
    run = world.run(manifest(*[job(name, "sleep 0.3; echo $WAVEQUEUE_JOB_ID > $$") for name in names]))
    assert run.go() == 0
    assert len({row["screen_name"] for row in run.jobs().values()}) == 3


def test_the_pid_is_the_jobs_own(world: World) -> None:
    run = world.run(manifest(job("one", f"echo $$ > pid; {until('go')}")))
    run.start()
    row = run.wait_running("one")
    assert row["pid"] == int(wait_for(lambda: (run.directory / "pid").exists() and (run.directory / "pid").read_text()))
    assert psutil.Process(row["screen_pid"]).name().lower() == "screen"
    (run.directory / "go").touch()
    assert run.finish() == 0


def test_a_session_that_outlives_its_job_is_closed_and_the_job_judged(world: World) -> None:
    """A second window, as a person opens with Ctrl-a c, keeps the session up after the job has ended."""
    run = world.run(manifest(job("one", until("go")), job("two", "true"), max_parallel=1))
    run.start()
    row = run.wait_running("one")
    session = f"{row['screen_pid']}.{row['screen_name']}"
    window = ["screen", "-S", session, "-X", "screen", "sleep", "1000"]
    subprocess.run(window, env=run.world.environment, check=True)
    wait_for(lambda: "1000" in " ".join(_commands(row["screen_pid"])), say="the second window")
    (run.directory / "go").touch()
    assert run.finish() == 0
    assert world.sessions() == []


def _commands(pid: int) -> list[str]:
    found = []
    for child in psutil.Process(pid).children(recursive=True):
        with contextlib.suppress(psutil.Error):  # the job's own short sleeps end while they are looked at
            found += child.cmdline()
    return found


def test_what_a_job_leaves_behind_is_ended(world: World) -> None:
    command = "echo > out; setsid nohup bash -c 'trap \"\" TERM HUP; sleep 1000' > /dev/null 2>&1 &"
    run = world.run(manifest(job("one", command, expected_output="out")))  # without one it would be waited for
    assert run.go() == 0
    assert run.jobs()["one"]["status"] == "completed"
    left = [p for p in psutil.process_iter() if _home(p) == str(world.home)]
    assert left == []


def _home(process: psutil.Process) -> str | None:
    try:
        home: str | None = process.environ().get("HOME")
    except psutil.Error:
        return None
    return home


def test_the_socket_of_a_killed_session_goes_while_the_run_goes_on_and_no_other_does(world: World) -> None:
    """Also one that was killed with a name like ours, of another run."""
    run = world.run(manifest(job("killed", "sleep 1000"), job("other", "sleep 1000"), max_parallel=2))
    run.start()
    rows = [run.wait_running(name) for name in ("killed", "other")]
    foreign = "wq.another.a.1"
    subprocess.run(["screen", "-dmS", foreign, "sleep", "1000"], env=world.environment, check=True)
    theirs = wait_for(lambda: next((name for name in world.sessions() if name.endswith(foreign)), None))
    for pid in (rows[0]["screen_pid"], int(theirs.split(".")[0])):
        psutil.Process(pid).kill()
    wait_for(lambda: len(world.sessions()) == 2, say="the socket to go")
    assert theirs in world.sessions()
    assert run.jobs()["other"]["status"] == "running"


def test_a_job_that_is_killed_with_its_wrapper_has_failed(world: World) -> None:
    run = world.run(manifest(job("one", "sleep 1000")))
    run.start()
    row = run.wait_running("one")
    wrapper = psutil.Process(row["pid"]).parent()
    assert wrapper is not None
    wrapper.kill()
    psutil.Process(row["pid"]).kill()
    assert run.finish() == 3
    assert run.jobs()["one"]["failure"] == "killed"


MEASURED = "printf 'acc=0.9\\nacc=0.5\\n'; echo '{\"eval\": {\"loss\": 0.25}}' > out.json"
METRICS = {
    "loss": {"json": "out.json", "key": "eval.loss", "goal": "min"},
    "acc": {"log": "acc=([0-9.]+)"},
    "typo": {"json": "out.json", "key": "eval.lss"},
}


def test_a_restarted_manager_adopts_what_runs_and_takes_in_what_ended(world: World) -> None:
    run = world.run(
        manifest(
            job("runs", f"echo $$ >> pids; {until('go')}; {MEASURED}", metrics=METRICS),
            job("ends", f"echo x >> starts; {until('end')}; exit 4"),
            max_parallel=2,
        )
    )
    run.start()
    before = run.wait_running("runs")
    ends = run.wait_running("ends")
    run.kill()
    (run.directory / "end").touch()
    wait_for(lambda: not psutil.pid_exists(ends["screen_pid"]), say="the session's end")
    run.start()
    run.wait_status("ends", "stuck")
    assert run.jobs()["ends"]["exit_code"] == 4
    assert run.jobs()["runs"]["pid"] == before["pid"]
    (run.directory / "go").touch()
    assert run.finish() == 3
    assert (run.directory / "pids").read_text() == f"{before['pid']}\n"
    assert (run.directory / "starts").read_text() == "x\n"
    row = run.jobs()["runs"]
    assert row["attempts"] == 1
    assert row["metrics"] == {"loss": 0.25, "acc": 0.5, "typo": None}
    assert row["metric_errors"] == {"typo": "out.json has no key 'eval.lss'; keys there: eval.loss"}
    published = [json.loads(line) for line in (run.directory / "metrics.jsonl").read_text().splitlines()]
    assert [(one["job"], one["attempt"], one["metrics"]) for one in published] == [("runs", 1, row["metrics"])]
    assert (published[0]["run_id"], published[0]["errors"]) == (run.state()["meta"]["run_id"], row["metric_errors"])


def test_attempts_cut_off_with_the_host_cost_nothing(world: World) -> None:
    """Everything is killed at once, as when a host goes down: the manager, the sessions and the jobs."""
    run = world.run(manifest(job("one", f"echo $WAVEQUEUE_ATTEMPT >> tries; {until('go')}")))
    run.start()
    run.wait_running("one")
    run.kill()
    for process in psutil.process_iter():
        if _home(process) == str(world.home):
            process.kill()
    wait_for(lambda: not any(_home(p) == str(world.home) for p in psutil.process_iter()), say="the end of all")
    (run.directory / "go").touch()
    assert run.go() == 0
    row = run.jobs()["one"]
    assert (row["attempts"], row["attempt"]) == (1, 2)
    assert (run.directory / "tries").read_text() == "1\n2\n"


def test_a_second_manager_is_refused_and_told_who_holds_the_run(world: World) -> None:
    run = world.run(manifest(job("one", until("go"))))
    first = run.start()
    run.wait_running("one")
    before = run.paths.journal.read_bytes()
    second = subprocess.run(run.argv(), env=world.environment, capture_output=True, text=True, timeout=150)
    assert second.returncode == 2
    assert f"process {first.pid} on " in second.stderr
    after = run.paths.journal.read_bytes()  # the first may have told of the code in the meantime
    assert after.startswith(before)
    assert after.count(b'"ManagerStarted"') == 1
    (run.directory / "go").touch()
    assert run.finish() == 0


def test_one_job_id_in_two_runs_is_two_sessions(world: World) -> None:
    wait = until("go")
    runs = [world.run(manifest(job("same", wait)), name=name) for name in ("first", "second")]
    for run in runs:
        run.start()
    rows = [run.wait_running("same") for run in runs]
    assert rows[0]["screen_name"] != rows[1]["screen_name"]
    runs[0].ask(Request("c", "cancel", ("same",)))
    assert runs[0].finish() == 3
    assert runs[1].jobs()["same"]["status"] == "running"
    (runs[1].directory / "go").touch()
    assert runs[1].finish() == 0


def test_two_homes_that_have_one_run_leave_each_others_processes_alone(world: World, tmp_path: Path) -> None:
    """A run on two hosts has one id, and both may be homes of one machine."""
    (tmp_path / "other").mkdir()
    other = World(tmp_path / "other")
    try:
        wait = until("go")
        runs = [home.run(manifest(job("same", wait)), run_id="one") for home in (world, other)]
        for run in runs:
            run.start()
            run.wait_running("same")
        runs[0].ask(Request("c", "cancel", ("same",)))
        assert runs[0].finish() == 3
        (runs[1].directory / "go").touch()
        assert runs[1].finish() == 0
        assert runs[1].jobs()["same"]["attempts"] == 1
    finally:
        other.close()


def test_a_screen_that_cannot_start_is_named_and_the_queue_goes_on_when_it_can(world: World) -> None:
    bin_dir = world.root / "bin"
    bin_dir.mkdir()
    broken = bin_dir / "screen"
    broken.write_text('#!/bin/sh\ncase $1 in -ls) exec /usr/bin/screen "$@";; esac\necho no pty left; exit 1\n')
    broken.chmod(0o755)
    run = world.run(manifest(job("one", "true")))
    run.start(PATH=f"{bin_dir}:{os.environ['PATH']}")
    wait_for(lambda: any("no pty left" in alert["text"] for alert in run.alerts()), say="the alert")
    conditions = wait_for(lambda: run.state()["meta"]["conditions"])
    assert "no pty left" in conditions[0]["text"]
    assert run.jobs()["one"]["status"] in ("pending", "running")
    broken.unlink()
    assert run.finish() == 0
    row = run.jobs()["one"]
    assert (row["status"], row["attempts"]) == ("completed", 1)
    assert run.state()["meta"]["conditions"] == []


def test_terminating_the_manager_leaves_the_jobs(world: World) -> None:
    run = world.run(manifest(job("one", until("go"))))
    manager = run.start()
    pid = run.wait_running("one")["pid"]
    manager.send_signal(signal.SIGTERM)
    assert run.finish() == 1
    assert run.state()["meta"]["manager"] == "halted"
    assert Path(f"/proc/{pid}").exists()
    (run.directory / "go").touch()
    assert run.go() == 0
    assert run.state()["meta"]["manager"] == "finished"


def test_ids_and_directories_with_odd_names(world: World) -> None:
    run = world.run(manifest(job("a=1,b@x+y", "pwd"), cwd='it\'s 100% "odd" $HOME; x'), name="run dir 'q' %n")
    (run.directory / 'it\'s 100% "odd" $HOME; x').mkdir()
    assert run.go() == 0
    assert run.log("a=1,b@x+y").strip() == str(run.directory / 'it\'s 100% "odd" $HOME; x')


def test_a_session_that_a_person_closes_ends_its_job(world: World) -> None:
    """The wrapper outlives the hangup, to write the verdict; the job must not run on with its output going nowhere."""
    run = world.run(manifest(job("one", "trap '' HUP; while :; do sleep 0.1; done")))
    run.start()
    row = run.wait_running("one")
    session = f"{row['screen_pid']}.{row['screen_name']}"
    subprocess.run(["screen", "-S", session, "-X", "quit"], env=run.world.environment, check=True)
    assert run.finish() == 3
    row = run.jobs()["one"]
    assert (row["status"], row["failure"]) == ("stuck", "killed")
    assert "its session was closed" in row["error"]


def test_the_log_before_a_crash_keeps_its_name(world: World) -> None:
    """The host goes down between journaling attempt 2 and doing anything for it: attempt 1's log stays attempt 1's."""
    run = world.run(
        manifest(job("one", "echo I am attempt $WAVEQUEUE_ATTEMPT; [ $WAVEQUEUE_ATTEMPT != 1 ]", retries=1))
    )
    run.start()
    run.wait_status("one", "failed_other")
    run.kill()
    last = list(run.events())[-1]
    boot = next(event["boot"] for event in run.events() if event["event"] == "AttemptStarting")
    begun = {"at": last["at"], "event": "RetryDue", "job": "one", "seq": last["seq"] + 1}
    starting = {"at": last["at"], "event": "AttemptStarting", "job": "one", "n": 2, "wave": 2, "session": "wq.x",
                "boot": "the life before " + boot, "seq": last["seq"] + 2}  # fmt: skip
    with run.paths.journal.open("a") as file:
        file.write(sealed(json.dumps(begun) + "\n" + json.dumps(starting) + "\n"))
    assert run.go() == 0
    assert run.log("one").strip() == "I am attempt 3"
    assert (run.paths.log_dir / "one.1.log").read_text().strip() == "I am attempt 1"
    assert not (run.paths.log_dir / "one.2.log").exists()
