"""How jobs are judged: real processes in real screens, real files."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from typing import Any

import pytest

from queue_manager.core.manifest import OomRetry, Phase, Precondition
from queue_manager.core.requests import Request
from queue_manager.core.times import epoch
from tests.e2e.runs import World, job, lives, manifest, until, wait_for


def one(world: World, cmd: str, **fields: Any) -> dict[str, Any]:
    """Run one job to its end; its row."""
    run = world.run(manifest(job("one", cmd, **fields), oom_retry=OomRetry(0.1, 2)))
    run.go()
    return run.jobs()["one"]


def test_exit_code_0_completes_and_the_log_holds_all(world: World) -> None:
    run = world.run(manifest(job("one", "test -t 1 && echo on a terminal; seq 3000; echo err >&2")))
    assert run.go() == 0
    log = run.paths.log("one").read_bytes().decode()
    assert log == "on a terminal\n" + "".join(f"{n}\n" for n in range(1, 3001)) + "err\n"
    assert run.paths.summary.read_text().startswith("# test: 1 of 1 jobs completed")


def test_logs_have_plain_line_ends_though_jobs_have_an_ordinary_terminal(world: World) -> None:
    """The terminal stays as a person who attaches needs it, and what a progress bar writes stays."""
    bar = "printf ' 10%%|#\\r 99%%|##\\n'; stty -a | grep -o ' onlcr'; false"
    jobs = [job("bar", bar), job("again", "echo $WAVEQUEUE_ATTEMPT; false", retries=1)]
    run = world.run(manifest(*jobs, gpus=()))
    run.go()
    logs = {path.name: path.read_bytes() for path in run.paths.log_dir.iterdir()}
    assert logs == {"bar.log": b" 10%|#\r 99%|##\n onlcr\n", "again.1.log": b"1\n", "again.log": b"2\n"}
    assert list(run.paths.attempts.iterdir()) == []


def test_where_there_is_no_terminal_the_log_is_what_the_job_wrote(world: World) -> None:
    run = world.run(manifest(job("one", "printf 'a\\r\\nb\\n'"), launcher="process"))
    assert run.go() == 0
    assert run.paths.log("one").read_bytes() == b"a\r\nb\n"
    assert list(run.paths.attempts.iterdir()) == []


def test_output_of_an_earlier_day_does_not_complete_a_job(world: World) -> None:
    directory = world.root / "run"
    directory.mkdir()
    (directory / "ckpt.pt").write_text("old")
    os.utime(directory / "ckpt.pt", (1_600_000_000, 1_600_000_000))
    row = one(world, "true", expected_output="ckpt.pt")
    assert (row["status"], row["failure"]) == ("stuck", "no_output")
    assert "left over from before" in row["error"]


def test_exit_code_0_without_output_is_a_failure(world: World) -> None:
    row = one(world, "echo forgot to save", expected_output="ckpt.pt")
    assert (row["status"], row["failure"], row["exit_code"]) == ("stuck", "no_output", 0)
    assert "ckpt.pt does not exist" in row["error"]


def test_a_glob_is_matched_and_not_quoted(world: World) -> None:
    """Also one in which a value stands for itself, and one that begins at a place that only the host knows."""
    run = world.run(
        manifest(
            job("glob", "mkdir -p out; echo > out/epoch_3.pt", expected_output="out/epoch_*.pt"),
            job("value", "mkdir -p 'l=[6,4]'; echo > 'l=[6,4]/m.pt'", expected_output="l=[[]6,4]/m.pt"),
            job("sibling", "mkdir -p l=6; echo > l=6/m.pt", expected_output="l=[[]6]/m.pt"),
            job("shell", "mkdir -p $OUT; echo > $OUT/e.pt", expected_output="$OUT/*.pt", env={"OUT": "own"}),
            shell_paths=True,
        )
    )
    run.go()
    found = {name: row["status"] for name, row in run.jobs().items()}
    assert found == {"glob": "completed", "value": "completed", "sibling": "stuck", "shell": "completed"}


def test_output_with_a_bad_exit_code_completes_with_a_warning(world: World) -> None:
    row = one(world, "echo > ckpt.pt; exit 7", expected_output="ckpt.pt")
    assert (row["status"], row["exit_code"]) == ("completed", 7)
    assert "exit code 7" in row["warning"]


def test_a_siblings_file_completes_nobody_else(world: World) -> None:
    """Both globs match both files; the second job dies, and its exit code decides alone."""
    run = world.run(
        manifest(
            job("a", "echo > result_a.json", expected_output="result_*.json"),
            job("b", f"{until('result_a.json')}; exit 5", expected_output="result_*.json"),
            max_parallel=2,
        )
    )
    assert run.go() == 3
    assert run.statuses() == {"a": "completed", "b": "stuck"}
    assert run.jobs()["b"]["exit_code"] == 5


def test_a_file_that_a_living_process_writes_completes_nothing(world: World) -> None:
    run = world.run(
        manifest(
            job("teacher", f"echo half > ckpt.pt; {until('go')}", expected_output="ckpt.pt"),
            job("student", "cat ckpt.pt > seen", depends_on=("teacher",)),
            max_parallel=2,
        )
    )
    run.start()
    run.wait_running("teacher")
    ckpt = run.directory / "ckpt.pt"
    wait_for(lambda: ckpt.exists() and ckpt.read_text() == "half\n", say="the first half")
    assert run.jobs()["student"]["status"] == "pending"
    assert run.jobs()["student"]["waiting"] == "waits for job teacher"
    ckpt.write_text("whole")
    (run.directory / "go").touch()
    assert run.finish() == 0
    assert (run.directory / "seen").read_text() == "whole"


def test_a_pipe_keeps_the_exit_code_and_a_folded_command_its_log(world: World) -> None:
    assert one(world, "(echo hello; exit 9) | tee copy\n")["exit_code"] == 9
    assert (world.root / "run" / "copy").read_text() == "hello\n"


def test_variables_reach_the_program_behind_cd(world: World) -> None:
    row = one(world, "X=1 cd / && bash -c 'echo $CUDA_VISIBLE_DEVICES:$CUDA_DEVICE_ORDER:$WAVEQUEUE_JOB_ID:$WQT'",
              env={"WQT": "a b"})  # fmt: skip
    assert row["status"] == "completed"
    assert (world.root / "run" / "logs" / "one.log").read_text().strip() == ":PCI_BUS_ID:one:a b"


def test_oom_is_retried_then_stuck_and_its_dependents_are_blocked_and_released(world: World) -> None:
    dies = "[ -e fixed ] || { echo 'RuntimeError: CUDA error: out of memory'; seq -f '    frame %g' 20000; exit 1; }"
    run = world.run(
        manifest(
            job("teacher", dies, phase="teachers"),
            job("student", "true", phase="students"),
            job("later", "true", phase="later"),
            phases=(Phase("teachers"), Phase("students", ("teachers",)), Phase("later", ("students",))),
            oom_retry=OomRetry(0.2, 3),
        )
    )
    run.start()
    waits = run.wait_status("teacher", "failed_oom")
    assert waits["retry_at"]
    assert "CUDA error: out of memory" in waits["error"]
    assert run.finish() == 3
    rows = run.jobs()
    assert (rows["teacher"]["status"], rows["teacher"]["attempts"], rows["teacher"]["oom_attempts"]) == ("stuck", 3, 3)
    for name in ("student", "later"):
        assert rows[name]["status"] == "blocked"
        assert rows[name]["error"] == "depends on teacher, which is stuck"
        assert rows[name]["attempts"] == 0
    assert {path.name for path in run.paths.log_dir.iterdir()} == {"teacher.log", "teacher.1.log", "teacher.2.log"}
    assert [alert["kind"] for alert in run.alerts()] == ["oom", "oom", "stuck"]

    (run.directory / "fixed").touch()
    run.start()
    answer = run.ask(Request("again", "retry", ("teacher",)))
    assert answer.ok
    assert run.finish() == 0
    assert set(run.statuses().values()) == {"completed"}


def test_an_oom_message_of_a_job_that_recovers_means_nothing(world: World) -> None:
    row = one(world, "echo 'torch.OutOfMemoryError: CUDA out of memory.'; echo > o", expected_output="o")
    assert (row["status"], row["oom_attempts"]) == ("completed", 0)


def test_the_log_of_the_attempt_before_is_not_judged(world: World) -> None:
    """Attempt 1 dies of OOM, attempt 2 of something else: it is no OOM."""
    cmd = "if [ $WAVEQUEUE_ATTEMPT = 1 ]; then echo CUDA out of memory; exit 1; fi; echo ValueError: bad; exit 2"
    run = world.run(manifest(job("one", cmd), oom_retry=OomRetry(0.1, 3)))
    assert run.go() == 3
    row = run.jobs()["one"]
    assert (row["status"], row["failure"], row["oom_attempts"], row["attempts"]) == ("stuck", "exit_code", 1, 2)
    assert "ValueError: bad" in row["error"]


def test_a_job_that_was_killed_by_hand_did_not_run_out_of_memory(world: World) -> None:
    """bash reports it in the words that the kernel's OOM killer leaves, too."""
    row = one(world, "bash -c 'kill -9 $$'; exit $?")
    assert (row["status"], row["failure"], row["exit_code"], row["oom_attempts"]) == ("stuck", "killed", 137, 0)


def test_retries_are_for_other_failures(world: World) -> None:
    cmd = "[ $WAVEQUEUE_ATTEMPT -ge 2 ]"
    run = world.run(manifest(job("one", cmd, retries=1)))
    run.start()
    assert run.wait_status("one", "failed_other")["waiting"].startswith("waits for its retry at ")
    assert run.finish() == 0
    assert run.jobs()["one"]["attempts"] == 2


def test_a_timeout_ends_all_that_the_job_started(world: World) -> None:
    """Its children ignore TERM, one has left the session; none lives on."""
    cmd = "trap '' TERM; setsid bash -c 'trap \"\" TERM; sleep 1000 & echo $! >> pids; wait' & sleep 1001 & wait"
    run = world.run(manifest(job("one", cmd, timeout=0.5), job("two", "true", depends_on=("one",))))
    assert run.go() == 3
    row = run.jobs()["one"]
    assert (row["status"], row["failure"]) == ("stuck", "timeout")
    assert "stopped by its timeout after 0.5 s; had 10 s to save, then it was killed" in row["error"]
    pid = int((run.directory / "pids").read_text())
    assert not lives(pid)
    assert world.sessions() == []


SPIN = "for ((i = 0; i < 10000; i++)); do :; done"
"""Some ten to twenty milliseconds of work."""
WORKS = f"exec 3<> <(:); until [ -e stop ]; do {SPIN}; read -t 0.03 -u 3; done"
"""Works about a third of the time, which is well above what counts as waiting: `read` waits for what never comes."""
WORK = f"nohup timeout 60 bash -c '{WORKS}; echo > o' > /dev/null 2>&1 &"
PRINTS = f"bash -c 'trap exit HUP; {WORKS.replace('read', 'echo; read')}; echo > q' &"
"""It would die of its terminal's end: of the hangup, or of its next line."""
HIDES = WORK.replace("> o", "> r").replace("nohup", 'env -i PATH="$PATH"')
"""It has not the environment by which a job's processes are found."""


LATER = "(sleep 4; echo > later) &"
"""It does nothing for longer than what a command leaves is looked at before anything is decided."""
SERVES = f"{sys.executable} -c 'import socket; s = socket.create_server((\"127.0.0.1\", 0)); s.accept()' &"


def test_work_that_a_command_leaves_behind_is_waited_for_and_decides_by_its_output(world: World) -> None:
    """All commands end at once; what they leave works on over a kill of the manager, but for what only serves."""
    waits = [job("waits", WORK, expected_output="o"), job("prints", PRINTS, expected_output="q")]
    fails = [job("fails", WORK.replace("> o", "> p")), job("hides", HIDES)]
    run = world.run(manifest(*waits, *fails, job("later", LATER), job("serves", SERVES), max_parallel=6))
    run.start()
    row = run.wait_status("later", "completed")
    assert "waited for" in row["warning"]
    assert (run.directory / "later").exists()
    assert "ended 1 process that it left running" in run.wait_status("serves", "completed")["warning"]
    going = ("waits", "prints", "fails", "hides")
    wait_for(lambda: all("waits for" in (run.jobs()[name]["warning"] or "") for name in going), say=run.story())
    run.kill()
    run.start()
    (run.directory / "stop").touch()
    assert run.finish() == 3
    rows = run.jobs()
    assert [rows[name]["status"] for name in going] == ["completed", "completed", "stuck", "stuck"]
    assert "waited for" in rows["waits"]["warning"]
    assert "until [ -e stop ]" in rows["waits"]["warning"]
    for name in ("fails", "hides"):
        assert rows[name]["failure"] == "leftovers"
        assert "still used CPU or a GPU" in rows[name]["error"]


def test_a_job_that_waits_for_an_answer_is_reported_until_it_has_one(world: World) -> None:
    run = world.run(manifest(job("asks", "echo; read -p 'Go on? ' answer; echo \"it was $answer\"")))
    run.start()
    run.wait_running("asks")
    row = wait_for(lambda: (one := run.jobs()["asks"])["asks"] and one, say="the question" + run.story())
    assert row["asks"].endswith("on its terminal: 'Go on?'")
    assert row["status"] == "running"
    assert row["cpu"] < 5.0
    assert row["silent_s"] is not None
    (condition,) = run.state()["meta"]["conditions"]
    assert condition["kind"] == "prompt:asks"
    assert "wavequeue attach asks" in condition["text"]
    answer = ["screen", "-S", f"{row['screen_pid']}.{row['screen_name']}", "-X", "stuff", "yes\n"]
    subprocess.run(answer, env=world.environment, check=True)
    assert run.finish() == 0
    assert "it was yes" in run.log("asks")
    assert run.state()["meta"]["conditions"] == []
    assert run.jobs()["asks"]["asks"] is None


def test_an_idle_process_with_its_output_there_is_ended(world: World) -> None:
    run = world.run(manifest(job("one", "echo > o; sleep 1000", expected_output="o"), stale_after=1.0))
    assert run.go() == 0
    row = run.jobs()["one"]
    assert row["status"] == "completed"
    assert "idle" in row["warning"]
    assert world.sessions() == []


def test_the_time_without_a_manager_counts_where_a_job_did_nothing_in_it(world: World) -> None:
    run = world.run(manifest(job("one", "echo > o; sleep 1000", expected_output="o"), stale_after=6.0))
    run.start()

    def records(event: str) -> list[dict[str, Any]]:
        return [row for row in run.events() if row["event"] == event]

    wait_for(lambda: run.paths.journal.exists() and records("AttemptIdle"), say="idleness")
    run.kill()
    ((since, *_),) = (row["work"] for row in records("AttemptIdle"))
    wait_for(lambda: time.time() > since + 4.0)
    assert run.go() == 0
    (stops,), (_, again) = records("AttemptStopping"), records("ManagerStarted")
    assert since + 6.0 <= epoch(stops["at"]) < epoch(again["at"]) + 6.0
    assert len(records("AttemptIdle")) == 1


def test_a_busy_process_with_its_output_there_is_left_alone(world: World) -> None:
    """It works for longer than `stale_after`, then writes its real result."""
    cmd = f"echo > o; for n in 1 2 3 4 5 6 7 8; do bash -c '{SPIN}'; sleep 0.2; done; echo x > done"
    run = world.run(manifest(job("one", cmd, expected_output="o"), stale_after=1.0))
    assert run.go() == 0
    assert run.jobs()["one"]["warning"] is None
    assert (run.directory / "done").exists()


@pytest.mark.parametrize(
    ("precondition", "fault"),
    [
        (Precondition("file_exists", path="data.csv"), "data.csv does not exist"),
        (Precondition("command", command="test -e data.csv"), "ends with exit code 1"),
    ],
)
def test_preconditions_hold_a_job_and_let_it_go(world: World, precondition: Precondition, fault: str) -> None:
    run = world.run(
        manifest(
            job("waits", "cat data.csv", preconditions=(precondition,)),
            job("works", until("go")),
            max_parallel=2,
        )
    )
    run.start()
    wait_for(lambda: fault in (run.jobs().get("waits", {}).get("waiting") or ""), say="the reason")
    (run.directory / "data.csv").write_text("x")
    run.wait_status("waits", "completed")
    (run.directory / "go").touch()
    assert run.finish() == 0


def test_a_precondition_that_never_holds_blocks_at_the_end(world: World) -> None:
    missing = Precondition("checkpoint_exists", "teacher.pt")
    run = world.run(manifest(job("waits", "true", preconditions=(missing,)), job("works", "true")))
    assert run.go() == 3
    rows = run.jobs()
    assert rows["works"]["status"] == "completed"
    assert rows["waits"]["status"] == "blocked"
    assert rows["waits"]["error"] == "precondition does not hold: teacher.pt does not exist"


def test_a_barrier_waits_for_the_slower_answer_about_a_precondition(world: World) -> None:
    quick, slow = (Precondition("command", command=command) for command in ("true", "sleep 0.5"))
    run = world.run(
        manifest(
            job("a", "true", preconditions=(quick,)),
            job("b", "true", preconditions=(slow,)),
            wave="barrier",
            max_parallel=2,
        )
    )
    assert run.go() == 0
    assert [row["wave"] for row in run.jobs().values()] == [1, 1]
