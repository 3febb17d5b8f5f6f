"""A rented machine that is stopped and started again in the middle of a run: it moves, and its manager comes back."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from skill.providers.vast.start_script import ONSTART, guarded
from tests.e2e.runs import wait_for
from tests.e2e.test_vast import Fleet
from tests.laptop import WAITING, finish, state
from tests.vast_account import Account


@pytest.fixture
def account(tmp_path: Path) -> Iterator[Account]:
    made = Account(tmp_path)
    made.offer()
    yield made
    made.close()


@pytest.fixture
def fleet(tmp_path: Path) -> Iterator[Fleet]:
    made = Fleet(tmp_path)
    yield made
    made.close()


def jobs(document: dict[str, Any] | None) -> dict[str, Any]:
    return {row["id"]: row for row in (document or {"jobs": []})["jobs"]}


def test_a_run_goes_on_by_the_start_script_and_loses_no_attempt_and_pull_says_where_its_machine_is(
    account: Account,
) -> None:
    number = account.json("vast", "rent", "--best", "--yes")["instance_id"]
    box, host = account.double.world.boxes[number], account.hosts.of[number]
    assert (host.home / ".no_auto_tmux").exists()
    account.laptop.spec(WAITING)
    run = account.laptop.submit()["run_id"]
    wait_for(lambda: [row for row in jobs(state(host, run)).values() if row["status"] == "running"], say="its jobs")
    old = host.address, host.port
    account.double.world.outbid(box)  # nobody here asked for it
    assert box.state == "stopped"
    _, err = account.call("pull", code=1)
    assert "is stopped: its disk is still billed" in err
    account.double.world.start(box)
    while box.state != "running":
        account.double.world.shown(box)
    assert (host.address, host.port) != old
    wait_for(
        lambda: [row for row in jobs(state(host, run)).values() if row["status"] == "running" and row["attempt"] == 2],
        say="its manager, with nobody there to start it",
    )
    (host.home / "wavequeue" / "small" / "code" / "stop").touch()
    assert len(finish(host, run)) == 4
    rows = jobs(state(host, run))
    assert {row["attempts"] for row in rows.values()} == {1}, "what was cut off is no attempt"
    assert max(row["attempt"] for row in rows.values()) == 2
    _, err = account.call("pull")
    assert "vast1: listens at" in err
    assert len(list((account.laptop.project / "code").glob("out*"))) == 4
    assert account.workers()["vast1"]["ssh"]["port"] == host.port
    assert account.json("vast", "reconcile")["consistent"]


SCRIPT_CASES = {
    "nothing was pushed yet": ([], []),
    "the newest serves": (["a", "b"], ["b"]),
    "the newest is broken": (["a", "b!"], ["b", "a"]),
    "half a push": (["a", "x-new"], ["a"]),
}


@pytest.mark.parametrize("shell", ["sh", "bash"])
@pytest.mark.parametrize(("pushed", "tried"), SCRIPT_CASES.values(), ids=list(SCRIPT_CASES))
def test_the_start_script_takes_the_newest_runtime_that_serves_and_never_fails(
    tmp_path: Path, shell: str, pushed: list[str], tried: list[str]
) -> None:
    calls = tmp_path / "calls"
    for number, name in enumerate(pushed):
        digest = name[0] * 32 if len(name) < 3 else name
        folder = tmp_path / ".wavequeue" / "runtime" / digest
        folder.mkdir(parents=True)
        end = "import nothing_like_this" if name.endswith("!") else ""
        asked = f"print({name[0]!r}, sys.argv[1], file=open({str(calls)!r}, 'a'))"
        (folder / "__main__.py").write_text(f"import sys\n{asked}\n{end}\n")
        os.utime(folder, (1000 + number, 1000 + number))
    script = tmp_path / "onstart.sh"
    script.write_text(ONSTART + "wait\n")
    environment = {"PATH": "/usr/bin:/bin", "HOME": str(tmp_path)}
    done = subprocess.run([shell, str(script)], env=environment, cwd="/", capture_output=True, timeout=150, check=True)
    assert (done.stdout, done.stderr) == (b"", b"")
    assert (tmp_path / ".no_auto_tmux").exists()
    found = calls.read_text().splitlines() if calls.exists() else []
    names = list(dict.fromkeys(line.split()[0] for line in found))
    assert names == tried
    assert all(line.endswith("queue_manager.resume_all") for line in found)
    assert (tmp_path / ".wavequeue").exists() == bool(pushed), "it is made by what is pushed, and closed to others"


@pytest.mark.parametrize("has_run", [False, True])
def test_a_machine_that_up_rented_destroys_itself_if_it_never_gets_its_run(account: Account, has_run: bool) -> None:
    box = account.double.world.box()
    host = account.hosts.of[box.id]
    if has_run:
        (host.home / ".wavequeue" / "runs" / "r").mkdir(parents=True)
        (host.home / ".wavequeue" / "runs" / "r" / "journal.jsonl").touch()
    script = host.root / "onstart.sh"
    script.write_text(guarded(0) + "wait\n")
    subprocess.run(["sh", str(script)], env=host.variables, cwd=host.home, timeout=150, check=False)
    if not has_run:  # the machine ends under the hands of what asked for it
        wait_for(lambda: box.id not in account.living(), say="its end")
    assert (box.id in account.living()) is has_run
    assert account.double.count("DELETE", str(box.id)) == (0 if has_run else 1)


def test_a_fix_that_is_killed_leaves_the_registry_whole_and_the_next_one_mends_it(fleet: Fleet) -> None:
    old = fleet.text(fleet.address)
    fleet.restart()
    new = fleet.text(fleet.address)
    asked = len(fleet.double.asked)
    moments: list[Callable[[], bool]] = [
        lambda: len(fleet.double.asked) > asked,
        (fleet.laptop.project / ".wavequeue" / "workers.lock").exists,
        lambda: bool(list(fleet.laptop.project.glob(".workers.yaml.*.tmp"))),
        lambda: fleet.file.read_text() == new,
    ]
    for moment in moments:
        process = fleet.laptop.start("vast", "reconcile", "--fix")
        wait_for(lambda: moment() or process.poll() is not None)  # noqa: B023
        process.send_signal(signal.SIGKILL)
        process.communicate()
        assert fleet.file.read_text() in (old, new)
        assert YAML(typ="safe").load(fleet.file)["workers"]["rented"]["instance_id"] == fleet.box.id
    fleet.laptop.call("vast", "reconcile", "--fix")
    assert fleet.file.read_text() == new
    assert json.loads(fleet.laptop.call("vast", "reconcile", "--json")[0])["consistent"]
