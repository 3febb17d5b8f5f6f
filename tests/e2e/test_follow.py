"""Following runs on real hosts: one view over all of them, whatever becomes of a host, its network or its manager."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from queue_manager.core.layout import HostPaths, RunPaths
from tests.e2e.runs import lives, wait_for
from tests.laptop import ONCE, WAITING, Laptop, finish, ran, state, workspace
from tests.sshd import Sshd

BOTH = ("--host", "gpu-a", "--host", "gpu-b")
SINGLE = WAITING.replace("-e stop", "-e stop_j${n}")
"""The jobs of WAITING, each of which is told to stop by itself."""


@pytest.fixture
def two(laptop: Laptop) -> tuple[Sshd, Sshd]:
    """A run on two hosts, whose jobs wait to be told to stop: j1 and j2 on one host, j3 and j4 on the other."""
    hosts = laptop.host("gpu-a"), laptop.host("gpu-b")
    laptop.spec(WAITING)
    laptop.submit(*BOTH)
    return hosts


def status(laptop: Laptop) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(laptop.call("status", "--json")[0])
    return found


def logins(host: Sshd) -> int:
    """How often somebody was let in."""
    return (host.root / "sshd.log").read_text().count("Accepted publickey")


def host_row(document: dict[str, Any], name: str) -> dict[str, Any]:
    return next(row for row in document["meta"]["hosts"] if row["name"] == name)


def running(laptop: Laptop, count: int = 4) -> dict[str, Any]:
    """Wait until so many jobs run, as their hosts say, and then ask by a command."""
    (run_id,) = laptop.runs()

    def there() -> bool:
        documents = [state(host, run_id) or {"counts": {}} for host in laptop.hosts.values()]
        return bool(sum(document["counts"].get("running", 0) for document in documents) == count)

    wait_for(there, say=f"{count} jobs to run")
    document = status(laptop)
    assert document["counts"].get("running") == count
    return document


def damage(journal: Path) -> None:
    """Flip a bit of the line that tells of a job's start."""
    data = journal.read_bytes()
    at = data.index(b'"AttemptStarted"') + 3
    journal.write_bytes(data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :])


class Watch:
    """`wavequeue watch`, begun: it has shown how the run stands."""

    def __init__(self, laptop: Laptop) -> None:
        self._process = laptop.start("watch")
        assert self._process.stdout is not None
        self.output = self._process.stdout.readline() + self._process.stdout.readline()

    def until(self, text: str) -> None:
        """Wait until it has said this in a line."""
        assert self._process.stdout is not None
        while text not in self.output:
            line = self._process.stdout.readline()
            assert line, self.output
            self.output += line

    def end(self, code: int = 0) -> tuple[str, str]:
        """All that it said, once it has ended by itself."""
        assert self._process.stdout is not None
        assert self._process.stderr is not None
        out, err = self.output + self._process.stdout.read(), self._process.stderr.read()
        assert self._process.wait(150) == code, (out, err)
        return out, err


class Cable:
    """A network between this machine and one host, which can be cut. Needs root."""

    def __init__(self) -> None:
        self.namespace, self._net = f"wq{os.getpid()}", os.getpid() * 4 % 65536
        for line in (
            f"ip netns add {self.namespace}",
            f"ip link add {self.namespace}x type veth peer name eth0 netns {self.namespace}",
            f"ip address add {self._at(1)}/30 dev {self.namespace}x",
            f"ip link set {self.namespace}x up",
            f"ip -n {self.namespace} address add {self._at(2)}/30 dev eth0",
            f"ip -n {self.namespace} link set eth0 up",
        ):
            subprocess.run(line.split(), check=True)

    def _at(self, number: int) -> str:
        """An address of the network, which two that run at once do not share."""
        return f"10.213.{self._net // 256}.{self._net % 256 + number}"

    @property
    def network(self) -> dict[str, str]:
        return {"address": self._at(2), "namespace": self.namespace}

    def set(self, state: str) -> None:
        """`down` cuts it, `up` mends it."""
        subprocess.run(["ip", "-n", self.namespace, "link", "set", "eth0", state], check=True)

    def close(self) -> None:
        subprocess.run(["ip", "netns", "delete", self.namespace], check=True)


@pytest.fixture
def cable() -> Iterator[Cable]:
    made = Cable()
    yield made
    made.close()


def test_one_view_shows_all_hosts_to_the_end_though_one_is_another_machine_hangs_or_is_cut_off(
    cable: Cable, laptop: Laptop
) -> None:
    a, b = laptop.host("gpu-a"), laptop.host("gpu-b", network=cable.network)
    laptop.spec(SINGLE)
    laptop.submit(*BOTH)
    document = running(laptop)
    run_id = document["meta"]["run_id"]
    of = {row["id"]: row["host"] for row in document["jobs"]}
    assert sorted(of) == ["j1", "j2", "j3", "j4"]
    assert [host_row(document, name)["counts"] for name in ("gpu-a", "gpu-b")] == [{"running": 2}] * 2
    before = [logins(host) for host in (a, b)]
    shown = laptop.call("status")[0]
    assert [logins(host) for host in (a, b)] == [count + 1 for count in before], "each is asked once, and all in one"
    assert f"{run_id}: running, 0 of 4 jobs completed" in shown
    assert re.search(r"^ gpu-a  running  0/2  2 running  not pulled$", shown, re.MULTILINE)
    assert re.search(r"^ j\d  [\d.]+ s  gpu-b cpu", shown, re.MULTILINE)

    # Another machine answers in its place: it is not asked for anything.
    identity = b.home / ".wavequeue" / "host_id"
    own = identity.read_text()
    identity.write_text("0123456789abcdef0123456789abcdef\n")
    row = host_row(status(laptop), "gpu-b")
    assert (row["reachable"], row["answered"], row["counts"]) == (False, True, {"running": 2})
    assert "it is not the machine that the run was submitted to" in row["reason"]
    assert re.search(r"^ gpu-b  unknown \(running ", laptop.call("status")[0], re.MULTILINE)
    out, err = laptop.call("pause", code=1)
    assert f"{run_id}: gpu-a: paused" in out
    assert "gpu-b: it is not the machine" in err
    assert list((b.home / ".wavequeue" / "runs" / run_id / "inbox").iterdir()) == []
    assert not (state(b, run_id) or {})["meta"]["paused"]
    identity.write_text(own)

    # A look at it hangs: the other is followed meanwhile.
    watch = Watch(laptop)
    (b.home / "greeting").write_text("touch ~/hangs; until [ -e ~/go ]; do sleep 0.1; done\n")
    wait_for((b.home / "hangs").exists, say="a look that hangs")
    first, *others = sorted(of, key=lambda job: of[job])
    (workspace(a) / f"stop_{first}").touch()
    watch.until(f"completed    {first}")
    assert "did not answer within" not in watch.output, "the look has not even been given up"
    (b.home / "go").touch()

    # The network is cut: nothing is concluded from silence, and jobs and manager need nobody.
    cable.set("down")
    for job in others:
        for host in (a, b):
            (workspace(host) / f"stop_{job}").touch()
    assert (len(finish(a, run_id)), len(finish(b, run_id))) == (2, 2)
    document = status(laptop)
    row = host_row(document, "gpu-b")
    assert (row["reachable"], row["manager"], row["counts"]) == (False, "running", {"running": 2})
    assert row["age_s"] > 0
    assert (document["meta"]["manager"], document["counts"]) == ("running", {"completed": 2, "running": 2})
    shown = laptop.call("status")[0]
    assert re.search(r"^ gpu-b  unreachable \(running [\d.]+ s ago\)  0/2  2 running", shown, re.MULTILINE)
    assert "gpu-b: unreachable, so its state is unknown: root@10." in shown
    watch.until("gpu-b: unreachable, so its state is unknown")
    cable.set("up")
    out, err = watch.end()
    assert len(re.findall("gpu-b: unreachable, so its state is unknown", out)) == 1
    assert "gpu-b: it is reachable again" in out
    assert sorted(re.findall(r"completed    (j\d)", out)) == ["j1", "j2", "j3", "j4"]
    assert f"wavequeue pull --run {run_id}" in err
    document = status(laptop)
    assert (document["meta"]["manager"], document["counts"]) == ("finished", {"completed": 4})
    assert host_row(document, "gpu-b")["reachable"]
    assert [line.split()[0] for line in laptop.call("status", "--jobs")[0].splitlines()[2:]] == ["j1", "j2", "j3", "j4"]
    assert (state(a, run_id) or {})["counts"] == {"completed": 2}, "it can be read without a command of wavequeue"
    assert ran(a, b) == ONCE


def test_a_manager_that_was_killed_is_reported_and_goes_on_where_it_was(laptop: Laptop, two: tuple[Sshd, Sshd]) -> None:
    a, b = two
    document = running(laptop)
    run_id = document["meta"]["run_id"]
    killed = host_row(document, "gpu-b")["pid"]
    os.kill(killed, signal.SIGKILL)
    wait_for(lambda: not lives(killed), say="its death")
    shown = laptop.call("status")[0]
    assert f"has died; running jobs continue. Start it again: wavequeue resume --run {run_id}" in shown
    assert f"{run_id}: running" in shown
    out, _ = laptop.call("cancel", "j4", "--yes")
    assert f"cancel takes effect when the run continues: wavequeue resume --run {run_id}" in out
    (workspace(a) / "stop").touch()
    finish(a, run_id)
    out, err = laptop.call("watch", code=1)
    assert "its managers have died" in out
    assert f"gpu-b: the manager (process {killed}) has died" in err
    damage(RunPaths.of(HostPaths.of(b.home).runs / run_id).journal)
    out, err = laptop.call("resume", code=1)
    assert "its checksum does not match" in err
    assert "wavequeue repair" in err
    out, err = laptop.call("repair", code=2)
    assert f"{run_id}: gpu-a: nothing to repair" in out
    assert "  recoverable: " in out
    assert "add --yes" in err
    out, err = laptop.call("repair", run_id, "--yes")
    assert "repaired; kept beside it: journal.jsonl.damaged-" in out
    out, err = laptop.call("resume")
    assert f"{run_id}: gpu-b: resumed" in out
    assert f"{run_id}: gpu-b: the manager was not running; started it again" in err
    assert host_row(status(laptop), "gpu-b")["manager"] == "running"
    (workspace(b) / "stop").touch()
    laptop.call("watch", code=3)
    assert {row["id"]: row["status"] for row in status(laptop)["jobs"]}["j4"] == "cancelled"
    assert laptop.call("resume")[0].startswith(f"{run_id}: has finished; nothing to resume")
    found = ran(a, b)
    found.pop("ran4", None)
    assert found == {"ran1": 1, "ran2": 1, "ran3": 1}


def test_jobs_are_cancelled_tried_again_and_added_where_they_belong(laptop: Laptop, two: tuple[Sshd, Sshd]) -> None:
    document = running(laptop)
    run_id = document["meta"]["run_id"]
    of = {row["id"]: row["host"] for row in document["jobs"]}
    waiting = WAITING + "      priority: 3\n"
    laptop.spec(waiting)
    assert "They differ only in priority" in laptop.call("add", "spec.yaml", code=2)[1]
    assert laptop.call("add", "spec.yaml", "--update")[0].count(": changed: 2 jobs\n") == 2
    out, _ = laptop.call("cancel", "j*", "--yes")
    assert sorted(out.splitlines()) == [f"{run_id}: gpu-{host}: cancelled: 2 jobs" for host in "ab"]
    laptop.call("watch", code=3)
    assert status(laptop)["counts"] == {"cancelled": 4}
    waiting = waiting.replace("[1, 2, 3, 4]", "[1, 2, 3, 4, 5]")
    laptop.spec(waiting)
    out, err = laptop.call("add", "spec.yaml")
    assert out.endswith(": added: 1 job\n")
    assert err.count(": the manager was not running; started it again") == 1
    also = next(name for name in of if of[name] != of["j2"] and name != "j3")
    out, err = laptop.call("retry", "j2", also)
    assert sorted(out.splitlines()) == [f"{run_id}: gpu-{host}: retried: 1 job" for host in "ab"]
    assert err.count(": the manager was not running; started it again") == 1, "one was started for the new job"
    refused = laptop.call("accept", "j3", "--output", "no_such_*.txt", code=1)[1]
    assert "nothing was accepted: no_such_*.txt does not exist (relative to " in refused
    out, _ = laptop.call("accept", "j3", "--output", "input.txt", "--reason", "as good")
    assert out == f"{run_id}: {of['j3']}: accepted as it is: 1 job\n"
    out, _ = laptop.call("add", "--id", "after", "--cmd", "cat out2 > out_after", "--gpus", "0", "--depends-on", "j2")
    assert out == f"{run_id}: {of['j2']}: added: 1 job\n"
    accepted = """{{ 'input.txt' if n == 3 else 'out' ~ n }}"""
    laptop.spec(waiting.replace('output: "out${n}"', f'output: "{accepted}"'))
    assert "nothing to add" in laptop.call("add", "spec.yaml")[0]
    for host in two:
        (workspace(host) / "stop").touch()
    laptop.call("watch", code=3)
    rows = {row["id"]: row for row in status(laptop)["jobs"]}
    assert [rows[name]["status"] for name in ("j2", also, "after", "j5")] == ["completed"] * 4
    assert rows["after"]["host"] == of["j2"]
    assert (rows["j3"]["status"], rows["j3"]["expected_output"]) == ("completed", "input.txt")
    assert rows["j3"]["warning"].startswith("accepted as it is by ")
    assert all(row["priority"] == 3 for name, row in rows.items() if name != "after")
    assigned = json.loads((laptop.project / "experiment_queue" / run_id / "hosts.json").read_text())
    assert {job: part["host"] for part in assigned["parts"] for job in part["jobs"]} == {
        name: row["host"] for name, row in rows.items()
    }
    both = ("--depends-on", "j1", "--depends-on", next(name for name in of if of[name] != of["j1"]))
    _, err = laptop.call("add", "--id", "x", "--cmd", "true", "--gpus", "0", *both, code=2)
    assert "a job that is added can only wait for jobs of one host: x depends on jobs of 2 hosts" in err
