"""Verbs about rented machines, against the double of Vast.ai, whose instances are real sshd hosts on loopback."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from queue_manager.core.layout import RunPaths
from skill.fleet.reconcile import reconcile_before
from skill.hosts.connection import known_key
from tests.e2e.runs import wait_for
from tests.laptop import SPEC, WAITING, Laptop, finish
from tests.sshd import make_key
from tests.vast_double import Double, Fault
from tests.vast_hosts import InstanceHost, LoopbackHosts
from tests.vast_world import Box

TEXT = """\
# our machines
workers:
  desk: {{kind: ssh, ssh: {{host: 192.0.2.1}}}}  # never asked here
  rented:  # the fast one
    kind: ssh
    ssh:
      host: {host}  # moves at every start
      port: {port}
      user: root
      key: "{key}"
    instance_id: {number}
    resources: {{gpu: 1, dph: {dph}, storage_dph: {disk}}}
    health:
      status: running
      heartbeat: 60
"""


class Fleet:
    """A laptop with a project, and an account at Vast.ai with one instance that it has registered."""

    def __init__(self, root: Path) -> None:
        self.hosts = LoopbackHosts(root / "hosts", lambda: self.double.url)
        self.double = Double(self.hosts)
        self.laptop = Laptop(root)
        self.laptop.environment = self.double.environment
        self.box: Box = self.double.world.box()
        self.file = self.laptop.project / "workers.yaml"
        self.file.write_text(self.text(self.address))

    @property
    def host(self) -> InstanceHost:
        return self.hosts.of[self.box.id]

    @property
    def address(self) -> tuple[str, int]:
        return self.host.address, self.host.port

    def text(self, address: tuple[str, int]) -> str:
        row = self.box.row()
        dph, disk = round(row["dph_total"], 4), round(row["storage_total_cost"], 6)
        return TEXT.format(host=address[0], port=address[1], key=self.host.key, number=self.box.id, dph=dph, disk=disk)

    def restart(self) -> None:
        """Vast.ai stops the instance and starts it again, somewhere else."""
        self.double.world.stop(self.box)
        self.double.world.start(self.box)
        while self.box.state != "running":
            self.double.world.shown(self.box)

    def reconcile(self, *options: str, code: int) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.laptop.call("vast", "reconcile", "--json", *options, code=code)[0])
        return found

    def close(self) -> None:
        self.hosts.close()
        self.laptop.close()
        self.double.close()


@pytest.fixture
def fleet(tmp_path: Path) -> Iterator[Fleet]:
    made = Fleet(tmp_path)
    yield made
    made.close()


def kinds(found: dict[str, Any]) -> list[str]:
    return [finding["kind"] for worker in found["workers"] for finding in worker["findings"]]


def test_after_a_restart_one_fix_and_the_next_submit_works_and_after_another_one_the_same_submit(fleet: Fleet) -> None:
    assert fleet.reconcile(code=0)["consistent"]
    before = fleet.file.read_text()
    fleet.laptop.call("hosts", "check", "rented", code=0)  # its host key is kept from now on
    old = fleet.address
    fleet.restart()
    assert fleet.address != old
    assert kinds(fleet.reconcile(code=1)) == ["address"]
    assert fleet.file.read_text() == before, "a dry run writes nothing"
    out, _ = fleet.laptop.call("vast", "reconcile", "--fix")
    assert "updated 1 worker" in out
    assert fleet.file.read_text() == fleet.text(fleet.address), "but for the address all is as it was, comments too"
    assert "consistent" in fleet.laptop.call("vast", "reconcile", "--fix")[0]
    fleet.laptop.spec(SPEC)
    run = fleet.laptop.submit("--host", "rented")["run_id"]
    assert len(finish(fleet.host, run)) == 4
    fleet.restart()
    assert fleet.laptop.submit()["run_id"] == run
    assert fleet.file.read_text() == fleet.text(fleet.address)


def test_a_machine_that_moved_is_found_by_submit_and_ends_itself_once_all_results_are_home(fleet: Fleet) -> None:
    fleet.restart()
    fleet.laptop.spec(f"{SPEC}when_done: destroy\nmax_cost: 12.50\n")
    run_id = fleet.laptop.submit("--host", "rented")["run_id"]
    assert fleet.file.read_text() == fleet.text(fleet.address)
    assert len(finish(fleet.host, run_id)) == 4
    there = RunPaths.of(fleet.host.home / ".wavequeue" / "runs" / run_id)
    instance = json.loads(there.instance.read_text())
    row = fleet.box.row()
    prices = round(row["dph_total"], 4), round(row["storage_total_cost"], 6)
    assert (instance["instance_id"], instance["dph"], instance["storage_dph"]) == (fleet.box.id, *prices)
    assert there.instance.stat().st_mode & 0o777 == 0o600
    mine = fleet.laptop.project / "code" / "out1"
    mine.write_text("newer than there\n")
    fleet.laptop.call("pull")
    assert not there.acknowledged.exists(), "what is only there would be lost with the machine"
    assert fleet.box.id in fleet.double.world.boxes
    output, _ = fleet.laptop.call("status")
    (line,) = [line for line in output.splitlines() if "an hour" in line]
    assert (
        "waits, then when_done: destroy: the run has finished; its results have not been pulled yet: wavequeue pull"
        in line
    )
    mine.unlink()
    fleet.laptop.call("pull")
    assert sorted(path.name for path in (fleet.laptop.project / "code").glob("out*")) == [
        "out1",
        "out2",
        "out3",
        "out4",
    ]
    wait_for(lambda: fleet.box.lingers is not None or fleet.box.id not in fleet.double.world.boxes, say="its end")


def test_nothing_is_submitted_to_an_instance_that_has_gone_and_what_can_be_done_is_reported(fleet: Fleet) -> None:
    fleet.laptop.spec(WAITING)
    run_id = fleet.laptop.submit("--host", "rented")["run_id"]
    before = fleet.file.read_text()
    fleet.double.world.destroy(fleet.box)
    fleet.double.world.shown(fleet.box)
    _, err = fleet.laptop.call("pull", code=1)
    assert f"instance {fleet.box.id} no longer exists" in err
    fleet.file.write_text(before)
    for _ in range(2):  # the second time it is known from workers.yaml
        _, err = fleet.laptop.call("submit", "spec.yaml", code=1)
        assert f"rented was instance {fleet.box.id}, which no longer exists" in err
        assert f"wavequeue rescue {run_id} --from rented" in err
    _, err = fleet.laptop.call("submit", "spec.yaml", "--new", "--host", "rented", code=1)
    assert "wavequeue hosts remove rented" in err
    assert fleet.laptop.runs() == [run_id]


def test_where_the_direct_way_is_closed_the_proxy_is_taken(fleet: Fleet) -> None:
    fleet.restart()
    fleet.box.fields["ports"] = {"22/tcp": [{"HostIp": "0.0.0.0", "HostPort": "9"}]}
    assert kinds(fleet.reconcile("--fix", code=0)) == ["address"]
    assert fleet.file.read_text() == fleet.text(("127.0.0.1", fleet.host.proxy))
    assert fleet.reconcile(code=0)["consistent"], "it stays there as long as it answers"


def test_an_address_that_leads_to_another_customer_is_refused(fleet: Fleet) -> None:
    before = fleet.file.read_text()
    fleet.restart()
    fleet.host.is_instance({"CONTAINER_ID": str(fleet.box.id + 1)})
    assert kinds(fleet.reconcile("--fix", code=1)) == ["foreign"]
    fleet.host.is_instance({"HOME": "/root"})
    assert kinds(fleet.reconcile("--fix", code=1)) == ["unreachable"]
    assert fleet.file.read_text() == before
    fleet.host.is_instance({"VAST_CONTAINERLABEL": f"C.{fleet.box.id}"})
    assert kinds(fleet.reconcile("--fix", code=0)) == ["address"]


def test_a_host_key_that_changed_with_the_address_is_reported_and_kept(fleet: Fleet) -> None:
    fleet.laptop.call("hosts", "check", "rented", code=0)
    keys = fleet.laptop.project / ".wavequeue" / "known_hosts"
    old = known_key(keys, "rented")
    fleet.double.world.stop(fleet.box)
    key = fleet.host.root / "host_key"
    key.unlink()
    make_key(key)
    fleet.restart()
    found = fleet.reconcile(code=1)
    assert "host key" in found["workers"][0]["findings"][0]["text"]
    assert known_key(keys, "rented") == old
    fleet.laptop.call("vast", "reconcile", "--fix")
    assert known_key(keys, "rented") != old
    fleet.laptop.call("hosts", "check", "rented", code=0)


@pytest.mark.parametrize(
    "fault",
    [
        Fault(401, {"success": False, "error": "auth_error", "msg": "Invalid user key"}),
        Fault(410, {"success": False, "error": "deprecated_endpoint", "msg": "use another"}),
        Fault(200, b"<html>garbage</html>"),
        Fault(500, b""),
    ],
    ids=lambda fault: str(fault.status),
)
def test_while_vast_ai_gives_no_answer_all_is_unknown_and_stays(fleet: Fleet, fault: Fault) -> None:
    before = fleet.file.read_text()
    fleet.restart()
    fleet.double.fault("GET", "/api/v1/instances/", fault, times=20)
    out, err = fleet.laptop.call("vast", "reconcile", "--fix", code=1)
    assert "unknown" in err
    assert "consistent" not in out
    out, err = fleet.laptop.call("vast", "instances", code=1)
    assert "unknown" in err
    assert out == ""
    assert json.loads(fleet.laptop.call("vast", "instances", "--json", code=1)[0])["known"] is False
    assert fleet.file.read_text() == before


def test_an_instance_that_is_not_listed_is_disabled_only_if_it_says_so_itself(fleet: Fleet) -> None:
    path = f"/instances/{fleet.box.id}/"
    nobody = {"success": True, "instances": [], "next_token": None}
    fleet.double.fault("GET", "/api/v1/instances/", Fault(200, nobody), times=2)
    fleet.double.fault("GET", path, Fault(403, {"success": False, "error": "forbidden"}))
    assert kinds(fleet.reconcile("--fix", code=1)) == ["unknown"]
    assert fleet.reconcile("--fix", code=0)["consistent"], "it is there, by its own row"
    before = fleet.file.read_text()
    fleet.double.world.destroy(fleet.box)
    fleet.double.world.shown(fleet.box)
    assert kinds(fleet.reconcile(code=1)) == ["gone"]
    assert "gone" in fleet.laptop.call("vast", "instances")[0]
    fleet.reconcile("--fix", code=0)
    after = fleet.file.read_text()
    assert after == before.replace("status: running", "status: gone") + "    enabled: false\n"
    assert fleet.reconcile(code=0)["consistent"]
    assert fleet.laptop.call("vast", "instances")[0] == "nothing is rented\n", "it is known by now"


def test_what_is_rented_stands_beside_what_is_registered(fleet: Fleet) -> None:
    fleet.double.world.hosts = None
    stray = fleet.double.world.box(label="somebody")
    fleet.double.world.box(["stopped"])
    found = json.loads(fleet.laptop.call("vast", "instances", "--json")[0])
    assert [row["worker"] for row in found["instances"]] == ["rented", None, None]
    running = fleet.box.row()["dph_total"]
    assert found["burn"] == pytest.approx(2 * running + 0.15 * 10 / 720, abs=1e-5)
    out, _ = fleet.laptop.call("vast", "instances")
    assert "untracked" in out
    assert str(stray.id) in out
    assert "burn rate: $0.6" in out
    stray.fields["dph_total"] = None
    assert "at least $" in fleet.laptop.call("vast", "instances")[0]


def test_before_a_submit_one_call_mends_what_moved(fleet: Fleet, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in fleet.double.environment.items():
        monkeypatch.setenv(name, value)
    assert reconcile_before(fleet.file, ["desk"]) == []
    assert fleet.double.asked == [], "machines of one's own cost nothing"
    assert reconcile_before(fleet.file, ["desk", "rented"]) == []
    assert len(fleet.double.asked) == 1
    fleet.restart()
    (line,) = reconcile_before(fleet.file, ["rented"])
    assert "listens at" in line
    assert fleet.file.read_text() == fleet.text(fleet.address)
    monkeypatch.setenv("VAST_API_KEY", "another-key-0123456789")
    (line,) = reconcile_before(fleet.file, ["rented"])
    assert line.startswith("unknown")
    monkeypatch.delenv("VAST_API_KEY")
    monkeypatch.setenv("HOME", str(fleet.laptop.home))
    (line,) = reconcile_before(fleet.file, ["rented"])
    assert "no Vast.ai key" in line
    assert fleet.file.read_text() == fleet.text(fleet.address)


def test_a_rented_machine_without_its_number_is_reported(fleet: Fleet) -> None:
    fleet.file.write_text(fleet.file.read_text() + "  old:\n    ssh: {host: ssh5.vast.ai, port: 1234}\n")
    assert fleet.reconcile(code=1)["without_instance_id"] == ["old"]


def hunt(fleet: Fleet, *arguments: str, code: int = 0) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(fleet.laptop.call("vast", "hunt", "--json", *arguments, code=code)[0])
    return found


def test_hunting_ranks_what_fits_and_keeps_to_the_blacklist(fleet: Fleet) -> None:
    world = fleet.double.world
    slow = world.offer(dph_base=0.2, dlperf=30)
    fast = world.offer(dph_base=0.4, dlperf=200)
    world.offer(dph_base=0.1, gpu_ram=8000)
    world.ignored.add("gpu_ram")
    found = hunt(fleet, "--profile", "inference-24g", "--ref-hours", "4", "--ref-dlp", "100", "--disk", "72")
    assert [row["id"] for row in found["offers"]] == [fast["id"], slow["id"]]
    assert found["offers"][0]["hours"] == 2.0
    assert found["left_out"] == {"too little GPU memory": 1}, "the server had let it through"
    out, _ = fleet.laptop.call("vast", "blacklist", "add", str(fast["machine_id"]), "--reason", "slow disk")
    assert "is on the blacklist" in out
    world.ignored.add("machine_id")
    again = hunt(fleet, "--profile", "inference-24g")
    assert [row["id"] for row in again["offers"]] == [slow["id"]]
    assert again["left_out"]["blacklisted"] == 1
    listed = json.loads(fleet.laptop.call("vast", "blacklist", "list", "--json")[0])["machines"]
    assert [(row["machine_id"], row["reason"]) for row in listed] == [(fast["machine_id"], "slow disk")]
    fleet.laptop.call("vast", "blacklist", "remove", str(fast["machine_id"]))
    fleet.laptop.call("vast", "blacklist", "remove", str(fast["machine_id"]), code=2)
    out, _ = fleet.laptop.call("vast", "hunt", "--max-dph", "0.05", code=1)
    assert "no offer fits" in out
    fleet.double.fault("POST", "/bundles/", Fault(500, b""), times=9)
    assert hunt(fleet, code=1) == {"known": False, "reason": "Vast.ai answered 500"}


def test_the_number_of_an_instance_is_no_machine(fleet: Fleet) -> None:
    _, err = fleet.laptop.call("vast", "blacklist", "add", str(fleet.box.id), "--reason", "x", code=2)
    assert f"its machine is {fleet.box.offer['machine_id']}" in err
    fleet.double.fault("GET", "/api/v1/instances/", Fault(500, b""), times=9)
    _, err = fleet.laptop.call("vast", "blacklist", "add", "123", "--reason", "x")
    assert "could not check that" in err


def test_a_hunt_for_a_spec_asks_for_what_its_jobs_need(fleet: Fleet) -> None:
    fleet.double.world.offer(num_gpus=2, dlperf=160.0)
    fleet.laptop.spec(
        "project: p\ncwd: .\njobs:\n  - {id: a, cmd: train, gpus: 2}\n  - {id: b, cmd: train, gpu_mem_mib: 20000}\n"
    )
    found = hunt(fleet, "spec.yaml", "--ref-hours", "3", "--ref-dlp", "40")
    asked = next(one.body for one in fleet.double.asked if one.path.endswith("/bundles/"))
    assert (asked["num_gpus"], asked["gpu_ram"]) == ({"gte": 2}, {"gte": 20000})
    assert [row["hours"] for row in found["offers"]] == [1.5]
    assert "no job of jobs has completed yet" in found["work"]
    fleet.laptop.spec("project: p\ncwd: .\njobs:\n  - {id: a, cmd: train, est_minutes: 30}\n")
    found = hunt(fleet, "spec.yaml", "--ref-dlp", "40")
    assert ([row["hours"] for row in found["offers"]], found["work"][:20]) == ([0.25], "from est_minutes for")


def test_a_plan_for_an_offer_tells_what_it_costs_there(fleet: Fleet) -> None:
    offer = fleet.double.world.offer(num_gpus=2, dlperf=80.0)
    fleet.laptop.spec(
        "project: p\ncwd: .\ngrid: {n: [1, 2, 3, 4]}\ntemplate: {cmd: 'train ${n}', est_minutes: 60, id: 'j${n}'}\n"
    )
    number = str(offer["id"])
    found = json.loads(fleet.laptop.call("plan", "spec.yaml", "--offer", number, "--json")[0])
    assert found["estimate"]["eta_s"] == 3600.0, "two rounds on cards that are twice as fast as those of est_minutes"
    assert found["estimate"]["cost_usd"] == pytest.approx(found["hosts"][0]["usd_per_hour"], abs=1e-4)
    out, _ = fleet.laptop.call("plan", "spec.yaml", "--offer", number)
    assert f"where: offer {number}: 2x " in out
    assert f"cost: about ${found['estimate']['cost_usd']:.2f} (offer {number})" in out
    _, output = fleet.laptop.call("plan", "spec.yaml", "--offer", "987654", code=1)
    assert "offer 987654 is not available (any more); see: wavequeue vast hunt" in output
