"""One job of a run on real hosts: its log, its terminal, why it is where it is; and the report over all hosts."""

from __future__ import annotations

import json
import os
import re
import sys
from typing import Any

import pytest

from skill.runs import logs
from tests.e2e.runs import ROOT, pause, wait_for
from tests.e2e.terminal import Terminal
from tests.laptop import Laptop, finish, state, workspace
from tests.sshd import Sshd

BOTH = ("--host", "gpu-a", "--host", "gpu-b")
TRIED = """
project: small
cwd: code
oom_retry: {delay: 0.1, max_attempts: 3}
jobs:
  - id: a
    cmd: >-
      n=0; until [ -e go$WAVEQUEUE_ATTEMPT ]; do
      n=$((n+1)); echo "attempt $WAVEQUEUE_ATTEMPT line $n"; PAUSE; done;
      test $WAVEQUEUE_ATTEMPT = 3 || { echo "torch.OutOfMemoryError: CUDA out of memory"; exit 1; }
    gpus: 0
""".replace("PAUSE", pause(0.02))
MEASURED = """
project: small
cwd: code
phases:
  - name: make
    grid: {seed: [1, 2, 3, 4]}
    template:
      id: "s${seed}"
      cmd: echo measuring ${seed}; test ${seed} != 4 && echo '{"accuracy":' 0.${seed} '}' > out${seed}.json
      gpus: 0
      expected_output: "out${seed}.json"
      retries: 0
"""


def row(host: Sshd, run_id: str, job: str) -> dict[str, Any]:
    """How a job stands, as its host itself says."""
    document = wait_for(lambda: state(host, run_id))
    found: dict[str, Any] = next(one for one in document["jobs"] if one["id"] == job)
    return found


def runs_as(host: Sshd, run_id: str, job: str, attempt: int) -> dict[str, Any]:
    """Wait until an attempt of a job runs in its screen."""

    def there() -> dict[str, Any] | None:
        now = row(host, run_id, job)
        return now if (now["status"], now["attempt"]) == ("running", attempt) and now["screen_pid"] else None

    found: dict[str, Any] = wait_for(there, say=f"attempt {attempt} of {job}")
    return found


def test_of_a_job_the_terminal_is_looked_at_and_its_log_followed_over_attempts_and_a_cut(laptop: Laptop) -> None:
    host = laptop.host("gpu-a")
    laptop.spec(TRIED)
    run_id = laptop.submit()["run_id"]
    runs_as(host, run_id, "a", 1)
    _look_at_terminal(laptop, host, run_id)
    following = laptop.start("logs", "a", "-f")
    assert following.stdout is not None
    assert following.stderr is not None
    first = following.stdout.readline()
    assert following.stderr.readline() == f"run {run_id}, job a\n"
    host.stop()
    assert "-- a: unreachable: root@127.0.0.1" in following.stderr.readline()
    assert f"{run_id}: gpu-a: unreachable, so its state is unknown: " in laptop.call("pause", code=1)[1]
    assert "gpu-a is unreachable: " in laptop.call("attach", "a", code=1)[1]
    for attempt in (1, 2):  # two attempts end while nobody can look
        (workspace(host) / f"go{attempt}").touch()
        runs_as(host, run_id, "a", attempt + 1)
    host.start()
    assert following.stderr.readline() == "-- a: gpu-a is reachable again\n"
    assert following.stderr.readline() == "-- a: attempt 2 begins\n"
    assert following.stderr.readline() == "-- a: attempt 3 begins\n"
    (workspace(host) / "go3").touch()
    rest, errors = following.stdout.read(), following.stderr.read()
    assert (following.wait(150), errors) == (0, "-- a: completed, exit code 0\n")
    folder = host.home / ".wavequeue" / "runs" / run_id / "logs"
    written = b"".join((folder / name).read_bytes() for name in ("a.1.log", "a.2.log", "a.log"))
    assert first + rest == logs.plain(written), "no byte is lost or repeated"
    assert laptop.call("logs", "a", "--attempt", "1")[0] == logs.plain((folder / "a.1.log").read_bytes())
    assert laptop.call("logs", "a", "-n", "2")[0].splitlines() == logs.plain(written).splitlines()[-2:]
    assert "no attempt 4: it has 1 to 3" in laptop.call("logs", "a", "--attempt", "4", code=2)[1]
    story = json.loads(laptop.call("why", "a", "--json")[0])
    assert [one["status"] for one in story["attempts"]] == ["failed_oom", "failed_oom", "completed"]
    assert (story["host"], story["unknown"]) == ("gpu-a", [])
    assert "job a is not running: it is completed; its log: " in laptop.call("attach", "a", code=2)[1]


def _look_at_terminal(laptop: Laptop, host: Sshd, run_id: str) -> None:
    """Look at the terminal of the job, and leave it. The login files there name another place of sessions: where the
    manager began it counts."""
    greeting = host.home / "greeting"
    greeting.write_text("echo welcome; export SCREENDIR=/none\n")
    command = [sys.executable, "-m", "skill", "attach", "a"]
    environment = {**os.environ, "HOME": str(laptop.home), "PYTHONPATH": str(ROOT)}
    terminal = Terminal(command, laptop.project, environment, kind="newer-than-the-host")
    terminal.wait_for("Ctrl-a d detaches")
    terminal.wait_for("attempt 1 line")
    terminal.type(b"\x01d")
    assert terminal.end() == 0, terminal.text
    greeting.unlink()
    assert row(host, run_id, "a")["status"] == "running"
    assert "attach needs a terminal; follow its log instead" in laptop.call("attach", "a", code=2)[1]


def test_the_report_is_over_all_hosts_and_of_what_is_at_home(laptop: Laptop) -> None:
    hosts = {"gpu-a": laptop.host("gpu-a"), "gpu-b": laptop.host("gpu-b")}
    laptop.spec(MEASURED)
    run_id = laptop.submit(*BOTH)["run_id"]
    for host in hosts.values():
        finish(host, run_id)
    # Of an earlier run, by its looks: it has not been pulled since the job completed.
    (laptop.project / "code" / "out1.json").write_text('{"accuracy": 0.9}')
    os.utime(laptop.project / "code" / "out1.json", (1, 1))
    before = json.loads(laptop.call("report", "--json")[0])
    assert before["counts"] == {"completed": 3, "stuck": 1}
    assert before["not_pulled"] == ["s1", "s2", "s3"]
    measured = pytest.approx({"mean": 0.2, "std": 0.1, "n": 3})
    assert before["metrics"][0]["metrics"]["accuracy"] == measured, "as its hosts read it, and not of that file"
    pull = f"wavequeue pull --run {run_id}"
    assert f"3 completed jobs' results have not been pulled yet; pull them with: `{pull}`" in laptop.call("report")[0]
    away = next(name for name, host in hosts.items() if _has(host, run_id, "s4"))
    hosts[away].stop()
    errors = laptop.call("logs", "s4", code=1)[1]
    assert errors.startswith(f"wavequeue: {away} is unreachable: ")
    assert errors.endswith("; its log was not pulled before\n")
    hosts[away].start()
    laptop.call(*pull.split()[1:])
    after = json.loads(laptop.call("report", "--json")[0])
    assert after["not_pulled"] == []
    assert after["metrics"][0]["metrics"]["accuracy"] == measured
    assert after["failures"][0]["log_line"] == "measuring 4"
    hosts[away].stop()
    out, errors = laptop.call("logs", "s4")
    assert out == "measuring 4\n"
    assert f"wavequeue: {away} is unreachable: " in errors
    assert re.search(r"attempt 1, stuck then; this was pulled [\d.]+ s ago\n", errors)
    explained = laptop.call("why", "s4")[0]
    assert f"s4 on {away}: stuck after 1 attempt: exit code 1" in explained
    unknown = rf"^! {away}: unreachable, so its state is unknown: .* the status shown is [\d.]+ s old$"
    assert re.search(unknown, explained, re.MULTILINE)
    assert "  | measuring 4" in explained
    text = laptop.call("report")[0]
    assert re.search(rf"^\| {away} \| finished when last read, [\d.]+ s ago \| 2 \|", text, re.MULTILINE)


def _has(host: Sshd, run_id: str, job: str) -> bool:
    return any(one["id"] == job for one in (state(host, run_id) or {"jobs": []})["jobs"])
