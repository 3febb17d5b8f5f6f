"""The watcher as a process: one at a time, ended for sure, within its caps, by rules that are read anew."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.runs import lives, wait_for
from tests.vast_account import Account
from tests.vast_double import Fault

RENT = "rent: {ready_within: 15m}\n"
RULES = f"{RENT}watcher: {{every: 1s, max_dph: 0.5, most_instances: 2, most_dph: 5}}\n"


@pytest.fixture
def account(tmp_path: Path) -> Iterator[Account]:
    made = Account(tmp_path, RULES)
    yield made
    made.call("vast", "watcher", "stop")
    made.close()


def log(account: Account) -> str:
    file = account.laptop.project / ".wavequeue" / "watcher.log"
    return file.read_text() if file.exists() else ""


def looks(account: Account) -> int:
    return account.double.count("POST", "/bundles/")


def test_a_burst_of_cheap_offers_is_taken_up_to_the_cap_and_each_is_a_worker(account: Account) -> None:
    for number in range(20):
        account.offer(dph_base=0.2 + number / 1000)
    account.call("vast", "watcher", "start")
    _, err = account.call("vast", "watcher", "start", code=1)
    assert "a watcher is already running (process " in err
    wait_for(lambda: "most_instances is 2" in log(account), say="the cap")
    before = looks(account)
    wait_for(lambda: looks(account) > before + 1, say="another look")
    assert account.creates() == 2
    assert {row["instance_id"] for row in account.workers().values()} == set(account.living())
    status = account.json("vast", "watcher", "status")
    assert (status["runs"], status["rented"], status["rules"]["most_instances"]["source"]) == (True, 2, "vast.yaml:2")
    assert lives(status["pid"])
    assert "2 instances are there" in account.call("vast", "watcher", "status")[0]
    out, _ = account.call("vast", "watcher", "stop")
    assert "still billed" in out
    assert not lives(status["pid"])
    assert "no watcher is running" in account.call("vast", "watcher", "stop")[0]
    assert "stopping on request" in account.call("vast", "watcher", "log")[0]
    assert len(account.living()) == 2, "what it rented is left as it is"


def test_it_only_says_what_it_would_do_and_takes_new_rules_without_a_restart(account: Account) -> None:
    near, banned = account.offer(dph_base=0.55, dlperf=160.0), account.offer(dph_base=0.2)
    account.call("vast", "blacklist", "add", str(banned["machine_id"]), "--reason", "slow")
    account.double.world.ignored.add("machine_id")
    account.call("vast", "watcher", "start", "--dry-run")
    wait_for(lambda: looks(account) > 2, say="three looks")
    assert log(account).count(f"near miss: offer {near['id']}") == 1, "once, while it stays so"
    assert f"offer {banned['id']}" not in log(account)
    account.settings.write_text(f"{RENT}watcher: {{every: 1s, max_dph: cheap}}\n")
    wait_for(lambda: "and not 'cheap'" in log(account), say="the fault")
    account.settings.write_text(RULES.replace("max_dph: 0.5", "max_dph: 0.6"))
    wait_for(lambda: f"would rent offer {near['id']}" in log(account), say="the new rule")
    account.double.fault("GET", "/api/v1/instances/", Fault(500, b"no"), times=1000)
    wait_for(lambda: "the instances of the account are unknown, so nothing is rented" in log(account), say="the fault")
    assert account.creates() == 0
    assert account.json("vast", "watcher", "status")["dry_run"] is True


def test_killed_in_the_middle_of_a_rental_the_next_one_finishes_that_first(account: Account) -> None:
    for number in range(3):
        account.offer(dph_base=0.2 + number / 1000)
    account.settings.write_text(RULES.replace("most_instances: 2", "most_instances: 1"))
    account.double.world.plans.append(["loading"])
    account.call("vast", "watcher", "start")
    pid = account.json("vast", "watcher", "status")["pid"]
    wait_for(lambda: [one for one in account.rentals() if one.state == "created"], say="a create")
    os.kill(pid, signal.SIGKILL)
    wait_for(lambda: not lives(pid))
    assert account.json("vast", "watcher", "status")["runs"] is False
    (number,) = account.living()
    account.double.world.boxes[number].plan.append("running")
    account.call("vast", "watcher", "start")
    wait_for(lambda: "most_instances is 1" in log(account), say="the cap")
    assert account.creates() == 1
    assert account.workers()["vast1"]["instance_id"] == number
