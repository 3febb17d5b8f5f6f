"""A rented machine ends itself when its run is done, with the laptop gone: a real manager against the double."""

from __future__ import annotations

import fcntl
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil
import pytest

from queue_manager.adapters.cards_lock import user
from queue_manager.adapters.shared_directory import SharedDirectory
from queue_manager.core.layout import LOCK_DIR_VARIABLE, shared_lease
from queue_manager.core.machine import Instance, acknowledged_text, instance_text
from queue_manager.core.manifest import Manifest, Precondition
from queue_manager.core.requests import Request, encode_request
from queue_manager.core.shared_leases import encode
from queue_manager.core.times import iso
from tests import lock_dir
from tests.contracts.test_leases import attempt
from tests.e2e.runs import Run, World, job, lives, manifest, until, wait_for
from tests.vast_double import Double, Fault
from tests.vast_world import Box


class Rented:
    """An instance of the double, and the world of a manager on it. There is no laptop."""

    def __init__(self, root: Path) -> None:
        self.double = Double()
        self.box: Box = self.double.world.box()
        self._environ = root / "proc" / "1" / "environ"
        self._environ.parent.mkdir(parents=True)
        self.say(self.box.api_key)
        self.world = World(root, {"WAVEQUEUE_PROC": str(root / "proc"), "VAST_URL": self.double.url})
        self.world.host.runs.mkdir(parents=True)

    def say(self, key: str | None) -> None:
        """What process 1 has in its environment."""
        text = f"HOME=/root\0CONTAINER_ID={self.box.id}\0" + (f"CONTAINER_API_KEY={key}\0" if key else "")
        self._environ.write_text(text)

    def run(self, made: Manifest, name: str = "run", **instance: Any) -> Run:
        run = self.world.run(made, f"home/.wavequeue/runs/{name}")
        self.tell(run, **instance)
        return run

    def tell(self, run: Run, **instance: Any) -> None:
        """What the laptop writes at submit."""
        known = Instance(self.box.id, dph=0.5, storage_dph=0.01, since=1_900_000_000.0)
        write(run.paths.instance, instance_text(replace(known, **instance)))

    def is_gone(self) -> bool:
        return self.box.id not in self.double.world.boxes or self.box.lingers is not None

    def close(self) -> None:
        self.world.close()
        self.double.close()


@pytest.fixture
def rented(tmp_path: Path) -> Iterator[Rented]:
    made = Rented(tmp_path)
    yield made
    made.close()


def write(path: Path, text: str) -> None:
    temporary = path.with_suffix(".tmp")
    temporary.write_text(text)
    temporary.replace(path)


def pull(run: Run) -> None:
    """As the laptop does when it has brought the results home."""
    write(run.paths.acknowledged, acknowledged_text(meta(run)["seq"], 1_900_000_000.0))


def meta(run: Run) -> dict[str, Any]:
    found: dict[str, Any] = run.state().get("meta", {})
    return found


def wait_plan(run: Run, plan: str) -> dict[str, Any]:
    found: dict[str, Any] = wait_for(
        lambda: (shown := meta(run).get("teardown")) and shown["plan"] == plan and shown, say=f"{plan}: {run.story()}"
    )
    return found


def events(run: Run, name: str) -> list[dict[str, Any]]:
    return [event for event in run.events() if event["event"] == name]


def alerts(run: Run, kind: str) -> list[str]:
    return [alert["text"] for alert in run.alerts() if alert["kind"] == kind]


def test_it_destroys_its_own_instance_once_its_results_are_home(rented: Rented) -> None:
    run = rented.run(
        manifest(job("a", "echo > o", expected_output="o"), when_done="destroy", on_complete="echo > late")
    )
    run.start()
    shown = wait_plan(run, "sync")
    assert (meta(run)["manager"], shown["waits_for"]) == ("finished", shown["reason"])
    assert "not been pulled yet" in shown["reason"]
    wait_for((run.directory / "late").exists, say="on_complete")
    wait_for(lambda: events(run, "CompleteRan"))
    assert run.manager is not None
    assert run.manager.poll() is None
    assert rented.double.asked == []
    wait_for(lambda: meta(run)["seq"] >= meta(run)["results_seq"] >= events(run, "CompleteRan")[0]["seq"])
    pull(run)
    assert run.finish() == 0
    assert rented.is_gone()
    assert [one.method for one in rented.double.asked if one.method != "GET"] == ["DELETE"]
    names = [event["event"] for event in run.events()]
    assert names.index("RunFinished") < names.index("TeardownStarting") < names.index("TeardownConfirmed")
    assert meta(run)["teardown"]["confirmed"] is True
    assert "destroys this machine automatically" in run.paths.teardown.read_text()
    assert len(alerts(run, "teardown")) == 2
    assert run.paths.summary.exists()
    secrets = [path for path in rented.world.home.rglob("*") if path.is_file()]
    assert not [path for path in secrets if rented.box.api_key.encode() in path.read_bytes()]


def test_results_that_nobody_fetches_are_never_destroyed_but_the_machine_is_stopped(rented: Rented) -> None:
    run = rented.run(manifest(job("a", "true"), when_done="destroy", idle_after=1.0))
    assert run.start() is not None
    assert run.finish() == 0
    assert rented.box.state == "stopped"
    assert rented.double.count("DELETE", "instances") == 0
    assert "its results have not been pulled yet" in run.paths.teardown.read_text()
    assert "wavequeue vast start" in run.paths.teardown.read_text()


def test_a_paused_run_does_not_keep_an_idle_machine(rented: Rented) -> None:
    run = rented.run(manifest(job("a", "true", preconditions=(Precondition("file_exists", "go"),)), job("b", "sleep 1"),
                              idle_after=1.0))  # fmt: skip
    run.start()
    assert run.ask(Request("p", "pause")).ok
    assert run.finish() == 1
    assert meta(run)["manager"] == "halted"
    assert run.statuses()["a"] == "pending"
    assert rented.box.state == "stopped"
    (intent,) = events(run, "TeardownStarting")
    assert intent["reason"] == "no job ran for 1s; jobs are left, which can continue when it is started again"


def test_over_max_cost_no_new_job_starts_and_the_machine_is_stopped(rented: Rented) -> None:
    run = rented.run(manifest(job("a", until("go")), job("b", "true"), max_parallel=1,
                              max_cost=12.5))  # fmt: skip
    run.start()
    run.wait_running("a")
    rented.tell(run, since=1_700_000_000.0)
    wait_for(lambda: alerts(run, "max_cost"), say="the alert")
    (run.directory / "go").touch()
    assert run.finish() == 1
    assert run.statuses() == {"a": "completed", "b": "pending"}
    assert "has reached its cost limit of $12.50" in run.jobs()["b"]["waiting"]
    assert alerts(run, "max_cost") == [
        (
            "the machine has reached its cost limit of $12.50 (max_cost): no more jobs are started; "
            "to continue anyway: wavequeue resume"
        )
    ]
    assert rented.box.state == "stopped"
    assert meta(run)["teardown"]["cost_usd"] > 12.5
    run.paths.request("r").write_text(encode_request(Request("r", "resume")))
    assert run.go() == 0
    assert run.statuses()["b"] == "completed"


def test_a_killed_manager_that_is_started_again_goes_on_with_the_end(rented: Rented) -> None:
    """Between the intent and its confirmation, while the provider answers with nothing but errors."""
    rented.double.fault("DELETE", "instances", Fault(429, b"API requests too frequent"))
    rented.double.fault("DELETE", "instances", Fault(500, b"no"), times=1000)
    run = rented.run(manifest(job("a", "true"), when_done="destroy"))
    run.start()
    wait_plan(run, "sync")
    pull(run)
    wait_for(lambda: rented.double.count("DELETE", "instances") > 1, say="the first tries")
    wait_for(lambda: [text for text in alerts(run, "teardown") if "answered 429" in text], say="the alert")
    run.kill()
    assert not rented.is_gone()
    rented.double.heal()
    assert run.go() == 0
    assert rented.is_gone()
    assert [len(events(run, name)) for name in ("TeardownStarting", "TeardownConfirmed")] == [1, 1]


def test_without_a_key_it_says_so_at_once_and_ends_itself_when_it_has_one(rented: Rented) -> None:
    rented.say(None)
    run = rented.run(manifest(job("a", "true"), when_done="destroy"))
    run.start()
    wait_for(lambda: alerts(run, "teardown"), say="the alert")
    wait_plan(run, "sync")
    pull(run)
    wait_plan(run, "destroy")
    (condition,) = meta(run)["conditions"]
    assert "has no key to end itself" in condition["text"]
    assert rented.double.asked == []
    rented.say(rented.box.api_key)
    assert run.finish() == 0
    assert rented.is_gone()


def test_results_that_the_run_pushes_itself_are_safe(rented: Rented) -> None:
    run = rented.run(
        manifest(job("a", "echo it > o"), when_done="destroy", results_to='cp o "$SAFE/there"', env={"SAFE": "safe"})
    )
    (run.directory / "safe").mkdir()
    assert run.go() == 0
    assert (run.directory / "safe" / "there").read_text() == "it\n"
    assert rented.is_gone()
    names = [event["event"] for event in run.events()]
    assert names.index("AttemptEnded") < names.index("ResultsPushed") < names.index("TeardownStarting")


def test_a_push_that_fails_is_reported_and_nothing_is_destroyed(rented: Rented) -> None:
    run = rented.run(manifest(job("a", "true"), when_done="destroy", results_to="echo no such remote; exit 3"))
    run.start()
    wait_for(lambda: alerts(run, "results_to"), say="the alert")
    assert "exit code 3" in alerts(run, "results_to")[0]
    assert "no such remote" in run.story()
    assert rented.double.asked == []


def test_new_work_that_comes_while_it_waits_is_done_first(rented: Rented) -> None:
    run = rented.run(manifest(job("a", "exit 1"), job("b", "true"), when_done="stop", on_complete="echo x >> done"))
    run.start()
    wait_plan(run, "sync")
    (run.directory / "fixed").touch()
    assert run.ask(Request("r", "retry", jobs=("a",))).ok
    wait_for(lambda: len(events(run, "RunFinished")) == 2, say="the second end")
    wait_for(lambda: len(events(run, "CompleteRan")) == 2, say="the second on_complete")
    wait_for(lambda: meta(run)["results_seq"] == events(run, "CompleteRan")[1]["seq"])
    pull(run)
    assert run.finish() == 3
    assert rented.box.state == "stopped"


def test_a_machine_is_shared_by_its_runs_until_the_last_is_done_and_home(rented: Rented) -> None:
    other = rented.run(manifest(job("b", until("go"))), "other")
    other.start()
    other.wait_running("b")
    shared = SharedDirectory(Path(rented.world.environment[LOCK_DIR_VARIABLE]))
    theirs = lock_dir.put(shared, shared_lease("theirs"), encode("elsewhere", 7, [attempt("GPU-a")]))
    alive = os.open(theirs, os.O_RDONLY)
    fcntl.flock(alive, fcntl.LOCK_EX)
    run = rented.run(manifest(job("a", "true"), when_done="destroy"))
    run.start()
    wait_for(lambda: meta(run).get("manager") == "finished")
    pull(run)
    wait_for(lambda: (meta(run)["teardown"]["reason"] or "") == "run other is active on this machine", say=run.story())
    (other.directory / "go").touch()
    assert other.finish() == 0
    user_works = f"run of {user(lock_dir.NOBODY)} is active on this machine"
    wait_for(lambda: meta(run)["teardown"]["reason"] == user_works, say=run.story())
    theirs.unlink()
    os.close(alive)
    shown = wait_plan(run, "sync")
    assert "the results of run other" in shown["reason"]
    assert rented.double.asked == []
    pull(other)
    assert run.finish() == 0
    assert rented.is_gone()


def test_a_machine_that_nobody_rented_is_left_alone_and_the_manager_ends(world: World) -> None:
    world.environment["WAVEQUEUE_PROC"] = str(world.root)
    run = world.run(manifest(job("a", "true"), when_done="destroy"))
    assert run.go() == 0
    assert "this machine is not a Vast.ai instance" in alerts(run, "teardown")[0]
    assert meta(run)["manager"] == "finished"


def test_another_instance_is_never_touched(rented: Rented) -> None:
    other = rented.double.world.box()
    run = rented.run(manifest(job("a", "true"), when_done="destroy", idle_after=0.5), id=other.id)
    run.start()
    text = wait_for(lambda: alerts(run, "teardown"), say="the alert")[0]
    assert f"the run was sent to instance {other.id}, and this machine is {rented.box.id}" in text
    wait_plan(run, "stop")
    wait_for(lambda: meta(run)["manager"] == "finished")
    assert rented.double.asked == []


def test_after_a_restart_of_the_machine_its_own_start_script_brings_the_managers_back(rented: Rented) -> None:
    """The manager and its job are killed, and the machine's life is another one: nothing of the job is left."""
    work = job("a", "echo $WAVEQUEUE_ATTEMPT >> tries; [ $WAVEQUEUE_ATTEMPT = 2 ] || exec sleep 1000")
    run, done = rented.run(manifest(work), "cut"), rented.run(manifest(job("b", "true")), "done")
    assert done.go() == 0
    run.start()
    wait_for((run.directory / "tries").exists)
    run.wait_running("a")
    rented.world.close_processes()
    assert run.manager is not None
    run.manager.communicate()
    boot = events(run, "ManagerStarted")[0]["boot"]
    run.edit_journal(lambda line: line.replace(boot, f"before.{boot}"))
    found = resume_all(rented)
    assert found["faults"] == {}
    assert list(found["started"]) == ["cut"]
    wait_for(lambda: meta(run).get("manager") == "finished", say=run.story())
    row = run.jobs()["a"]
    assert (row["status"], row["attempt"], row["attempts"]) == ("completed", 2, 1)
    assert (run.directory / "tries").read_text() == "1\n2\n"
    wait_for(lambda: not lives(found["started"]["cut"]), say="the manager's end")
    assert resume_all(rented)["started"] == {}


def resume_all(rented: Rented) -> dict[str, Any]:
    result = subprocess.run(
        [sys.executable, "-m", "queue_manager.remote.resume_all"],
        env=rented.world.environment, cwd=rented.world.root, capture_output=True, check=True, timeout=150,
    )  # fmt: skip
    found: dict[str, Any] = json.loads(result.stdout)
    return found


def test_the_time_that_the_machine_was_stopped_costs_its_disk_alone(rented: Rented) -> None:
    """By the last sign of the life before; and a run that was waiting for its results is brought back as well."""
    run = rented.run(manifest(job("a", "true"), when_done="destroy"))
    run.start()
    wait_plan(run, "sync")
    run.kill()
    boot = events(run, "ManagerStarted")[0]["boot"]
    run.edit_journal(lambda line: line.replace(boot, f"before.{boot}"))
    state = run.state()
    state["meta"]["updated"] = iso(1_700_000_000.0)
    run.paths.state.write_text(json.dumps(state["meta"]) and as_written(state))
    pid = resume_all(rented)["started"]["run"]
    again = events(run, "ManagerStarted")[1]
    assert again["away"] > 1e6
    pull(run)
    wait_for(lambda: not lives(pid), say=run.story())
    assert rented.is_gone()


def as_written(state: dict[str, Any]) -> str:
    """A state as the manager lays it out: the meta on the first line."""
    rest = {key: value for key, value in state.items() if key != "meta"}
    return '{"meta": ' + json.dumps(state["meta"]) + ",\n" + json.dumps(rest)[1:]


def test_a_waiting_manager_ends_when_it_is_told_to_and_sends_nothing_more(rented: Rented) -> None:
    rented.double.fault("DELETE", "instances", Fault(500, b"no"), times=1000)
    run = rented.run(manifest(job("a", "true"), when_done="destroy"))
    run.start()
    wait_plan(run, "sync")
    pull(run)
    wait_for(lambda: rented.double.count("DELETE", "instances"), say="a try")
    assert run.manager is not None
    run.manager.send_signal(signal.SIGTERM)
    assert run.finish() == 0
    assert not psutil.pid_exists(run.manager.pid)
    assert not rented.is_gone()
