"""What every way to a host does alike: fabric, a shared connection of OpenSSH, an ssh of its own for one command, and
the fake that tests put in their place."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from skill.hosts import connection, fabric_transport, openssh_transport, ssh_once, ssh_way, transport
from skill.hosts.connection import CommandResult, Host, Unreachable
from skill.hosts.known_hosts import replace_key
from tests.e2e.runs import wait_for
from tests.fake_transport import FakeTransport
from tests.sshd import Sshd

WAYS = ("fake", "fabric", "openssh", "once")


class Way(NamedTuple):
    """A host by one way. `cut`: under what runs there; `refuse`: nobody gets in from now on."""

    host: Host
    home: Path
    cut: Callable[[], object]
    refuse: Callable[[], object]


class _EachOnce(Host):
    """A host of which each command is taken for the only one."""

    def _opened(self, command: str) -> transport.Channel | Unreachable:
        self._once = True
        return super()._opened(command)

    def _chosen(self, reason: str | None = None) -> transport.Transport | Unreachable:
        raise AssertionError(f"it went another way ({reason})")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sshd]:
    with Sshd(tmp_path_factory.mktemp("host")) as made:
        yield made


@pytest.fixture(params=WAYS)
def way(request: pytest.FixtureRequest, server: Sshd, tmp_path: Path) -> Iterator[Way]:
    if request.param == "fake":
        (tmp_path / "home").mkdir()
        fake = FakeTransport(tmp_path / "home")
        refused = Unreachable("it refused the connection", "refused")
        made = Way(fake.host("a"), fake.home, fake.cut, lambda: setattr(fake, "problem", refused))
    else:
        if server.process is None:
            server.start()
        made = Way(_over_ssh(request.param, server, tmp_path), server.home, server.stop, server.stop)
    yield made
    made.host.close()


def _over_ssh(kind: str, server: Sshd, folder: Path) -> Host:
    known_hosts = folder / "known_hosts"
    if kind == "once":
        replace_key(known_hosts, "a", " ".join((server.root / "host_key.pub").read_text().split()[:2]))
        return _EachOnce(server.worker("a"), known_hosts)
    host = Host(server.worker("a"), known_hosts)
    found = ssh_way.find(host.worker)
    if kind == "fabric":
        host._transport = fabric_transport.FabricTransport(found, "a", known_hosts, is_alias=False)
    else:
        host._transport = openssh_transport.OpenSshTransport(found, "a", known_hosts, "it is tried", is_alias=False)
    return host


def reached(found: CommandResult | Unreachable) -> CommandResult:
    assert isinstance(found, CommandResult), found
    return found


def test_exit_code_output_and_errors_come_apart(way: Way) -> None:
    assert reached(way.host.script('echo "$1"; echo wrong >&2; exit 7', "a  'b'")) == CommandResult(
        7, b"a  'b'\n", "wrong\n"
    )
    assert reached(way.host.run(["true"])) == CommandResult(0, b"", "")
    assert reached(way.host.script("exit 255")) == CommandResult(255, b"", "")


def test_a_command_begins_in_the_home_and_gets_its_input_whole(way: Way) -> None:
    data = bytes(range(256)) * 4000
    found = reached(way.host.script("pwd; sha256sum", stdin=data))
    assert found.out.decode().split() == [f"{way.home}", hashlib.sha256(data).hexdigest(), "-"]


def test_a_large_output_comes_whole(way: Way) -> None:
    (way.home / "large").write_bytes(bytes(range(256)) * (1 << 15))
    assert reached(way.host.run(["cat", "large"], timeout=120)).out == (way.home / "large").read_bytes()


def test_a_file_is_put_whole_and_got_again(way: Way) -> None:
    data = b"\0line\n" * 50_000
    assert way.host.put("~/some/where/file", data, 0o640) is None
    assert reached(way.host.run(["cat", "some/where/file"], timeout=120)).out == data
    assert (way.home / "some/where/file").stat().st_mode & 0o777 == 0o640
    assert [path.name for path in (way.home / "some/where").iterdir()] == ["file"], "nothing else is left"


def test_more_than_the_limit_is_not_taken(way: Way) -> None:
    found = reached(way.host.run(["head", "-c", str(3 << 20), "/dev/zero"], limit=1 << 20))
    assert (found.code, found.out) == (1, b"")
    assert "more than 1 MiB" in found.err


def test_a_command_that_does_not_end_is_unknown_and_the_next_one_is_not(way: Way) -> None:
    found = way.host.script("echo begun; sleep 600", timeout=4)
    assert isinstance(found, Unreachable)
    assert (found.kind, found.reason) == ("timeout", "did not answer within 4 s")
    assert reached(way.host.run(["echo", "on"])).out == b"on\n"


def test_a_connection_that_is_cut_under_a_command_leaves_it_unknown(way: Way) -> None:
    found: list[CommandResult | Unreachable] = []
    (way.home / "begun").unlink(missing_ok=True)

    def ask() -> None:
        found.append(way.host.script("cat > begun; sleep 600", stdin=b"known to have begun", timeout=120))

    asked = threading.Thread(target=ask)
    asked.start()
    wait_for(lambda: (way.home / "begun").exists() and (way.home / "begun").read_bytes(), say="the command")
    way.cut()
    asked.join(120)
    assert isinstance(found[0], Unreachable), found
    assert found[0].kind == "dropped", found


def test_who_lets_nobody_in_is_unreachable(way: Way, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "PAUSE", 0.01)
    monkeypatch.setattr(_EachOnce, "_chosen", Host._chosen)  # which says why
    way.refuse()
    found = way.host.run(["true"])
    assert isinstance(found, Unreachable)
    assert found.kind == "refused", found
    assert "refused" in found.reason


def test_an_ssh_of_its_own_goes_only_where_the_key_is_kept(server: Sshd, tmp_path: Path) -> None:
    if server.process is None:
        server.start()
    known_hosts = tmp_path / "known_hosts"
    assert ssh_once.begin(server.worker("a"), known_hosts, "true") is None
    replace_key(known_hosts, "a", "ssh-ed25519 " + "A" * 68)
    assert ssh_once.begin(server.worker("a"), known_hosts, "echo > sent") is None
    assert not (server.home / "sent").exists()
