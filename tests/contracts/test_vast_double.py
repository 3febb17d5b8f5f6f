"""The double of Vast.ai, driven by the official command: what satisfies that may stand for the real one.

Each call is held against tests/data/vast, too, by the double itself.
"""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

from skill.hosts.connection import CommandResult, Host
from skill.hosts.registry import Ssh, Worker
from skill.providers.instances import Instance, addresses
from skill.providers.outcomes import Created
from skill.providers.ownership import Claim, Ours, decide
from skill.providers.vast import credentials
from skill.providers.vast.client import Client
from tests.e2e.runs import ROOT
from tests.sshd import make_key
from tests.vast_double import Double, Fault
from tests.vast_hosts import LoopbackHosts
from tests.vast_world import World

COMMAND = ROOT / ".venv" / "vastai" / "bin" / "vastai"


_STARTED = """
import gc, json, os, signal, sys
import vastai.cli.commands, vastai.cli.main
vastai.cli.commands.register_all_commands(vastai.cli.main.parser)
gc.freeze()
for line in sys.stdin:
    arguments, variables, streams = json.loads(line)
    child = os.fork()
    if child == 0:
        signal.alarm(150)
        os.environ.update(variables)
        for number, path in enumerate(["/dev/null", *streams]):
            os.dup2(os.open(path, os.O_RDWR | os.O_CREAT, 0o600), number)
        sys.argv = ["vastai", *arguments]
        try:
            code = vastai.cli.main.main()
        except SystemExit as end:
            code = end.code
        if isinstance(code, str):
            print(code, file=sys.stderr)
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(isinstance(code, str) or code or 0)  # to take modules apart copies all memory shared by the fork
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
"""
"""Runs the official command as often as it is asked to, each time in a process of its own. What takes most of its time
is to import it and all its subcommands, which is done once."""


class Official:
    """The official command in a home of its own. It ends with 0 whatever happened, so that what it says counts."""

    def __init__(self, home: Path, double: Double) -> None:
        self._home = home
        self.environment = {
            "PATH": os.environ["PATH"], "HOME": str(home), "VASTAI_NO_UPDATE_CHECK": "1", "COLUMNS": "200",
            **{f"XDG_{name}_HOME": str(home / name.lower()) for name in ("CONFIG", "CACHE", "STATE")},
            **double.environment,
        }  # fmt: skip
        self._process = subprocess.Popen(
            [str(COMMAND.with_name("python")), "-c", _STARTED],
            env=self.environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def __call__(self, *arguments: str) -> str:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        streams = [self._home / "out", self._home / "err"]
        asked = json.dumps([arguments, self.environment, [str(path) for path in streams]])
        self._process.stdin.write(asked + "\n")
        self._process.stdin.flush()
        status = self._process.stdout.readline()
        out, err = (path.read_text() for path in streams)
        for path in streams:
            path.unlink()
        assert status.strip().isdigit(), f"it died, or was killed by a signal ({status}): {out}{err}"
        assert "Traceback" not in err, err
        return out + err

    def read(self, *arguments: str) -> Any:
        return json.loads(self(*arguments, "--raw"))

    def close(self) -> None:
        self._process.communicate(timeout=150)


def lists_and_searches(double: Double, official: Official) -> None:
    boxes = [double.world.box() for _ in range(27)]
    listed = official.read("show", "instances")
    assert [row["id"] for row in listed] == [box.id for box in boxes]
    assert str(boxes[0].id) in official("show", "instances")
    cheap, dear = double.world.offer(dph_base=0.2), double.world.offer(dph_base=0.9)
    other = double.world.offer(gpu_name="RTX 3090")
    found = official.read(
        "search", "offers", f"gpu_name=RTX_4090 num_gpus=1 dph<1.0 gpu_ram>=20 machine_id notin [{dear['machine_id']}]",
        "-o", "dlperf_usd-", "--storage", "72",
    )  # fmt: skip
    assert [row["id"] for row in found] == [cheap["id"]]
    assert found[0]["dph_total"] == pytest.approx(0.2 + 0.15 * 72 / 720)
    assert other["id"] not in [row["id"] for row in found]
    assert f"{cheap['id']}" in official("search", "offers", "gpu_name=RTX_4090 dph<0.5")
    assert official.read("show", "user")["credit"] == double.world.credit


def rents_stops_starts_and_destroys(double: Double, official: Official) -> None:
    offer = double.world.offer()["id"]
    rent = ["create", "instance", str(offer), "--image", "an/image", "--disk", "40", "--ssh", "--direct"]
    made = official.read(*rent, "--label", "wq-a", "--env", "-e A=1", "--onstart-cmd", "true", "--cancel-unavail")
    number = made["new_contract"]
    box = double.world.boxes[number]
    assert made["success"]
    assert (box.label, box.disk, box.body["env"]) == ("wq-a", 40.0, {"A": "1"})
    statuses = [official.read("show", "instance", str(number))["actual_status"] for _ in range(3)]
    assert statuses == [None, "loading", "running"]
    address = official("ssh-url", str(number)).strip()
    assert address.endswith(f"@{box.listens['public_ipaddr']}:{box.listens['port']}")
    assert "stopping instance" in official("stop", "instance", str(number))
    stopped = official.read("show", "instance", str(number))
    assert (stopped["actual_status"], stopped["cur_state"], stopped["ports"]) == ("exited", "stopped", None)
    box.is_card_taken = True
    assert "state change queued" in official("start", "instance", str(number))
    box.is_card_taken = False
    assert "starting instance" in official("start", "instance", str(number))
    assert "wq-b" in official("label", "instance", str(number), "wq-b")
    official("attach", "ssh", str(number), "ssh-ed25519 AAAA me")
    assert box.keys == ["ssh-ed25519 AAAA me"]
    assert "destroying instance" in official("destroy", "instance", str(number), "-y")
    official("show", "instance", str(number), "--raw")
    assert number not in double.world.boxes
    again = official(*rent)
    assert "no_such_ask" in again


def what_vast_ai_does_badly_the_double_does_as_well(double: Double, official: Official) -> None:
    """A search whose type names a character set is not taken by the official command; a wrong key is refused."""
    double.world.offer()
    charset = {"Content-Type": "application/json; charset=utf-8"}
    double.fault("POST", "/bundles/", Fault(200, {"offers": []}, charset))
    assert "Content-Type" in official("search", "offers", "num_gpus=1")
    official.environment["VAST_API_KEY"] = "another-key-0123456789"
    assert "Invalid user key" in official("show", "instances", "--raw")


def a_containers_own_key_may_end_that_one_only(double: Double, official: Official) -> None:
    mine, other = double.world.box(), double.world.box()
    official.environment["VAST_API_KEY"] = mine.api_key
    official("destroy", "instance", str(other.id), "-y")
    official("show", "instances", "--raw")
    assert other.lingers is None
    official("stop", "instance", str(mine.id))
    assert mine.state == "stopped"
    official("destroy", "instance", str(mine.id), "-y")
    assert mine.lingers is not None


def test_the_official_command_takes_the_double_for_vast_ai(tmp_path: Path) -> None:
    """Each of these with an account that has nothing; the command takes a second to import, which is done once."""
    assert COMMAND.exists(), "run tools/setup.sh test first: it installs the official command"
    with Double() as double:
        official = Official(tmp_path, double)
        try:
            for check in (
                lists_and_searches,
                rents_stops_starts_and_destroys,
                what_vast_ai_does_badly_the_double_does_as_well,
                a_containers_own_key_may_end_that_one_only,
            ):
                double.world, official.environment["VAST_API_KEY"] = World(), double.key
                check(double, official)
        finally:
            official.close()


def test_an_instance_is_a_real_host_that_runs_its_start_script_at_every_start(tmp_path: Path) -> None:
    hosts = LoopbackHosts(tmp_path / "hosts", lambda: rented.url)
    with Double(hosts) as rented:
        client = Client(credentials.Key(rented.key, "a test"), rented.url, lambda _: None)
        own = tmp_path / "own"
        make_key(own)
        body = {
            "image": "x",
            "disk": 10.0,
            "env": {"A": "b c"},
            "onstart": "echo $HOME >> starts",
            "cancel_unavail": True,
        }
        made = client.create(rented.world.offer()["id"], body)
        assert isinstance(made, Created)
        ours = decide(Claim(made.instance_id, None, named=True), Instance(made.instance_id))
        assert isinstance(ours, Ours)
        client.attach_key(ours, own.with_suffix(".pub").read_text().strip())

        def enter() -> tuple[str, set[str]]:
            """What the start script has left, and the variables of the container's first process."""
            live = client.instance(made.instance_id)
            while not isinstance(live, Instance) or live.status != "running":
                live = client.instance(made.instance_id)
            shown = set()
            for way in addresses(live):
                worker = Worker("v", ssh=Ssh(way.host, way.port, "root", str(own)))
                host = Host(worker, tmp_path / f"known-{way.way}-{way.port}", 3)
                found = host.script("cat starts; tr '\\0' '\\n' < \"$WAVEQUEUE_PROC/1/environ\"")
                host.close()
                assert isinstance(found, CommandResult), found
                shown.add(found.out.decode())
            (text,) = shown
            starts, _, rest = text.partition("CONTAINER_ID")
            return starts, set(f"CONTAINER_ID{rest}".splitlines())

        try:
            home = hosts.root / f"c{made.instance_id}" / "home"
            starts, variables = enter()
            assert starts == f"{home}\n"
            assert variables >= {f"CONTAINER_ID={made.instance_id}", "A=b c", f"VAST_URL={rented.url}"}
            client.set_state(ours, "stopped")
            client.set_state(ours, "running")
            assert enter()[0] == f"{home}\n" * 2
            client.destroy(ours)
            assert not home.exists()
        finally:
            hosts.close()
            client.close()
