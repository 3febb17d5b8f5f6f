"""`up` with faults of this side: those that can be seen are found before anything is paid for, and for the others no
machine is blamed. What it says last is what the ledger says."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from skill.common.units import usd
from skill.fleet import await_ready, ledger, settings, startup
from skill.fleet.drift import Identified
from skill.fleet.startup import SILENT
from skill.hosts import ssh_preflight
from skill.hosts.registry import Worker
from skill.providers.instances import Address
from tests.laptop import SPEC, Laptop
from tests.skill.test_ssh_preflight import use_config_of_home
from tests.ssh_agent import ssh_agent
from tests.vast_double import Double, Fault

UP = ("up", "spec.yaml", "--yes", "--every", "0.5s", "--poll", "0.1")
NOTHING = "wavequeue: nothing was rented or billed"


class Bench:
    """A laptop with an account, whose machines run nowhere: `identify` says what they answer. A key is in ~/.ssh."""

    def __init__(self, root: Path) -> None:
        self.double = Double()
        self.laptop = Laptop(root)
        self.laptop.environment = self.double.environment
        self.ssh = self.laptop.home / ".ssh"
        self.key = self.ssh / "id_ed25519"
        self.registry = self.laptop.project / "workers.yaml"
        self.ssh.mkdir(mode=0o700)
        self.make_key("")
        self.config("")
        self.laptop.spec(SPEC)
        for number in range(4):
            self.double.world.offer(dph_base=0.30 + number / 100)

    def make_key(self, passphrase: str) -> None:
        for path in self.ssh.glob("id_ed25519*"):
            path.unlink()
        command = ["ssh-keygen", "-q", "-t", "ed25519", "-N", passphrase, "-C", "me", "-f", str(self.key)]
        subprocess.run(command, check=True)

    def name_key(self, path: str = "~/.ssh/id_ed25519") -> None:
        (self.laptop.project / "vast.yaml").write_text(f"rent: {{key: {path}}}\n")

    def config(self, text: str) -> None:
        (self.ssh / "config").write_text(text)

    def up(self, code: int = 1) -> list[str]:
        """What `up` says of itself, line by line."""
        return self.laptop.call(*UP, code=code)[1].splitlines()

    def creates(self) -> int:
        return self.double.count("PUT", "/asks/")

    def destroys(self) -> int:
        return self.double.count("DELETE", "/instances/")

    def blamed(self) -> int:
        return len(settings.read_blacklist(self.registry))

    def cost(self) -> float:
        """$ by the ledger."""
        file = self.laptop.project / ".wavequeue" / "ledger.jsonl"
        rentals = list(ledger.fold(file.read_text(), "ledger").values()) if file.exists() else []
        assert all(one.ended is not None for one in rentals)
        return ledger.spent(rentals, 0.0)


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Bench]:
    made = Bench(tmp_path)
    use_config_of_home(made.laptop.home, monkeypatch)
    monkeypatch.delenv("SSH_AUTH_SOCK", raising=False)
    monkeypatch.setattr(await_ready, "identify", answers("is not asked"))
    hurry(monkeypatch)
    yield made
    made.laptop.close()
    made.double.close()


def no_ssh(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """A PATH with all programs but OpenSSH's client."""
    folder = bench.laptop.home / "without ssh"
    folder.mkdir()
    for name in ("sh", "git", "ssh-keygen", "ssh-add"):
        (folder / name).symlink_to(shutil.which(name) or "/bin/false")
    monkeypatch.setenv("PATH", str(folder))


def lock_key(bench: Bench, _patch: pytest.MonkeyPatch) -> None:
    bench.name_key()
    bench.make_key("secret")


def lose_agent(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    lock_key(bench, monkeypatch)
    monkeypatch.setenv("SSH_AUTH_SOCK", str(bench.laptop.home / "gone"))


def lose_private_half(bench: Bench, _patch: pytest.MonkeyPatch) -> None:
    bench.name_key()
    bench.key.unlink()


def spoil_public_half(bench: Bench, _patch: pytest.MonkeyPatch) -> None:
    bench.name_key()
    bench.key.with_suffix(".pub").write_bytes(b"\xff\xfe")


def spoil_private_half(bench: Bench, _patch: pytest.MonkeyPatch) -> None:
    bench.name_key()
    bench.key.write_text("-----BEGIN OPENSSH PRIVATE KEY-----\nAAAA\n-----END OPENSSH PRIVATE KEY-----\n")
    bench.key.chmod(0o600)


def name_none(bench: Bench, _patch: pytest.MonkeyPatch) -> None:
    bench.name_key("~/.ssh/other")


def configure(text: str) -> Callable[[Bench, pytest.MonkeyPatch], None]:
    return lambda bench, _patch: bench.config(text)


BEFORE: dict[str, tuple[Callable[[Bench, pytest.MonkeyPatch], None], int, tuple[str, ...]]] = {
    "a line that ssh does not know": (
        configure("Host *\n  Prot 22\n"), 1, ("Bad configuration option: prot", "line 2", "ssh -G 203.0.113.1"),
    ),
    "a value that ssh does not take": (configure("Host *\n  Port abc\n"), 1, ("line 2",)),
    "a jump host that is down": (
        configure("Host 203.* *.vast.ai\n  ProxyJump root@127.0.0.1:1\n"), 1, ("the jump host", "refused"),
    ),
    "a jump host before itself": (
        configure("Host *\n  ProxyJump gate.invalid\n"), 1, ("jumphost loop via gate.invalid",),
    ),
    "a jump host that has no name": (
        configure("Host 203.*\n  ProxyJump no-such.invalid\n"), 1, ("the jump host no-such.invalid", "resolve"),
    ),
    "a ProxyCommand that fails": (
        configure("Host *.vast.ai\n  ProxyCommand echo no such corkscrew >&2; exit 1\n"), 1, ("no such corkscrew",),
    ),
    "keys switched off": (configure("Host *\n  PubkeyAuthentication no\n"), 1, ("PubkeyAuthentication no",)),
    "a path of a socket that is too long": (
        configure(f"Host *\n  ControlPath /tmp/{'x' * 120}\n"), 1, ("ControlPath too long",),
    ),
    "a key that is not there": (name_none, 2, ("~/.ssh/other.pub does not exist", "create it: ssh-keygen")),
    "a private half that is not there": (lose_private_half, 2, ("its private half does not exist", "ssh-add")),
    "a public half that is no text": (spoil_public_half, 2, ("cannot be read: it is not text",)),
    "a private half that is no key": (spoil_private_half, 2, ("ssh-keygen says: ",)),
    "a key that is locked": (lock_key, 2, ("it needs its passphrase, and no agent is reached", "ssh-add")),
    "an agent that has gone": (lose_agent, 2, ("no agent is reached; start one with: eval", "ssh-add")),
    "no ssh": (no_ssh, 1, ("OpenSSH's client is not installed here: sudo apt-get install",)),
}  # fmt: skip


@pytest.mark.parametrize("name", BEFORE)
def test_a_fault_of_this_side_is_found_before_anything_is_paid_for(
    name: str, bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    make, code, words = BEFORE[name]
    make(bench, monkeypatch)
    lines = bench.up(code)
    for word in words:
        assert word in "\n".join(lines)
    assert lines[-1] == NOTHING
    assert (bench.creates(), bench.cost(), bench.blamed()) == (0, 0.0, 0)


def test_the_agent_is_the_one_that_ssh_asks(
    bench: Bench, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """IdentityAgent of the configuration goes before SSH_AUTH_SOCK, in both directions."""
    with ssh_agent(tmp_path_factory.mktemp("a") / "agent", bench.key) as path:
        monkeypatch.setenv("SSH_AUTH_SOCK", str(path))
        copy = bench.ssh / "id_ed25519.pub"
        bench.key.unlink()
        bench.name_key()
        bench.config("Host *\n  IdentityAgent /nowhere/agent\n")
        assert "no agent is reached (IdentityAgent /nowhere/agent of ~/.ssh/config)" in "\n".join(bench.up(2))
        bench.config("Host *\n  IdentitiesOnly yes\n  IdentityFile /nowhere/other\n")
        lines = bench.up(1)
        assert "IdentitiesOnly yes of your ssh configuration disables the key" in "\n".join(lines)
        assert (lines[-1], bench.creates()) == (NOTHING, 0)
        assert ssh_preflight.fault(None, copy.read_text()) is not None
        monkeypatch.delenv("SSH_AUTH_SOCK")
        bench.config(f"Host *\n  IdentityAgent {path}\n")
        assert "renting offer" in "\n".join(bench.up(1)), "the key is in the agent that ssh asks"


def hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have the time pass that a machine has to let us in."""
    verdict = startup.verdict
    monkeypatch.setattr(
        startup, "verdict", lambda live, doubt, age, since, within: verdict(live, doubt, age, since + SILENT, within)
    )


def answers(words: str) -> Callable[[Worker, Address], Identified]:
    """Every machine fails in the same words."""
    return lambda _worker, way: Identified(way, fault=f"{way.host}:{way.port} {words}")


def lose_jump(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """The jump host goes away once the machine is made."""

    def identify(_worker: Worker, way: Address) -> Identified:
        bench.config("Host *\n  ProxyJump root@127.0.0.1:1\n")
        return Identified(way, fault=f"{way.host} cannot be reached by the route in ~/.ssh/config")

    monkeypatch.setattr(await_ready, "identify", identify)


def refuse_key(_bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(await_ready, "identify", answers("authentication failed: no key was accepted"))


def lose_network(_bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(await_ready, "identify", answers("Network is unreachable"))


def refuse_attach(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    refuse_key(bench, monkeypatch)
    body = {"success": False, "error": "invalid_key", "msg": "the ssh key is malformed"}
    bench.double.fault("POST", "/ssh/", Fault(400, body), times=9)


AFTER: dict[str, tuple[Callable[[Bench, pytest.MonkeyPatch], None], int, str]] = {
    "a jump host that went down": (lose_jump, 1, "the jump host"),
    "a key that Vast.ai does not take": (refuse_attach, 1, "Vast.ai did not accept the ssh key for its machines: "),
    "a key that no machine takes": (refuse_key, 2, "no key was accepted"),
    "no network to any machine": (lose_network, 2, "Network is unreachable"),
}


@pytest.mark.parametrize("name", AFTER)
def test_a_fault_that_every_machine_shows_blames_none_and_says_what_it_cost(
    name: str, bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    make, machines, words = AFTER[name]
    make(bench, monkeypatch)
    lines = bench.up()
    assert words in "\n".join(lines)
    assert "No machine was blacklisted" in "\n".join(lines)
    assert (bench.creates(), bench.destroys(), bench.blamed()) == (machines, machines, 0)
    found = re.fullmatch(
        r"wavequeue: nothing is billed any more; what was rented for this cost (.*), at most.*", lines[-1]
    )
    assert found, lines[-1]
    assert bench.cost() > 0
    assert found[1] == usd(bench.cost())


def test_while_nothing_is_known_of_a_machine_that_is_reported_and_nothing_is_done(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(await_ready, "_BLIND", 0.0)
    seen: list[Any] = []
    create = bench.double.world.create

    def noted(*rest: Any) -> Any:
        seen.append(rest)
        if len(seen) == 1:
            bench.double.fault("GET", r"/instances/\d+/", Fault(401, {"success": False, "error": "auth_error"}), 3)
        return create(*rest)

    monkeypatch.setattr(bench.double.world, "create", noted)
    text = "\n".join(bench.up())
    assert "the state of instance" in text
    assert "may be billed meanwhile" in text
    assert bench.destroys() == bench.creates() == 2
