"""`up`: one command from a spec to its results with nothing rented in the end, against the double of Vast.ai."""

from __future__ import annotations

import json
import re
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from queue_manager.core.times import iso
from tests.demo_copy import copy_manifests
from tests.e2e.runs import PATIENCE, wait_for
from tests.laptop import SPEC, WAITING
from tests.vast_account import Account

UP = ("up", "spec.yaml", "--yes", "--every", "0.5s", "--poll", "0.1")


@pytest.fixture
def account(tmp_path: Path) -> Iterator[Account]:
    made = Account(tmp_path)
    for number in range(3):
        made.offer(dph_base=0.30 + number / 100)
    made.laptop.spec(SPEC)
    yield made
    made.close()


def results(account: Account) -> list[str]:
    return sorted(path.name for path in (account.laptop.project / "code").glob("out*"))


ALL = ["out1", "out2", "out3", "out4"]


def test_one_command_from_nothing_to_results_at_home_and_nothing_rented(account: Account) -> None:
    """The demo spec of the repository, on a machine that has nothing."""
    account.hosts.new = True
    manifests = account.laptop.project / "manifests"
    copy_manifests(manifests)
    demo = ("up", "manifests/demo.yaml", "--poll", "0.1")
    _, err = account.call(*demo, code=2)
    assert "cost limit: $" in err
    assert "h, $" in err
    assert account.creates() == 0, "nobody said yes"
    process = account.laptop.start(*demo, "--yes", "--json")
    out, err = process.communicate(timeout=3 * PATIENCE)
    assert process.returncode == 0, err
    found = json.loads(out)
    assert len(list((manifests / "demo" / "out").glob("*.json"))) == 8
    assert account.living() == []
    assert account.creates() == 1
    assert found["state"] in ("destroyed", "gone")
    assert 0 < found["cost_usd"] < 0.1
    assert "8 completed" in Path(found["summary"]).read_text()
    ledger = account.json("vast", "ledger")
    assert ledger["cost_usd"] == pytest.approx(found["cost_usd"], abs=1e-5)
    assert account.workers()["vast1"]["enabled"] is False
    out, _ = account.call(*demo, "--yes")
    assert "this was already done; to run it again: add --new" in out
    assert account.creates() == 1


def moments(account: Account) -> dict[str, Callable[[], bool]]:
    """Points on the way, the first first, by what can be seen from outside."""
    here = account.laptop.project
    ledger, runs = here / ".wavequeue" / "ledger.jsonl", here / "experiment_queue"

    def there(pattern: str) -> bool:
        return any(list(host.home.glob(pattern)) for host in list(account.hosts.of.values()))

    def shown(word: str) -> bool:
        return ledger.exists() and word in ledger.read_text()

    def released() -> bool:
        for host in list(account.hosts.of.values()):
            code = host.home / "wavequeue" / "small" / "code"
            if code.exists():
                (code / "stop").touch()
        return len(results(account)) == len(ALL)

    return {
        "offers asked for": lambda: account.double.count("POST", "/bundles/") > 0,
        "about to rent": lambda: shown("intended"),
        "create asked for": lambda: account.creates() > 0,
        "it is made": lambda: shown("created"),
        "it comes up": lambda: bool(account.hosts.of),
        "a worker": account.registry.exists,
        "set up": lambda: there("wavequeue/SETUP_LOG.txt"),
        "the run is made": lambda: bool(account.laptop.runs()),
        "its manager runs": lambda: there(".wavequeue/runs/*/queue_state.json"),
        "its state is here": lambda: bool(list(runs.glob("*/hosts/*/queue_state.json"))),
        "its results are here": released,
    }


def kill_at(account: Account, name: str, moment: Callable[[], bool]) -> None:
    process = account.laptop.start(*UP)
    wait_for(lambda: moment() or process.poll() is not None, say=name)
    assert process.poll() is None, (name, process.communicate())
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert len(account.living()) <= 1, name


def test_killed_at_ten_points_and_run_again_there_is_never_more_than_one_instance_and_none_is_left(
    account: Account,
) -> None:
    account.laptop.spec(WAITING)
    account.double.world.plans.append(["provisioning", "loading", "loading", "running"])
    points = moments(account)
    assert len(points) >= 10
    for name, moment in points.items():
        kill_at(account, name, moment)
    found = account.json(*UP)
    assert results(account) == ALL
    assert account.creates() == 1
    assert account.living() == []
    assert len(account.laptop.runs()) == 1
    assert found["state"] in ("destroyed", "gone")


def test_left_with_ctrl_c_it_says_what_goes_on_billing_and_the_same_again_goes_on_with_its_cost_limit(
    account: Account,
) -> None:
    account.laptop.spec(WAITING)
    _, err = account.call(*UP, "--max-cost", "0.5", code=1)
    assert "above the limit of $0.50" in err
    assert account.creates() == 0
    account.double.world.plans.append(["loading"])
    process = account.laptop.start(*UP, "--max-cost", "7")
    wait_for(lambda: bool(account.rentals()) and account.rentals()[0].state == "created")
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=150)
    assert process.returncode == 130
    (number,) = account.living()
    box = account.double.world.boxes[number]
    assert f"instance {number} (1x RTX 4090) is loading, and is still billed: $" in err
    box.plan.append("running")
    process = account.laptop.start(*UP)
    wait_for(lambda: bool(list(account.laptop.project.glob("experiment_queue/*/hosts/*/queue_state.json"))))
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=150)
    assert f"instance {number} (1x RTX 4090) is running, and is still billed: $0.30" in err
    home = account.hosts.of[number].home
    (shown,) = [json.loads(path.read_text()) for path in home.glob(".wavequeue/runs/*/instance.json")]
    assert shown["since"] == iso(account.rentals()[0].rates[0][0]), "the cost limit counts from the create"
    _, err = account.call(*UP, "--max-cost", "9", code=2)
    assert "already running with --max-cost 7" in err
    (home / "wavequeue" / "small" / "code" / "stop").touch()
    account.call(*UP)
    assert results(account) == ALL
    assert account.living() == []


def test_what_is_refused_or_fails_before_any_job_was_submitted_leaves_nothing_rented(account: Account) -> None:
    out, _ = account.call("up", "spec.yaml", "--dry-run", "--json")
    assert json.loads(out)["where"].startswith("offer ")
    _, err = account.call(*UP, "--name", "../x", code=2)
    assert "--name ../x may have letters" in err
    code = account.laptop.project / "code"
    with (code / "big.npy").open("wb") as file:
        file.truncate(150_000_000)
    out, err = account.call("up", "spec.yaml", code=2)
    assert "code/big.npy" in err.replace("\n", "")
    assert "this command asks for confirmation (send" in err
    assert account.creates() == 0
    (code / "big.npy").unlink()
    account.laptop.spec(f"{SPEC}conda: no_such_env\n")
    _, err = account.call(*UP, code=1)
    assert "no_such_env" in err
    assert "was destroyed and is no longer billed" in err
    assert re.search(r"nothing is billed any more; what was rented for this cost \$0\.\d+", err.splitlines()[-1])
    assert account.creates() == 1
    assert account.living() == []
    account.laptop.spec(SPEC)
    out, _ = account.call(*UP, "--name", "first", "--json")
    assert json.loads(out)["run_id"].startswith("first-")
    assert results(account) == ALL
    _, err = account.call(*UP, "--name", "first", "--new", code=2)
    assert "there is a run with the name first" in err
    assert account.creates() == 2


def test_jobs_that_need_a_person_stop_the_machine_and_keep_its_disk(account: Account) -> None:
    account.laptop.spec(SPEC.replace("cat input.txt", "test ${n} = 3 && exit 1; cat input.txt"))
    out, _ = account.call(*UP, code=3)
    assert "is stopped; its disk is still billed" in out
    (number,) = account.living()
    assert account.double.world.boxes[number].state == "stopped"
    assert account.rentals()[0].state == "stopped"
    out, _ = account.call("vast", "destroy", "vast1", "--yes")
    assert "is not billed" in out


def test_a_machine_that_is_lost_in_the_middle_is_reported_with_what_can_be_done(account: Account) -> None:
    account.laptop.spec(WAITING)
    process = account.laptop.start(*UP)
    wait_for(lambda: bool(list(account.laptop.project.glob("experiment_queue/*/hosts/*/queue_state.json"))))
    (number,) = account.living()
    account.double.world.destroy(account.double.world.boxes[number])
    _, err = process.communicate(timeout=150)
    assert process.returncode == 1
    assert f"instance {number} no longer exists, and not all is here" in err
    assert "wavequeue rescue small-" in err
    _, err = account.call(*UP, code=1)
    assert "add --new" in err
    assert account.creates() == 1


def test_two_at_once_rent_one_machine(account: Account) -> None:
    first, second = account.laptop.start(*UP), account.laptop.start(*UP)
    ended = [(process.communicate(timeout=150), process.returncode) for process in (first, second)]
    assert account.creates() == 1, ended
    if not account.laptop.runs() or account.living():
        account.call(*UP)
    account.call(*UP)
    assert results(account) == ALL
    assert account.creates() == 1
    assert account.living() == []
