"""Renting, stopping, starting and destroying, against the double of Vast.ai with real hosts behind it."""

from __future__ import annotations

import json
import re
import signal
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from skill.fleet import ledger_file as ledger
from skill.fleet import offers as hunt
from skill.fleet import rent, startup
from skill.fleet.profiles import BUILT_IN
from skill.providers.instances import Instance
from skill.providers.outcomes import Unknown
from skill.providers.provider import Found
from skill.providers.vast import client as vast
from tests.e2e.runs import wait_for
from tests.laptop import SPEC, finish
from tests.skill.test_ssh_preflight import use_config_of_home
from tests.vast_account import QUICK, Account
from tests.vast_double import Fault
from tests.vast_hosts import InstanceHost
from tests.vast_world import STATES

BEST = ("vast", "rent", "--best", "--yes")


@pytest.fixture
def account(tmp_path: Path) -> Iterator[Account]:
    made = Account(tmp_path)
    yield made
    made.close()


def test_what_is_rented_is_a_worker_that_runs_jobs_and_destroy_waits_for_the_results(account: Account) -> None:
    account.offer(dph_base=0.9)
    cheap = account.offer(dph_base=0.2)
    _, err = account.call("vast", "rent", "--best", code=2)
    assert "add --yes" in err, "nobody is there to be asked"
    assert account.creates() == 0
    found = account.json(*BEST)
    (number,) = account.living()
    assert (found["worker"], found["instance_id"]) == ("vast1", number)
    box = account.double.world.boxes[number]
    (one,) = account.rentals()
    assert (box.offer["id"], box.label, one.state) == (cheap["id"], one.label, "ready")
    worker = account.workers()["vast1"]
    assert (worker["instance_id"], worker["ssh"]["port"]) == (number, account.hosts.of[number].port)
    assert account.json("vast", "reconcile")["consistent"]
    account.laptop.spec(SPEC)
    run = account.laptop.submit()["run_id"]
    assert len(finish(account.hosts.of[number], run)) == 4
    (idle,) = account.json("hosts", "idle", "--apply", "--yes")["machines"]
    assert (idle["decision"], idle["facts"]["unknown"]) == ("keep", None), "it has worked a moment ago"
    assert f"run {run}: nothing of it was pulled yet" in idle["facts"]["unsynced"]
    _, err = account.call("vast", "destroy", "vast1", "--yes", code=1)
    assert f"run {run}: nothing of it was pulled yet" in err
    assert account.living() == [number]
    account.call("pull")
    assert "is not billed" in account.call("vast", "destroy", "vast1", "--yes")[0]
    assert account.living() == []
    assert account.workers()["vast1"]["enabled"] is False
    assert account.rentals()[0].state == "destroyed"
    ledger = account.json("vast", "ledger")
    assert 0 < ledger["cost_usd"] < 0.1
    assert "destroyed" in account.call("vast", "ledger")[0]


def test_a_create_whose_answer_was_lost_makes_exactly_one_instance_and_it_is_registered(
    account: Account, monkeypatch: pytest.MonkeyPatch
) -> None:
    account.offer()
    account.offer()
    account.double.fault("PUT", "/asks/", Fault(cut=True, done=True))
    create = account.double.world.create
    known: list[bool] = []

    def noted(offer_id: int, body: Mapping[str, Any]) -> Any:
        known.extend(one.label == body["label"] for one in account.rentals())
        return create(offer_id, body)

    monkeypatch.setattr(account.double.world, "create", noted)
    _, err = account.call(*BEST)
    assert "looking for wq-" in err
    assert known == [True], "it was in the ledger before it was asked for"
    assert account.creates() == 1
    (number,) = account.living()
    assert account.workers()["vast1"]["instance_id"] == number


def test_a_lost_create_that_did_not_happen_is_not_asked_again_for_the_same_offer(account: Account) -> None:
    first, second = account.offer(), account.offer(dph_base=0.31)
    account.double.fault("PUT", "/asks/", Fault(502, b"bad gateway"))
    account.call(*BEST)
    asked = [one.path for one in account.double.asked if "/asks/" in one.path]
    assert [path.split("/")[-2] for path in asked] == [str(first["id"]), str(second["id"])]
    assert len(account.living()) == 1


def test_while_it_is_unknown_whether_it_was_rented_nothing_else_is_and_the_same_again_finds_out(
    account: Account,
) -> None:
    account.offer()
    account.offer()
    account.double.fault("PUT", "/asks/", Fault(cut=True, done=True))
    account.double.fault("GET", "/api/v1/instances/", Fault(401, {"success": False, "error": "auth_error"}), times=9)
    _, err = account.call(*BEST, code=1)
    assert "is unknown" in err
    assert account.creates() == 1
    account.double.heal()
    out, err = account.call("vast", "rent", "--best")
    assert "an interrupted rental is finished first" in err
    assert account.creates() == 1
    assert "vast1: instance" in out


def hurry(monkeypatch: pytest.MonkeyPatch, account: Account, *offers: dict[str, Any], of: str) -> None:
    """Have so much time pass for what is made of these offers that it is given up; for others none does. `of`: whether
    it is its `age`, or the time since its state was another one, that is long."""
    verdict = startup.verdict

    def hurried(
        live: Instance | Unknown, doubt: str | None, age: float, since: float, ready_within: float
    ) -> startup.Wait | startup.Ready | startup.Broken:
        box = account.double.world.boxes.get(live.id) if isinstance(live, Instance) else None
        if box is not None and any(box.offer["id"] == offer["id"] for offer in offers):
            age, since = (age + 1e5, since) if of == "age" else (age, since + 1e5)
        return verdict(live, doubt, age, since, ready_within)

    monkeypatch.setattr(startup, "verdict", hurried)


@pytest.mark.parametrize(
    ("plan", "why"),
    [
        (["provisioning", "loading"], "was not ready after"),
        (["provisioning", "broken"], "OCI runtime create failed"),
        (["loading", "exited"], "exited"),
    ],
    ids=["stuck", "broken", "exited"],
)
def test_what_does_not_come_up_is_destroyed_blacklisted_and_the_next_one_taken(
    account: Account, monkeypatch: pytest.MonkeyPatch, plan: list[str], why: str
) -> None:
    bad, good = account.offer(), account.offer(dph_base=0.31)
    account.double.world.plans.append(plan)
    if plan[-1] != "broken":
        hurry(monkeypatch, account, bad, of="age" if plan[-1] == "loading" else "state")
    account.call(*BEST)
    (number,) = account.living()
    assert account.double.world.boxes[number].offer["id"] == good["id"]
    (ban,) = json.loads(account.call("vast", "blacklist", "list", "--json")[0])["machines"]
    assert ban["machine_id"] == bad["machine_id"]
    assert why in ban["reason"]
    assert [one.state for one in account.rentals()] == ["destroyed", "ready"]


def test_an_address_that_leads_to_another_machine_is_not_believed(
    account: Account, monkeypatch: pytest.MonkeyPatch
) -> None:
    bad, good = account.offer(), account.offer(dph_base=0.31)
    hurry(monkeypatch, account, bad, of="state")
    truth = InstanceHost.is_instance

    def lies(host: InstanceHost, variables: Mapping[str, str], start: int = 1) -> None:
        is_bad = account.double.world.boxes[int(variables["CONTAINER_ID"])].offer["id"] == bad["id"]
        truth(host, {"CONTAINER_ID": "5"} if is_bad else variables, start)

    monkeypatch.setattr(InstanceHost, "is_instance", lies)
    _, err = account.call(*BEST)
    assert "leads to instance 5" in err
    (number,) = account.living()
    assert account.double.world.boxes[number].offer["id"] == good["id"]
    assert [row["instance_id"] for row in account.workers().values()] == [number]
    assert len(json.loads(account.call("vast", "blacklist", "list", "--json")[0])["machines"]) == 1, "now it is known"


def test_machines_that_cannot_be_entered_for_one_reason_are_not_to_blame(
    account: Account, monkeypatch: pytest.MonkeyPatch
) -> None:
    hurry(monkeypatch, account, *(account.offer() for _ in range(3)), of="state")
    monkeypatch.setattr(InstanceHost, "authorize", lambda *_: None)
    _, err = account.call(*BEST, code=1)
    assert "the login failed on two machines in a row" in err
    assert re.search(r"No machine was blacklisted. What was tried cost \$0\.\d+", err.splitlines()[-1])
    assert account.creates() == 2
    assert account.living() == []
    assert "no machine is on the blacklist" in account.call("vast", "blacklist", "list")[0]


def test_with_a_fault_of_this_side_nothing_is_rented(account: Account, monkeypatch: pytest.MonkeyPatch) -> None:
    account.offer()
    use_config_of_home(account.laptop.home, monkeypatch)
    (account.laptop.home / ".ssh" / "config").write_text("Host *\n  ProxyJump root@127.0.0.1:1\n  Prot 22\n")
    _, err = account.call(*BEST, code=1)
    assert (
        "nothing was rented: logging in to rented machines does not work from here: your ssh configuration "
        "cannot be read" in err
    )
    account.laptop.spec(SPEC)
    _, err = account.call("up", "spec.yaml", "--yes", code=1)
    assert err.splitlines()[-1] == "wavequeue: nothing was rented or billed"
    (account.laptop.home / ".ssh" / "config").write_text("Host 203.*\n  ProxyJump root@127.0.0.1:1\n")
    _, err = account.call(*BEST, code=1)
    assert "of your ssh configuration cannot be entered" in err
    assert account.creates() == 0


def test_trying_is_bounded_and_an_offer_that_has_gone_costs_no_try(account: Account) -> None:
    account.settings.write_text("rent: {ready_within: 60s, tries: 2}\n")
    for number in range(4):
        account.offer(dph_base=0.30 + number / 100)
    account.double.fault("PUT", "/asks/", Fault(404, {"success": False, "error": "invalid_args", "msg": "no_such_ask"}))
    account.double.world.plans += [["broken"]] * 4
    _, err = account.call(*BEST, code=1)
    assert "2 instances have failed" in err
    assert account.creates() == 3
    assert account.living() == []
    account.double.world.credit = 0.0
    _, err = account.call(*BEST, "--max-dph", "5", code=1)
    assert "no credit" in err


def test_an_image_that_no_machine_could_get_is_reported_and_no_machine_is_blamed(
    account: Account, monkeypatch: pytest.MonkeyPatch
) -> None:
    for _ in range(3):
        account.offer()
    words = "failed to pull image: manifest unknown\n"
    monkeypatch.setitem(STATES, "broken", STATES["broken"]._replace(status_msg=words))
    account.double.world.plans += [["loading", "broken"]] * 3
    _, err = account.call(*BEST, code=1)
    assert "the image vastai/pytorch:@vastai-automatic-tag cannot be pulled" in err
    assert account.creates() == 1
    assert account.living() == []
    assert "no machine is on the blacklist" in account.call("vast", "blacklist", "list")[0]


def test_an_error_that_names_an_instance_leaves_none(account: Account) -> None:
    account.offer()
    made = {"success": False, "error": "invalid_price", "msg": "too low", "new_contract": 1_234_501}
    account.double.fault("PUT", "/asks/", Fault(400, made, done=True))
    _, err = account.call(*BEST, code=1)
    assert "destroyed" in err
    assert account.living() == []


@pytest.mark.parametrize("status", [200, 400])
def test_an_answer_that_names_somebody_elses_instance_does_it_no_harm(account: Account, status: int) -> None:
    """The create happened, and its answer names another instance of the account: what is ours is found by its label."""
    theirs = account.double.world.box(["running"], id=424242, label="colleague")
    account.offer()
    made = {"success": status == 200, "new_contract": theirs.id, "error": "invalid_price", "msg": "too low"}
    account.double.fault("PUT", "/asks/", Fault(status, made, done=True))
    _, err = account.call(*BEST, code=0 if status == 200 else 1)
    assert "instance 424242" in err
    assert "not touched" in err
    assert account.creates() == 1
    assert [one.method for one in account.double.asked if "424242" in one.path] == ["GET"]
    assert theirs.keys == []
    mine = [number for number in account.living() if number != theirs.id]
    assert theirs.id in account.living()
    assert mine == ([account.workers()["vast1"]["instance_id"]] if status == 200 else [])


def test_a_number_in_the_ledger_that_is_somebody_elses_is_never_acted_on(account: Account) -> None:
    """As an earlier version wrote it, which believed the answer to a create."""
    account.offer()
    account.double.fault("PUT", "/asks/", Fault(cut=True, done=True))
    account.double.fault("GET", "/api/v1/instances/", Fault(401, {"success": False, "error": "auth_error"}), times=9)
    account.call(*BEST, code=1)
    account.double.heal()
    theirs = account.double.world.box(["loading"], id=424242, label="colleague")
    (one,) = account.rentals()
    ledger.note(account.registry, "created", one.label, instance_id=theirs.id)
    account.call(*BEST)
    assert {one.method for one in account.double.asked if "424242" in one.path} == {"GET"}
    (one,) = account.rentals()
    assert one.instance_id == account.workers()["vast1"]["instance_id"] != theirs.id


def test_killed_anywhere_and_run_again_there_is_one_instance_and_it_is_registered(account: Account) -> None:
    for _ in range(2):
        account.offer()
    account.double.world.plans.append(["provisioning", "loading", "loading", "loading", "running"])
    ledger = account.laptop.project / ".wavequeue" / "ledger.jsonl"
    moments = [
        ledger.exists,
        lambda: account.creates() == 1,
        lambda: "created" in ledger.read_text(),
        lambda: bool(account.hosts.of),
        account.registry.exists,
    ]
    for moment in moments:
        process = account.laptop.start(*BEST)
        wait_for(lambda: moment() or process.poll() is not None)  # noqa: B023
        process.send_signal(signal.SIGKILL)
        process.communicate()
    if not account.workers():
        account.call(*BEST)
    assert account.creates() <= 2
    workers = {worker["instance_id"] for worker in account.workers().values()}
    assert set(account.living()) == workers
    assert len(workers) <= 2


def test_a_purpose_that_needs_one_machine_gets_the_one_that_another_process_rented(
    account: Account, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in {**account.double.environment, "HOME": str(account.laptop.home)}.items():
        monkeypatch.setenv(name, value)
    account.offer()
    account.offer()
    profile = BUILT_IN["cpu"]
    client = vast.connect()
    found = client.offers({}, profile.disk_gb)
    assert isinstance(found, Found)
    ranking = hunt.rank(found.offers, profile, hunt.plain_work(profile), ())
    request = rent.RentRequest(profile, "up p-1", once=True)
    workers = [rent.rent(client, account.registry, request, ranking.priced, lambda _text: None) for _ in range(2)]
    assert workers[0].instance_id == workers[1].instance_id
    assert account.creates() == 1
    again = rent.rent(client, account.registry, request._replace(once=False), ranking.priced, lambda _text: None)
    client.close()
    assert again.name == "vast2"


def test_stopping_and_starting_say_what_is_billed_and_a_start_that_waits_is_taken_back(account: Account) -> None:
    account.offer()
    number = account.json(*BEST)["instance_id"]
    box = account.double.world.boxes[number]
    assert "still billed" in account.call("vast", "stop", str(number), "--yes")[0]
    assert box.state == "stopped"
    assert account.rentals()[0].state == "stopped"
    box.is_card_taken = True
    _, err = account.call("vast", "start", "vast1", "--yes", code=1)
    assert "was taken back" in err
    assert box.state == "stopped", "it would have billed whenever a GPU gets free"
    box.is_card_taken = False
    old = account.workers()["vast1"]["ssh"]["port"]
    assert "still billed: $" in account.call("vast", "start", "vast1", "--yes")[0]
    assert account.workers()["vast1"]["ssh"]["port"] not in (old, None)
    account.call("hosts", "check", "vast1")
    assert account.rentals()[0].state == "ready"
    account.double.world.destroy(box)
    account.double.world.shown(box)
    assert "no longer exists" in account.call("vast", "destroy", "vast1", "--yes")[0]
    assert account.rentals()[0].state == "gone"


def test_only_what_is_ours_is_touched(account: Account) -> None:
    other = account.double.world.box(label="wq-somebody")
    for verb in ("stop", "start", "destroy"):
        _, err = account.call("vast", verb, str(other.id), "--yes", code=2)
        assert "may belong to somebody else" in err
    account.offer()
    number = account.json(*BEST)["instance_id"]
    text = account.registry.read_text()
    account.registry.write_text(text.replace(f"instance_id: {number}", "instance_id: 5"))
    account.double.world.boxes[number].label = "renamed"
    _, err = account.call("vast", "destroy", str(number), "--yes", code=2)
    assert "has the label 'renamed' instead of wq-" in err
    assert number in account.living()
    assert [one.method for one in account.double.asked if str(other.id) in one.path] == ["GET"] * 3


def test_an_unknown_answer_ends_nothing(account: Account) -> None:
    account.offer()
    number = account.json(*BEST)["instance_id"]
    account.double.fault("GET", f"/instances/{number}/", Fault(410, {"success": False, "error": "deprecated"}), times=9)
    _, err = account.call("vast", "destroy", "vast1", "--yes", code=1)
    assert "nothing was done" in err
    assert account.double.count("DELETE", "") == 0
    account.double.heal()
    account.double.fault("DELETE", "", Fault(403, {"success": False, "error": "forbidden"}))
    _, err = account.call("vast", "destroy", "vast1", "--yes", code=1)
    assert "it may still be billed" in err
    assert account.workers()["vast1"].get("enabled") is not False


def test_a_chosen_offer_is_taken_alone_and_what_cannot_be_rented_is_reported(account: Account) -> None:
    small = account.offer(gpu_ram=2000, num_gpus=0, gpu_name=None)
    found = account.json("vast", "rent", str(small["id"]), "--name", "mine", "--yes")
    assert found["worker"] == "mine"
    _, err = account.call("vast", "rent", str(small["id"]), "--name", "mine", "--yes", code=2)
    assert "registered already" in err
    _, err = account.call("vast", "rent", str(small["id"]), "--yes", code=1)
    assert "not available" in err
    other = account.offer()
    account.call("vast", "blacklist", "add", str(other["machine_id"]), "--reason", "slow")
    _, err = account.call("vast", "rent", str(other["id"]), "--yes", code=2)
    assert "blacklist (slow)" in err
    _, err = account.call("vast", "rent", code=2)
    assert "give OFFER" in err
    account.settings.write_text("rent: {ready_within: soon, tires: 3}\n")
    _, err = account.call(*BEST, code=2)
    assert "did you mean tries" in err


def test_an_unusable_key_is_reported_before_it_is_paid_for_and_without_one_ours_is_made(
    account: Account,
) -> None:
    account.offer()
    key = account.laptop.home / ".ssh" / "id_ed25519"
    subprocess.run(["ssh-keygen", "-q", "-p", "-P", "", "-N", "a secret", "-f", str(key)], check=True)
    account.settings.write_text("rent: {key: ~/.ssh/id_ed25519}\n")
    _, err = account.call(*BEST, code=2)
    assert "it needs its passphrase, and no agent " in err
    account.settings.write_text("rent: {key: ~/.ssh/other}\n")
    _, err = account.call(*BEST, code=2)
    assert "ssh-keygen -f ~/.ssh/other" in err
    assert account.creates() == 0
    account.settings.write_text(QUICK)
    account.call(*BEST)
    account.call("hosts", "check", "vast1")
    own = account.laptop.home / ".wavequeue" / "rented" / "id_ed25519"
    assert account.workers()["vast1"]["ssh"]["key"] == "~/.wavequeue/rented/id_ed25519"
    assert own.stat().st_mode & 0o777 == 0o600
