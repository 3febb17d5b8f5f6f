"""AGENT_STATUS.json of a host: many register at once, runs keep to it, and people see it through `hosts agents`."""

from __future__ import annotations

import contextlib
import io
import json
import os
import time
from pathlib import Path
from typing import Any

import pytest

from queue_manager.adapters import agent_status
from queue_manager.adapters.leases import Leases
from queue_manager.core.agents import Agent
from queue_manager.core.boundary import ForeignLease
from queue_manager.core.events import Proc
from queue_manager.core.layout import HostPaths
from queue_manager.core.readings import Card, Unreadable
from queue_manager.remote import agents
from skill.hosts import bootstrap
from skill.hosts.transport import CommandResult
from tests import in_process

CARD = Card(0, "GPU-0", "A100", 80_000, 0)


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> HostPaths:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setattr(agents, "_cards", lambda: (CARD,))
    return HostPaths.of(tmp_path)


def ask(*arguments: str, code: int = 0) -> dict[str, Any]:
    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        assert agents.main(arguments) == code
    found: dict[str, Any] = json.loads(out.getvalue())
    return found


def there(host: HostPaths) -> list[Agent]:
    found = agent_status.read(host)
    assert not isinstance(found, Unreadable), found
    return found


def test_an_agent_registers_renews_and_is_done(host: HostPaths) -> None:
    assert ask() == {"agents": []}
    (row,) = ask("--register", "nb-ann", "--experiment", "probing", "--gpu-gb", "20")["agents"]
    assert (row["id"], row["experiment"], row["gpu"], row["status"]) == ("nb-ann", "probing", 0, "running")
    assert row["heartbeat_s"] < 60
    (again,) = ask("--register", "nb-ann", "--gpu-gb", "30")["agents"]
    assert (again["started"], again["gpu_gb"]) == (row["started"], 30.0)
    assert ask("--register", "b", "--gpu-gb", "60", code=1)["fault"].startswith("60 GB are not free: GPU 0 has ")
    assert ask("--done", "nb-ann")["agents"][0]["status"] == "done"
    assert len(ask("--register", "b", "--gpu-gb", "60")["agents"]) == 2
    assert ask("--done", "c", code=1) == {"fault": "there is no agent c"}
    assert ask("--register", "a/b", code=1)["fault"].startswith("the id 'a/b' ")
    assert host.agents.stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize(("gb", "land"), [("0", 20), ("10", 8)])
def test_of_twenty_that_register_at_once_all_land_that_fit(host: HostPaths, gb: str, land: int) -> None:
    pids = []
    for number in range(20):
        pid = os.fork()
        if pid == 0:
            code = 3
            try:
                with contextlib.redirect_stdout(io.StringIO()):
                    code = agents.main(["--register", f"a{number}", "--gpu-gb", gb])
            finally:
                os._exit(code)
        pids.append(pid)
    codes = [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in pids]
    assert sorted(codes) == [0] * land + [1] * (20 - land)
    assert len(there(host)) == land


def test_a_run_sees_what_live_agents_were_promised(host: HostPaths) -> None:
    ask("--register", "nb", "--gpu-gb", "20")
    ask("--register", "run-1", "--gpu-gb", "10")

    def seen(run: str) -> tuple[ForeignLease, ...] | Unreadable:
        with Leases(host, run, run, "boot", Proc(os.getpid(), 0)) as lock:
            return lock.foreign()

    assert seen("run-1") == (ForeignLease("GPU-0", 19074, "nb", is_agent=True),)
    old = [one._replace(heartbeat=time.time() - 1000.0) for one in there(host)]
    agent_status.write(host, old)
    assert seen("run-2") == ()
    assert [row["status"] for row in ask()["agents"]] == ["stale", "stale"]
    host.agents.write_text("[", encoding="utf-8")
    found = seen("run-2")
    assert isinstance(found, Unreadable)
    assert "AGENT_STATUS.json is not JSON" in found.reason
    assert "repair it or remove it" in ask("--register", "nb", code=1)["fault"]


def test_people_see_and_change_it_from_their_own_machine(
    host: HostPaths, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "workers.yaml").write_text("workers:\n  here: {kind: local}\n", encoding="utf-8")

    def call(*options: str, code: int = 0) -> in_process.Ended:
        ended = in_process.run(("hosts", "agents", "here", *options), tmp_path, dict(os.environ))
        assert ended.returncode == code, ended
        return ended

    lines = call("--register", "ann", "--experiment", "reading", "--expires", "2h").stdout.splitlines()
    assert lines[1].split()[:4] == ["ann", "running", "-", "0"]
    assert lines[1].endswith("reading")

    def in_passing(*arguments: Any, timeout: float) -> CommandResult:  # noqa: ARG001
        out = io.StringIO()
        with contextlib.redirect_stdout(out):
            code = agents.main(arguments[4:])
        return CommandResult(code, out.getvalue().encode(), "")

    monkeypatch.setattr(bootstrap, "in_passing", in_passing)  # the way there was tried; it takes seconds
    (one,) = json.loads(call("--json").stdout)["agents"]
    assert (one["id"], one["expires_s"]) == ("ann", 7200.0)
    assert "done" in call("--done", "ann").stdout
    assert "here: there is no agent bob" in call("--done", "bob", code=1).stderr
    assert "here: 90 GB are not free" in call("--register", "bob", "--gpu-gb", "90", code=1).stderr
    assert "exclude each other" in call("--done", "a", "--register", "b", code=2).stderr
    assert there(host)[0].status == "done"
    agent_status.write(host, [])
    assert "no agent is registered; register one: wavequeue hosts agents here --register ID" in call().stdout
