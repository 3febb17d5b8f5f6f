"""Submitting to real hosts on loopback: checked first, done once however often it is begun, finished after any cut."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest

from skill.hosts import bootstrap
from skill.hosts.bootstrap import Facts
from skill.hosts.connection import Host, Unreachable
from skill.transfer import code_files
from tests import kept_runtime
from tests.e2e.runs import wait_for
from tests.laptop import ONCE, SPEC, WAITING, Laptop, finish, ran, state, workspace
from tests.sshd import Sshd


def test_two_hosts_get_code_jobs_and_a_manager_each_and_a_script_is_told_the_same(
    laptop: Laptop, monkeypatch: pytest.MonkeyPatch
) -> None:
    a, b = laptop.host("gpu-a"), laptop.host("gpu-b", pool="slow")
    laptop.spec(SPEC.replace("cmd: cat", "cmd: echo loss=0.${n}; cat") + "metrics: {loss: {log: 'loss=([0-9.]+)'}}\n")
    asked: list[str] = []
    facts = bootstrap.facts

    def counted(host: Host, run_id: str | None) -> Facts | Unreachable:
        asked.append(host.name)
        return facts(host, run_id)

    monkeypatch.setattr(bootstrap, "facts", counted)
    chosen = Mock(wraps=code_files.choose)
    monkeypatch.setattr(code_files, "choose", chosen)
    out, _ = laptop.call("submit", "spec.yaml", "--poll", "0.1", "--host", "gpu-a", "--host", "gpu-b")
    assert sorted(asked) == ["gpu-a", "gpu-b"], "what they are is asked once"
    assert chosen.call_count == 1, "the files that are sent are chosen once"
    (run_id,) = laptop.runs()
    assert out.startswith(f"{run_id}: 4 jobs\n")
    for name, host in (("gpu-a", a), ("gpu-b", b)):
        document = state(host, run_id)
        assert document is not None
        assert f"{name}: 2 jobs, manager is process {document['meta']['pid']}" in out
    assert "how long: unknown: no job of make has completed yet, and est_minutes is not given" in out
    assert sorted(finish(a, run_id) + finish(b, run_id)) == ["j1", "j2", "j3", "j4"]
    assert ran(a, b) == ONCE
    assigned = json.loads((laptop.project / "experiment_queue" / run_id / "hosts.json").read_text())
    assert [part["state"] for part in assigned["parts"]] == ["submitted", "submitted"]
    assert [part["host_id"] for part in assigned["parts"]] == [
        (host.home / ".wavequeue" / "host_id").read_text().strip() for host in (a, b)
    ]
    assert [path.name for path in (laptop.home / ".wavequeue").iterdir()] == ["submitted"]
    command = [sys.executable, "-c", SCRIPT, run_id]
    done = subprocess.run(
        command, cwd=laptop.project, env=laptop.variables(), check=True, capture_output=True, text=True
    )
    assert json.loads(done.stdout) == {
        "jobs": 4,
        "run_id": run_id,
        "faults": [None, None],
        "statuses": {"completed": 4},
        "away": ["j1", "j2", "j3", "j4"],
        "pulled": [False, True],
        "away_then": [],
        "why": "completed",
        "phases": 1,
        "loss": [["1", 0.1], ["2", 0.2], ["3", 0.3], ["4", 0.4]],
        "checked": [True, True, None],
    }, "and nothing else was printed"
    assert done.stderr == ""
    # What the jobs took goes with the next run to its hosts.
    again = laptop.submit("--again", "--host", "gpu-a", "--host", "gpu-b")
    assert again["estimate"]["basis"] == ["4 completed jobs of make in earlier runs"]
    assert again["estimate"]["eta_s"] is not None
    for host in (a, b):
        known = host.home / ".wavequeue" / "runs" / again["run_id"] / "durations.json"
        assert sorted(json.loads(known.read_text())["jobs"]) == ["j1", "j2", "j3", "j4"]
        finish(host, again["run_id"])


def test_a_plan_for_hosts_shares_the_jobs_and_tells_how_long_they_take_there(laptop: Laptop) -> None:
    laptop.host("gpu-a")
    laptop.spec(SPEC.replace("gpus: 0", "gpus: 0\n      est_minutes: 3").replace("max_parallel: 2\n", ""))
    found = json.loads(laptop.call("plan", "spec.yaml", "--host", "gpu-a", "--json")[0])
    (host,) = found["hosts"]
    assert (host["name"], host["jobs"], host["usd_per_hour"]) == ("gpu-a", 4, None)
    assert found["estimate"]["eta_s"] == 180.0 * -(-4 // host["cores"])
    assert found["estimate"]["basis"] == ["est_minutes for make"]
    out, _ = laptop.call("plan", "spec.yaml", "--host", "gpu-a", "--gpus", "2")
    assert f"where: gpu-a, {host['cores']} cores, 2 GPUs (if it had these GPUs); jobs run in code" in out
    assert laptop.runs() == []
    for arguments, says in (
        (["--host", "nobody"], "nobody"),
        (["--gpus", "0"], "--gpus 0: give how many GPUs to plan for, 1 or more"),
        (["--offer", "7", "--gpus", "2"], "--offer is one machine as it can be rented"),
    ):
        _, errors = laptop.call("plan", "spec.yaml", *arguments, code=2)
        assert says in errors


SCRIPT = """
import json, sys
from skill.operations.babysit import check_run
from skill.operations.explain_job import explain_job
from skill.operations.find_run import find_run_on_hosts
from skill.operations.plan_spec import plan_spec
from skill.operations.pull_run import pull_run
from skill.operations.report_run import report_run
from skill.operations.results import results
from skill.operations.run_status import run_results, run_status
from skill.operations.submit_spec import submit_spec
from skill.runs.open import open_run
from tests.contracts.test_run_access import check_finished

jobs = plan_spec("spec.yaml").document["totals"]["jobs"]
submitted = submit_spec("spec.yaml")
run = find_run_on_hosts(sys.argv[1])
check_finished(open_run(run), "j1", "loss=0.1")
away = sorted(run_results(run).away)
pulled = pull_run(run)
checked = check_run(run)
print(json.dumps({
    "jobs": jobs, "run_id": submitted.run.id, "faults": [one.fault for one in submitted.outcomes],
    "statuses": {word: count for word, count in run_status(run).document["counts"].items() if count},
    "away": away, "pulled": [pulled.failed, pulled.last], "away_then": sorted(run_results(run).away),
    "why": explain_job(run, "j1")["status"], "phases": len(report_run(run)["phases"]),
    "loss": [[cell.key["n"], cell.stats["loss"].mean] for cell in results([run]).cells],
    "checked": [checked.outcome.over, checked.outcome.completed, checked.next],
}))
"""
"""Use cases called from a Python script, on a run over sshd."""


def test_a_second_submit_takes_the_same_run_up_and_brings_the_code_up_to_date(
    laptop: Laptop,
) -> None:
    host = laptop.host("gpu-a")
    spec = laptop.spec(WAITING)
    document = json.loads(laptop.call("preflight", spec, "--json")[0])
    (row,) = document["hosts"]
    assert document["ok"] is True
    assert (row["name"], row["jobs"], row["checks"]["cwd"]["state"]) == ("gpu-a", 4, "made")
    first = laptop.submit()
    assert json.loads(laptop.call("preflight", spec, "--json")[0])["hosts"][0]["checks"]["cwd"]["state"] == "ok"
    (laptop.project / "code" / "input.txt").write_text("another\n")
    second = laptop.submit()
    assert second["run_id"] == first["run_id"]
    assert second["hosts"][0]["pid"] == first["hosts"][0]["pid"]
    assert (workspace(host) / "input.txt").read_text() == "another\n"
    assert laptop.runs() == [first["run_id"]]
    (workspace(host) / "stop").touch()
    assert len(finish(host, first["run_id"])) == 4
    assert laptop.submit()["hosts"][0]["notes"][-1] == "its jobs have ended already"
    assert ran(host) == ONCE
    # The machine was rented to somebody else, and gets nothing.
    (host.home / ".wavequeue" / "host_id").write_text("0123456789abcdef0123456789abcdef\n")
    (laptop.project / "code" / "input.txt").write_text("secret\n")
    _, errors = laptop.call("submit", "spec.yaml", code=1)
    assert "is another machine than the one that got this run" in errors
    assert (workspace(host) / "input.txt").read_text() == "another\n"


def test_another_run_of_live_jobs_begins_only_where_that_is_meant_and_what_is_done_can_be_skipped(
    laptop: Laptop,
) -> None:
    host = laptop.host("gpu-a")
    (laptop.project / "code" / "train.py").write_text("code\n")
    for command in (["init", "-q"], ["add", "code"], ["commit", "-q", "-m", "first"]):
        identity = ["-c", "user.name=n", "-c", "user.email=e@example.com", "-c", "commit.gpgsign=false"]
        subprocess.run(["git", *identity, *command], cwd=laptop.project, check=True)
    revision = ["git", "rev-parse", "--short=12", "HEAD"]
    commit = subprocess.run(revision, cwd=laptop.project, check=True, capture_output=True, text=True).stdout.strip()
    laptop.spec(WAITING.replace("echo ran", 'echo "$WAVEQUEUE_CODE" > ../code${n}; echo ran'))
    submitted = laptop.submit()
    first = submitted["run_id"]
    assert f"runs a copy of {commit}, pushed now" in submitted["hosts"][0]["notes"]
    _, errors = laptop.call("submit", "spec.yaml", "--new", code=2)
    assert f"{first} is live on gpu-a and runs the jobs of spec.yaml" in errors
    second = laptop.submit("--again")["run_id"]
    assert laptop.runs() == sorted([first, second])
    (workspace(host) / "stop").touch()
    assert [len(finish(host, run_id)) for run_id in (first, second)] == [4, 4]
    (workspace(host) / "out3").unlink()
    out, errors = laptop.call("submit", "spec.yaml", "--skip-done", "--poll", "0.1", "--json")
    assert "gpu-a: 3 jobs (j1, j2, j4) not run, since the output already exists" in errors
    assert sorted(finish(host, json.loads(out)["run_id"])) == ["j1", "j2", "j3", "j4"]
    report = json.loads(laptop.call("report", "--json", "--run", first)[0])
    (push,) = report["hosts"][0]["code"]
    assert report["phases"][0]["codes"] == {push["name"]: 4} == {commit: 4}, "the copy has the name of the code here"
    # A job is not told where the look takes too long, as on a busy machine.
    assert {path.read_text().strip() for path in workspace(host).parent.glob("code[1-4]")} <= {commit, ""}
    assert ran(host) == {"ran1": 2, "ran2": 2, "ran3": 3, "ran4": 2}


UNPACKING = "the runtime is being unpacked"
MOMENTS: dict[str, Callable[[Laptop, Sshd], bool]] = {
    "the run is made here": lambda laptop, _: bool(laptop.runs()),
    UNPACKING: lambda _, host: any(host.home.glob(".wavequeue/runtime/.new-*")),
    "the code is on its way": lambda _, host: workspace(host).exists(),
    "the manifest is there": lambda _, host: any(host.home.glob(".wavequeue/runs/*/manifest.json")),
    "a manager starts": lambda _, host: any(host.home.glob(".wavequeue/runs/*/manager.lock")),
    "a job runs": lambda _, host: any(workspace(host).glob("ran*")),
}


@pytest.mark.parametrize("moment", MOMENTS)
def test_killed_at_any_moment_the_same_command_ends_the_same(laptop: Laptop, moment: str) -> None:
    host = laptop.host("gpu-a", new=moment == UNPACKING)
    laptop.spec(SPEC)
    process = laptop.start("submit", "spec.yaml", "--poll", "0.1")
    wait_for(partial(MOMENTS[moment], laptop, host), say=moment)
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    run_id = laptop.submit()["run_id"]
    assert laptop.runs() == [run_id]
    assert sorted(finish(host, run_id)) == ["j1", "j2", "j3", "j4"]
    assert ran(host) == ONCE
    assert [path.name for path in (host.home / ".wavequeue" / "runs").iterdir()] == [run_id]


def test_one_host_that_is_away_stops_no_other_and_is_finished_later(laptop: Laptop) -> None:
    a, b = laptop.host("gpu-a"), laptop.host("gpu-b")
    laptop.spec(WAITING)
    both = ("--host", "gpu-a", "--host", "gpu-b")
    laptop.submit(*both)
    (laptop.project / "code" / "input.txt").write_text("another\n")
    b.stop()
    _, errors = laptop.call("submit", "spec.yaml", *both, code=1)
    assert "gpu-b: unreachable" in errors
    assert "run the same command again to finish 1 of 2 hosts" in errors
    assert (workspace(a) / "input.txt").read_text() == "another\n"
    b.start()
    run_id = laptop.submit()["run_id"]
    assert (workspace(b) / "input.txt").read_text() == "another\n"
    for host in (a, b):
        (workspace(host) / "stop").touch()
        finish(host, run_id)
    assert ran(a, b) == ONCE, [state(host, run_id) for host in (a, b)]


def test_preflight_names_what_is_missing_and_leaves_nothing_behind(laptop: Laptop) -> None:
    host = laptop.host("gpu-a", bare=True)
    laptop.host("gpu-b").stop()
    laptop.spec(SPEC.replace("gpus: 0", "gpus: 0\n      preconditions: [{type: file_exists, path: 'data/x${n}'}]"))
    (laptop.project / "code" / "data").mkdir()
    for n in (1, 2, 3):
        (laptop.project / "code" / "data" / f"x{n}").write_text("x")
    out, _ = laptop.call("preflight", "spec.yaml", "--host", "gpu-a", "--host", "gpu-b", code=1)
    assert "error: gpu-a: screen is not installed" in out
    assert "error: gpu-a: 1 job blocked (j4): data/x4 does not exist" in out
    assert "error: gpu-b: unreachable: " in out
    _, errors = laptop.call("submit", "spec.yaml", "--host", "gpu-a", code=1)
    assert "nothing was submitted" in errors
    assert laptop.runs() == []
    assert [path.name for path in host.home.iterdir()] == []


def test_which_host_is_meant_has_to_be_given_where_there_are_several(laptop: Laptop) -> None:
    spec = laptop.spec(SPEC)
    assert "no host is known" in laptop.call("submit", spec, code=2)[1]
    laptop.host("gpu-a")
    laptop.host("gpu-b")
    assert "say which host with --host NAME" in laptop.call("submit", spec, code=2)[1]
    assert "did you mean gpu-a?" in laptop.call("submit", spec, "--host", "gpua", code=2)[1]
    assert "no enabled host is in the pool fast" in laptop.call("submit", spec, "--pool", "fast", code=2)[1]


def test_one_home_under_two_names_holds_one_part_of_a_run(laptop: Laptop) -> None:
    host = laptop.host("gpu-a")
    twins = {name: host.entry() for name in ("gpu-a", "gpu-b")}
    (laptop.project / "workers.yaml").write_text(json.dumps({"workers": twins}))
    laptop.spec(SPEC)
    both = ("--host", "gpu-a", "--host", "gpu-b")
    # Nobody knows it before the host has been named; then one of the two is left out.
    out, errors = laptop.call("submit", "spec.yaml", "--poll", "0.1", *both, code=1)
    assert errors.count("is the same machine as gpu-") == 1
    assert len(finish(host, out.split(":")[0])) == 2
    assert laptop.call("preflight", "spec.yaml", *both, code=1)[0].count("is the same machine as gpu-") == 2


def test_machines_that_have_one_home_are_hosts_of_their_own(laptop: Laptop) -> None:
    """As over NFS: each has its part of the run, with its own manager, journal and leases."""
    home, names = laptop.root / "nfs", ("gpu-a", "gpu-b")
    for name in names:
        laptop.host(name, new=name != "gpu-a", network={"hostname": f"node-{name}", "home": home})
    laptop.spec(SPEC)
    both = ("--host", "gpu-a", "--host", "gpu-b")
    run_id = laptop.submit(*both)["run_id"]
    top = home / ".wavequeue"
    (other,) = (top / "hosts").iterdir()
    owner = (top / "machine").read_text().splitlines()[0]
    assert {owner, other.name.rpartition("-")[0]} == {f"node-{name}" for name in names}
    done: dict[str, list[str]] = {}
    for place in (top, other):
        path = place / "runs" / run_id / "queue_state.json"
        found = wait_for(partial(finished, path), say=f"the end of {path.parent}")
        done[found["meta"]["host"]] = [row["id"] for row in found["jobs"] if row["status"] == "completed"]
        assert (place / "leases").is_dir()
    assert set(done) == {f"node-{name}" for name in names}
    assert sorted(job for jobs in done.values() for job in jobs) == ["j1", "j2", "j3", "j4"]
    assert ran(laptop.hosts["gpu-a"]) == ONCE
    assert [row["status"] for row in json.loads(laptop.call("status", "--json")[0])["jobs"]] == ["completed"] * 4
    laptop.call("pull")
    assert [(laptop.project / "code" / f"out{n}").read_text() for n in (1, 2, 3, 4)] == ["one\n"] * 4
    assert [one["notes"][-1] for one in laptop.submit(*both)["hosts"]] == ["its jobs have ended already"] * 2


def test_a_run_on_this_machine_has_its_place_where_the_home_is_another_machines(laptop: Laptop) -> None:
    top = laptop.home / ".wavequeue"
    top.mkdir()
    (top / "machine").write_text("node-7\n" + "f" * 32 + "\n")
    laptop.spec(SPEC)
    laptop.call("run", "spec.yaml", "--poll", "0.1")
    (run_id,) = laptop.runs()
    (place,) = (top / "hosts").iterdir()
    assert [path.name for path in (place / "runs").iterdir()] == [run_id]
    assert not (top / "runs").exists()
    wait_for(partial(finished, place / "runs" / run_id / "queue_state.json"), say="the end of the run")
    assert laptop.call("status", "--run", run_id[:5])[0].startswith(f"{run_id}: ")


def finished(path: Path) -> dict[str, Any] | None:
    document = json.loads(path.read_text()) if path.exists() else None
    return document if document is not None and document["meta"]["manager"] == "finished" else None


def test_a_host_behind_a_jump_host_needs_no_more_than_its_name_in_ssh_config(laptop: Laptop) -> None:
    jump, inner = (laptop.hosts.setdefault(name, Sshd(laptop.root / name)) for name in ("jump", "inner"))
    kept_runtime.give(inner.home)
    config = laptop.home / ".ssh" / "config"
    config.parent.mkdir(mode=0o700)
    config.write_text(
        f"Host jump\n  HostName {jump.address}\n  Port {jump.port}\n  User root\n  IdentityFile {jump.key}\n"
        "  StrictHostKeyChecking no\n  UserKnownHostsFile /dev/null\n"
        f"Host inner\n  HostName {inner.address}\n  Port {inner.port}\n  User root\n  IdentityFile {inner.key}\n"
        "  ProxyJump jump\n"
    )
    laptop.spec(SPEC)
    assert len(finish(inner, laptop.submit("--host", "inner")["run_id"])) == 4
    laptop.call("pull")
    assert (laptop.project / "code" / "out4").read_text() == "one\n"
    assert "Accepted publickey" in (jump.root / "sshd.log").read_text()


def test_a_cwd_of_which_no_file_travels_is_there_all_the_same(laptop: Laptop) -> None:
    host = laptop.host("gpu-a")
    (laptop.project / "code" / "input.txt").unlink()
    (laptop.project / ".wavequeueignore").write_text("*\n")
    laptop.spec(SPEC.replace("cat input.txt", "echo made"))
    assert len(finish(host, laptop.submit()["run_id"])) == 4
